"""Makes the parity fixtures: what Hugging Face Transformers says, for our tests to agree with.

    python tests/parity/make_fixtures.py            # from the repository's root, all of them
    python tests/parity/make_fixtures.py demo       # only this one

Everything is computed by LlamaForCausalLM in fp32 with eager attention on one CPU thread. Two small
models of random weights are made beside the fixtures; fixtures/README.md says what is in a fixture.
"""

import argparse
import hashlib
import json
import random
import sys
from importlib import metadata
from pathlib import Path

import torch
from tokenizers import Tokenizer
from transformers import LlamaConfig, LlamaForCausalLM

ROOT = Path(__file__).resolve().parents[2]
FIXTURES = ROOT / "tests" / "parity" / "fixtures"
REQUIREMENTS = Path(__file__).with_name("requirements.txt")

GREEDY_TOKENS = 64
TOP = 5

# Real files exist in both forms: most of the published checkpoints have the older keys, whatever
# Transformers 5 saves has the newer ones.
RANDOM_MODELS = {
    "llama_gqa_tied_rope3": {
        "seed": 11,
        "older_keys": True,
        "config": {
            "vocab_size": 512,
            "hidden_size": 64,
            "intermediate_size": 96,
            "num_hidden_layers": 4,
            "num_attention_heads": 8,
            "num_key_value_heads": 2,
            "head_dim": 16,
            "max_position_embeddings": 512,
            "rms_norm_eps": 1e-6,
            "tie_word_embeddings": True,
            "rope_parameters": {
                "rope_type": "llama3",
                "rope_theta": 500000.0,
                "factor": 8.0,
                "low_freq_factor": 1.0,
                "high_freq_factor": 4.0,
                "original_max_position_embeddings": 64,
            },
        },
    },
    "llama_mha_untied": {
        "seed": 12,
        "older_keys": False,
        "config": {
            "vocab_size": 1000,
            "hidden_size": 48,
            "intermediate_size": 72,
            "num_hidden_layers": 2,
            "num_attention_heads": 8,
            "num_key_value_heads": 8,
            "head_dim": 32,
            "max_position_embeddings": 512,
            "rms_norm_eps": 1e-5,
            "tie_word_embeddings": False,
            "rope_parameters": {"rope_type": "default", "rope_theta": 10000.0},
        },
    },
}

# From a few tokens to about 200; the last has bytes that no story has.
DEMO_PROMPTS = (
    "<|begin_of_text|>Once upon a time",
    "<|begin_of_text|>There once was a shy fox named Mia who lived near the sea. Every evening, "
    "she liked to watch the boats. Mia often played with a goat named Otto.",
    "<|begin_of_text|><|user|>Tell me a story about an owl.<|end_of_turn|><|assistant|>",
    "<|begin_of_text|>Once upon a time, a curious otter named Finn lived beside a quiet river. "
    "What he liked best was picking berries in the afternoon. He had a good friend, a duck named "
    "Clara. One day, Finn wanted to build a raft. He worked very hard, but the raft broke. Clara "
    "showed him how to use a plank. They worked until the raft was ready. Finn was glad with the "
    "new raft. Then the otter and the duck walked home to the river.<|end_of_text|>"
    "<|begin_of_text|>Long ago, there was a mouse who lived behind the mill. She was very old, and "
    "her name was Ruby. Every morning, she liked to count the clouds. Her best friend was Theo, a "
    "goat. On a warm day, Theo was stuck in the mud. Ruby ran home to the mill and came back with",
    "<|begin_of_text|>Größe 3.14, snow ☃ and\n\ttabs {}!",
)
RANDOM_PROMPT_LENGTHS = (5, 33, 90, 200)


def check_versions():
    """Refuses to run with other versions than the pinned ones: fixtures must be reproducible."""
    for line in REQUIREMENTS.read_text(encoding="utf-8").splitlines():
        if line.startswith("#"):
            continue
        package, wanted = line.split("==")
        found = metadata.version(package)
        if found.split("+")[0] != wanted:
            sys.exit(f"{package} {found} is installed, {REQUIREMENTS.name} pins {wanted}")


def fill_weights(model, seed):
    """Random weights under which a mistake anywhere shows in the log-probabilities.

    Matrices keep the scale of what they multiply (attention scores have a spread of about 2), the
    head spreads logits by about 2, and norm weights lie apart from 1. Embeddings of their own are
    so small that the epsilon of the first norm matters.
    """
    tied = model.config.tie_word_embeddings
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            noise = torch.randn(parameter.shape, generator=generator)
            if parameter.ndim == 1:
                parameter.copy_(1.0 + 0.3 * noise)
            elif "embed_tokens" in name and not tied:
                parameter.copy_(noise * 0.02)
            elif "embed_tokens" in name or "lm_head" in name:
                parameter.copy_(noise * 2.0 * parameter.shape[1] ** -0.5)
            elif "q_proj" in name or "k_proj" in name:
                parameter.copy_(noise * 1.4 * parameter.shape[1] ** -0.5)
            else:
                parameter.copy_(noise * parameter.shape[1] ** -0.5)


def rewrite_with_older_keys(path):
    """config.json as Transformers wrote it before version 5."""
    config = json.loads(path.read_text(encoding="utf-8"))
    rope = config.pop("rope_parameters")
    config["rope_theta"] = rope.pop("rope_theta")
    config["rope_scaling"] = None if rope["rope_type"] == "default" else rope
    config["torch_dtype"] = config.pop("dtype")
    path.write_text(json.dumps(config, indent=2, sort_keys=True) + "\n", encoding="utf-8")


def make_random_model(name):
    """Writes fixtures/<name>/config.json and model.safetensors (fp32)."""
    recipe = RANDOM_MODELS[name]
    config = LlamaConfig(**recipe["config"], bos_token_id=0, eos_token_id=1, dtype="float32")
    model = LlamaForCausalLM(config)
    fill_weights(model, recipe["seed"])
    directory = FIXTURES / name
    model.save_pretrained(directory)
    (directory / "generation_config.json").unlink(missing_ok=True)
    (directory / "model.safetensors").chmod(0o644)
    if recipe["older_keys"]:
        rewrite_with_older_keys(directory / "config.json")


def random_prompts(name):
    """Token ids, drawn evenly from the whole vocabulary."""
    rng = random.Random(RANDOM_MODELS[name]["seed"])
    vocab_size = RANDOM_MODELS[name]["config"]["vocab_size"]
    return [[rng.randrange(vocab_size) for _ in range(n)] for n in RANDOM_PROMPT_LENGTHS]


def demo_prompts(directory):
    tokenizer = Tokenizer.from_file(str(directory / "tokenizer.json"))
    return [tokenizer.encode(text, add_special_tokens=False).ids for text in DEMO_PROMPTS]


@torch.no_grad()
def logits_of(model, token_ids):
    """float64 [tokens, vocab]; the forward pass itself is fp32."""
    return model(input_ids=torch.tensor([token_ids]), use_cache=False).logits[0].double()


def describe_greedy(model, token_ids):
    """GREEDY_TOKENS tokens after the prompt, end tokens ignored, and best minus second logit."""
    sequence, margins = list(token_ids), []
    for _ in range(GREEDY_TOKENS):
        top = torch.topk(logits_of(model, sequence)[-1], 2)
        sequence.append(int(top.indices[0]))
        margins.append(round((top.values[0] - top.values[1]).item(), 6))
    return sequence[len(token_ids) :], margins


def describe_prompt(model, token_ids):
    """One entry of a fixture's `prompts`."""
    logprobs = torch.log_softmax(logits_of(model, token_ids), dim=-1)
    top = torch.topk(logprobs[-1], TOP)
    greedy, margins = describe_greedy(model, token_ids)
    return {
        "token_ids": token_ids,
        "logprobs": [round(logprobs[i - 1, token_ids[i]].item(), 6)
                     for i in range(1, len(token_ids))],
        "top": [[i, round(p, 6)] for i, p in zip(top.indices.tolist(), top.values.tolist())],
        "greedy": greedy,
        "greedy_margins": margins,
    }


def make_fixture(name, directory, prompts):
    """Writes fixtures/<name>.json from the model in `directory`."""
    model = LlamaForCausalLM.from_pretrained(
        directory, dtype=torch.float32, attn_implementation="eager"
    ).eval()
    fixture = {
        "model": str(directory.relative_to(ROOT)),
        "model_sha256": hashlib.sha256((directory / "model.safetensors").read_bytes()).hexdigest(),
        "dtype": "fp32",
        "transformers": metadata.version("transformers"),
        "torch": metadata.version("torch").split("+")[0],
        "prompts": [describe_prompt(model, token_ids) for token_ids in prompts],
    }
    text = json.dumps(fixture, ensure_ascii=True).replace('{"token_ids"', '\n{"token_ids"')
    (FIXTURES / f"{name}.json").write_text(text + "\n", encoding="utf-8")
    print(f"{name}: {[len(prompt) for prompt in prompts]} tokens")


def main():
    arguments = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    names = ["demo", *RANDOM_MODELS]
    arguments.add_argument("names", nargs="*", help=f"of {', '.join(names)}; none: all")
    chosen = arguments.parse_args().names or names
    if unknown := set(chosen) - set(names):
        sys.exit(f"no fixture {', '.join(sorted(unknown))}; there are {', '.join(names)}")
    check_versions()
    torch.set_num_threads(1)
    for name in chosen:
        if name == "demo":
            directory = ROOT / "models" / "demo"
            make_fixture(name, directory, demo_prompts(directory))
        else:
            make_random_model(name)
            make_fixture(name, FIXTURES / name, random_prompts(name))


if __name__ == "__main__":
    main()
