"""Trains the demo model from nothing on stories written by its grammar, and writes this directory.

    nice -n 15 python models/demo/train.py --output models/demo

One thread of a CPU is enough (README.md says how long it took). The same seed, versions and machine
give the same weights. Windows hold several documents one after the other and grow from phase to
phase, so that the model stays coherent far into its context.
"""

import argparse
import math
import random
import sys
import time
from dataclasses import dataclass

import torch
from tqdm import tqdm
from transformers import LlamaForCausalLM

from demo_model import (
    ASSISTANT, BOS, EOS, SYSTEM, TURN_END, USER, make_config, train_tokenizer, write_directory,
)
from stories import generate

CHAT_SHARE = 0.3
SYSTEM_SHARE = 0.3
SECOND_TURN_SHARE = 0.3
PEAK_LR = 3e-3
WARMUP_STEPS = 60


@dataclass(frozen=True)
class Phase:
    """`steps` optimiser steps, each on `batch` windows of `window` tokens."""

    window: int
    batch: int
    steps: int


PHASES = (Phase(256, 8, 1200), Phase(512, 4, 800), Phase(2048, 1, 300))


def write_document(rng):
    """One training document with its special tokens: a plain story, or a chat that asks for one."""
    if rng.random() >= CHAT_SHARE:
        return BOS + generate(rng)[0] + EOS
    text = BOS
    if rng.random() < SYSTEM_SHARE:
        text += SYSTEM + generate(rng, "instruction")[0] + TURN_END
    for _ in range(2 if rng.random() < SECOND_TURN_SHARE else 1):
        request, bindings, _ = generate(rng, "request")
        story, _, _ = generate(rng, "story", bindings)
        text += USER + request + TURN_END + ASSISTANT + story + TURN_END
    return text


class Corpus:
    """An endless stream of windows; each starts with a document's BOS and is cut at its length."""

    def __init__(self, tokenizer, seed):
        self.tokenizer = tokenizer
        self.rng = random.Random(seed)

    def window(self, length):
        """Token ids, `length` of them."""
        ids = []
        while len(ids) < length:
            document = write_document(self.rng)
            ids += self.tokenizer.encode(document, add_special_tokens=False).ids
        return ids[:length]

    def batch(self, size, length):
        """int64 [size, length]."""
        return torch.tensor([self.window(length) for _ in range(size)])


def make_optimizer(model):
    """AdamW; norms are not decayed."""
    matrices = [p for p in model.parameters() if p.ndim >= 2]
    vectors = [p for p in model.parameters() if p.ndim < 2]
    groups = [
        {"params": matrices, "weight_decay": 0.01}, {"params": vectors, "weight_decay": 0.0},
    ]
    return torch.optim.AdamW(groups, lr=PEAK_LR, betas=(0.9, 0.98))


def learning_rate_factor(step, total_steps):
    """Linear warm-up, then a cosine down to zero."""
    if step < WARMUP_STEPS:
        return (step + 1) / WARMUP_STEPS
    progress = (step - WARMUP_STEPS) / max(1, total_steps - WARMUP_STEPS)
    return 0.5 * (1.0 + math.cos(math.pi * progress))


@torch.no_grad()
def validation_loss(model, windows):
    """Mean nats per token over `windows` (int64 [n, length])."""
    return model(input_ids=windows, labels=windows, use_cache=False).loss.item()


def train_step(model, optimizer, batch):
    """One step on `batch`; returns its loss."""
    loss = model(input_ids=batch, labels=batch, use_cache=False).loss
    loss.backward()
    torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
    optimizer.step()
    optimizer.zero_grad(set_to_none=True)
    return loss.item()


def train(model, tokenizer, seed, phases, report):
    """Runs `phases`; calls report(step, training loss, validation loss) every 100 steps."""
    corpus = Corpus(tokenizer, seed)
    held_out = Corpus(tokenizer, seed + 1).batch(8, 512)
    optimizer = make_optimizer(model)
    total_steps = sum(phase.steps for phase in phases)
    schedule = torch.optim.lr_scheduler.LambdaLR(
        optimizer, lambda step: learning_rate_factor(step, total_steps)
    )
    plan = [phase for phase in phases for _ in range(phase.steps)]
    progress = tqdm(plan, unit="step", mininterval=2.0, file=sys.stderr)
    for step, phase in enumerate(progress, start=1):
        loss = train_step(model, optimizer, corpus.batch(phase.batch, phase.window))
        schedule.step()
        progress.set_postfix(window=phase.window, loss=f"{loss:.3f}", refresh=False)
        if step % 100 == 0 or step == total_steps:
            report(step, loss, validation_loss(model, held_out))


def main():
    arguments = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    arguments.add_argument("--output", required=True, help="directory to write the model to")
    arguments.add_argument("--seed", type=int, default=1)
    arguments.add_argument("--threads", type=int, default=1)
    arguments.add_argument("--scale", type=float, default=1.0, help="multiplies all step counts")
    options = arguments.parse_args()
    torch.set_num_threads(options.threads)
    torch.manual_seed(options.seed)
    phases = [Phase(p.window, p.batch, max(1, round(p.steps * options.scale))) for p in PHASES]

    tokenizer = train_tokenizer(options.seed)
    model = LlamaForCausalLM(make_config())
    started = time.monotonic()

    def report(step, loss, held_out_loss):
        minutes = (time.monotonic() - started) / 60
        tqdm.write(f"step {step}: loss {loss:.4f}, held out {held_out_loss:.4f}, {minutes:.1f} min")

    train(model, tokenizer, options.seed, phases, report)
    write_directory(options.output, model, tokenizer)


if __name__ == "__main__":
    main()
