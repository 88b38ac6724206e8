"""Measures the demo model: how many of its sampled stories parse, and its loss beside the bound.

    python models/demo/measure.py models/demo

Samples at temperature 0.8 over the whole vocabulary with Transformers, in fp32 and in bf16, from
several kinds of prompts. README.md records what it printed.
"""

import argparse
import random

import torch
from tqdm import tqdm
from transformers import AutoTokenizer, LlamaForCausalLM

from stories import generate, parse, parse_reply

MAX_NEW_TOKENS = 220
TEMPERATURE = 0.8
LONG_PROMPT_TOKENS = 1600
OPENING = "Once upon a time"


@torch.no_grad()
def sample(model, tokenizer, prompts, options):
    """Continuations of `prompts` (lists of token ids), without special tokens, in batches."""
    texts = []
    for start in tqdm(range(0, len(prompts), options.batch), unit="batch", leave=False):
        batch = prompts[start : start + options.batch]
        longest = max(map(len, batch))
        pad = tokenizer.pad_token_id
        ids = torch.tensor([[pad] * (longest - len(p)) + p for p in batch])
        mask = torch.tensor([[0] * (longest - len(p)) + [1] * len(p) for p in batch])
        out = model.generate(
            ids, attention_mask=mask, do_sample=True, temperature=TEMPERATURE, top_k=0, top_p=1.0,
            max_new_tokens=MAX_NEW_TOKENS,
        )
        texts += tokenizer.batch_decode(out[:, longest:], skip_special_tokens=True)
    return texts


def cases(tokenizer, rng, count):
    """(name, prompts as token ids, verdict(index, continuation)) for each kind of prompt."""
    bos = [tokenizer.bos_token_id]
    yield "nothing but BOS", [bos] * count, lambda _, text: parse(text)
    opening = tokenizer(OPENING)["input_ids"]
    yield f'"{OPENING}"', [opening] * count, lambda _, text: parse(OPENING + text)

    requests = [generate(rng, "request").text for _ in range(count)]
    chats = [
        tokenizer.apply_chat_template(
            [{"role": "user", "content": request}], add_generation_prompt=True, return_dict=True
        )["input_ids"]
        for request in requests
    ]
    yield "a chat's request", chats, lambda i, text: parse_reply(requests[i], text)

    earlier = []
    while len(earlier) < LONG_PROMPT_TOKENS:
        earlier += tokenizer(generate(rng).text)["input_ids"] + [tokenizer.eos_token_id]
    long_prompts = [earlier + bos] * count
    yield f"{len(earlier)} tokens of stories, then BOS", long_prompts, lambda _, text: parse(text)


@torch.no_grad()
def loss_beside_bound(model, tokenizer, rng, count=300):
    """(nats per token over `count` new stories, nats per token of the choices that wrote them)."""
    total_loss = total_bound = tokens = 0
    for _ in range(count):
        story = generate(rng)
        ids = torch.tensor([tokenizer(story.text)["input_ids"] + [tokenizer.eos_token_id]])
        total_loss += model(input_ids=ids, labels=ids).loss.item() * (ids.shape[1] - 1)
        total_bound += story.nats
        tokens += ids.shape[1] - 1
    return total_loss / tokens, total_bound / tokens


def main():
    arguments = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    arguments.add_argument("model")
    arguments.add_argument("--count", type=int, default=200, help="stories per case")
    arguments.add_argument("--batch", type=int, default=50)
    arguments.add_argument("--seed", type=int, default=5)
    arguments.add_argument("--threads", type=int, default=1)
    arguments.add_argument("--show-failures", action="store_true")
    options = arguments.parse_args()
    torch.set_num_threads(options.threads)
    tokenizer = AutoTokenizer.from_pretrained(options.model)
    for dtype in (torch.float32, torch.bfloat16):
        torch.manual_seed(options.seed)
        model = LlamaForCausalLM.from_pretrained(options.model, dtype=dtype).eval()
        loss, bound = loss_beside_bound(model, tokenizer, random.Random(options.seed))
        print(f"{dtype}: {loss:.4f} nats per token, the grammar's choices {bound:.4f}", flush=True)
        for name, prompts, judge in cases(tokenizer, random.Random(options.seed), options.count):
            texts = sample(model, tokenizer, prompts, options)
            verdicts = [judge(i, text) for i, text in enumerate(texts)]
            parsed = sum(map(bool, verdicts))
            print(f"{dtype}, {name}: {parsed} of {len(verdicts)} parse", flush=True)
            for text, verdict in zip(texts, verdicts):
                if options.show_failures and not verdict:
                    print(f"  {verdict}\n    {text}")


if __name__ == "__main__":
    main()
