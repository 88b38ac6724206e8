"""Trains the demo model from nothing on stories written by its grammar, and writes this directory.

    nice -n 15 python models/demo/train.py --output models/demo
    nice -n 15 python models/demo/train.py --output models/demo --stage 2    # then --stage 3

One thread of a CPU is enough (README.md says how long it took). The same seed, versions and machine
give the same weights. Windows hold several documents one after the other and grow from phase to
phase, so that the model stays coherent far into its context.
"""

import argparse
import math
import sys
import time
from dataclasses import dataclass, replace

import torch
from tokenizers import Tokenizer
from torch.nn import functional
from tqdm import tqdm
from transformers import LlamaForCausalLM

from corpus import Corpus
from demo_model import make_config, train_tokenizer, write_directory

WARMUP_STEPS = 60
REPORT_STEPS = 100


@dataclass(frozen=True)
class Phase:
    """`steps` optimiser steps, each on `batch` windows of `window` tokens.

    chance_weight: weight in the loss of tokens that chance or habit decides; those that agreement
    decides weigh 1. Most of a story's information is chance that nothing can predict, and its noise
    hides the small gradient from which a model first learns to look names up: with equal weights
    400,000 tokens of stories taught it nothing of that, with 0.1 200,000 tokens of plots did.
    """

    window: int
    batch: int
    steps: int
    chance_weight: float = 1.0
    plots_only: bool = False


@dataclass(frozen=True)
class Stage:
    """Phases under one learning rate schedule."""

    peak_lr: float
    phases: tuple


# The first stage teaches stories. The second teaches long contexts: the model that it starts from is
# lost behind the longest window that it has seen. The third settles.
STAGES = {
    1: Stage(3e-3, (
        Phase(64, 16, 300, chance_weight=0.1, plots_only=True),
        Phase(128, 8, 5000, chance_weight=0.2),
        Phase(512, 3, 3000, chance_weight=0.3),
    )),
    2: Stage(3e-3, (
        Phase(128, 8, 400, chance_weight=0.3),
        Phase(2048, 1, 450),
    )),
    3: Stage(1.5e-3, (Phase(512, 3, 1100, chance_weight=0.5),)),
}


@torch.no_grad()
def prepare_attention(model):
    """Starts attention close to copying: keys like queries, and output the transpose of value.

    After Trockman and Kolter, "Mimetic Initialization of Self-Attention Layers", 2023.
    """
    config = model.config
    size = config.head_dim
    heads_per_kv_head = config.num_attention_heads // config.num_key_value_heads
    scale = config.hidden_size**-0.5
    for layer in model.model.layers:
        attention = layer.self_attn
        torch.nn.init.orthogonal_(attention.v_proj.weight)
        torch.nn.init.normal_(attention.k_proj.weight, std=scale)
        for head in range(config.num_attention_heads):
            first = head // heads_per_kv_head * size
            key = attention.k_proj.weight[first : first + size]
            value = attention.v_proj.weight[first : first + size]
            mine = slice(head * size, (head + 1) * size)
            attention.q_proj.weight[mine] = 0.7 * (key + scale * torch.randn_like(key))
            attention.o_proj.weight[:, mine] = 0.5 * value.T


def learning_rate_factor(step, total_steps):
    """Linear warm-up, then a cosine down to zero."""
    if step < WARMUP_STEPS:
        return (step + 1) / WARMUP_STEPS
    progress = (step - WARMUP_STEPS) / max(1, total_steps - WARMUP_STEPS)
    return 0.5 * (1.0 + math.cos(math.pi * progress))


def token_losses(model, ids):
    """Nats of every token but the first: float [batch, length - 1]."""
    logits = model(input_ids=ids, use_cache=False).logits[:, :-1]
    losses = functional.cross_entropy(
        logits.reshape(-1, logits.shape[-1]), ids[:, 1:].reshape(-1), reduction="none"
    )
    return losses.view(ids.shape[0], -1)


def train_step(model, optimizer, phase, ids, echoes, learned):
    """One step; returns the mean unweighted loss."""
    losses = token_losses(model, ids)
    weights = torch.where(echoes[:, 1:], 1.0, phase.chance_weight) * learned[:, 1:]
    ((losses * weights).sum() / weights.sum()).backward()
    torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
    optimizer.step()
    optimizer.zero_grad(set_to_none=True)
    return losses[learned[:, 1:]].mean().item()


@torch.no_grad()
def validate(model, ids, echoes, learned):
    """(mean loss of all learned tokens, mean loss of the echoes among them)."""
    losses = token_losses(model, ids)
    learned = learned[:, 1:]
    return losses[learned].mean().item(), losses[learned & echoes[:, 1:]].mean().item()


def train(model, corpus, held_out, stage, save):
    """Runs the phases of `stage`; calls save() after each."""
    optimizer = torch.optim.AdamW(
        model.parameters(), lr=stage.peak_lr, betas=(0.9, 0.98), weight_decay=0.01, fused=True
    )
    total_steps = sum(phase.steps for phase in stage.phases)
    schedule = torch.optim.lr_scheduler.LambdaLR(
        optimizer, lambda step: learning_rate_factor(step, total_steps)
    )
    started = time.monotonic()
    with tqdm(total=total_steps, unit="step", mininterval=2.0, file=sys.stderr) as progress:
        for phase in stage.phases:
            for _ in range(phase.steps):
                batch = corpus.batch(phase.batch, phase.window, phase.plots_only)
                loss = train_step(model, optimizer, phase, *batch)
                schedule.step()
                progress.set_postfix(window=phase.window, loss=f"{loss:.3f}", refresh=False)
                progress.update()
                if progress.n % REPORT_STEPS == 0 or progress.n == total_steps:
                    everything, echoes = validate(model, *held_out)
                    tqdm.write(
                        f"step {progress.n}: held out {everything:.4f}, echoes {echoes:.4f}, "
                        f"{(time.monotonic() - started) / 60:.1f} min, "
                        f"{time.process_time() / 60:.1f} CPU min"
                    )
            save()


def make_new(seed):
    """(tokenizer, untrained model)."""
    model = LlamaForCausalLM(make_config())
    prepare_attention(model)
    return train_tokenizer(seed), model


def load(directory):
    """(tokenizer, fp32 model) of an earlier stage."""
    tokenizer = Tokenizer.from_file(f"{directory}/tokenizer.json")
    return tokenizer, LlamaForCausalLM.from_pretrained(directory, dtype=torch.float32).train()


def main():
    arguments = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    arguments.add_argument("--output", required=True, help="directory to write the model to")
    arguments.add_argument("--stage", type=int, choices=sorted(STAGES), default=1,
                           help="1 starts from nothing, others from what is in --output")
    arguments.add_argument("--seed", type=int, default=1)
    arguments.add_argument("--threads", type=int, default=1)
    arguments.add_argument("--scale", type=float, default=1.0, help="multiplies all step counts")
    options = arguments.parse_args()
    torch.set_num_threads(options.threads)
    torch.manual_seed(options.seed)
    stage = STAGES[options.stage]
    stage = replace(stage, phases=tuple(
        replace(phase, steps=max(1, round(phase.steps * options.scale))) for phase in stage.phases
    ))

    tokenizer, model = load(options.output) if options.stage > 1 else make_new(options.seed)
    corpus = Corpus(tokenizer, f"{options.seed} stage {options.stage}")
    held_out = Corpus(tokenizer, f"{options.seed} held out").batch(8, 512)
    train(model, corpus, held_out, stage,
          save=lambda: write_directory(options.output, model, tokenizer))


if __name__ == "__main__":
    main()
