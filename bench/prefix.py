"""What the prefix cache is worth: `python3 bench/prefix.py`. Standard library only.

A prompt that shares its first 1,500 tokens with an earlier one must start in at most 0.15 of the time that the
earlier one took, and give the same tokens and log-probabilities, bit by bit, as a cluster without the cache.
"""
import argparse
import pathlib
import statistics
import sys

ROOT = pathlib.Path(__file__).resolve().parents[1]
sys.path[:0] = [str(ROOT), str(ROOT / "bench")]
from run import SHAPE, Report  # noqa: E402
from tests.harness import cluster  # noqa: E402

SHARED = 1500
OWN = 36
DECODE_TOKENS = 16


def tokens(seed, count):
    return [(seed * 7919 + i * 104729) % 128000 for i in range(count)]


def generate(client, prompt):
    return client.generate(token_ids=prompt, temperature=0, ignore_eos=True, logprobs=True, max_tokens=DECODE_TOKENS)


def start_seconds(answer):
    """From admission to the first token, by the server's clock."""
    return (answer["finish"]["first_token_us"] - answer["finish"]["queue_us"]) * 1e-6


def main():
    arguments = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    arguments.add_argument("--rounds", type=int, default=3)
    arguments.add_argument("--tp", type=int, default=1)
    arguments.add_argument("--pp", type=int, default=1)
    arguments.add_argument("--dtype", default="bf16")
    options = arguments.parse_args()
    flags = {"model": SHAPE, "load_format": "dummy", "dtype": options.dtype, "tp": options.tp, "pp": options.pp,
             "max_model_len": 2048, "max_num_seqs": 4}
    report = Report()
    first, second, second_answers = [], [], []
    with cluster.Cluster(**flags) as cached:
        for seed in range(options.rounds):
            shared = tokens(100 + seed, SHARED)
            first.append(start_seconds(generate(cached, shared + tokens(2 * seed, OWN))))
            second_answers.append(generate(cached, shared + tokens(2 * seed + 1, OWN)))
            second.append(start_seconds(second_answers[-1]))
    with cluster.Cluster(noenable_prefix_caching=True, **flags) as uncached:
        prompts = [tokens(100 + seed, SHARED) + tokens(2 * seed + 1, OWN) for seed in range(options.rounds)]
        reference = [generate(uncached, prompt) for prompt in prompts]
    equal = [(a["token_ids"], a["logprobs"]) == (b["token_ids"], b["logprobs"])
             for a, b in zip(second_answers, reference)]
    report.add(f"start of a prompt of {SHARED + OWN} tokens", statistics.median(first), "s")
    report.add(f"the same with {SHARED} of them shared", statistics.median(second), "s", goal=0.15, at_most=True,
               limit=statistics.median(first), ratio=statistics.median(b / a for a, b in zip(first, second)))
    report.add("prompt tokens found in the cache", second_answers[-1]["finish"]["cached_tokens"], "tokens",
               goal=SHARED // 16 * 16)
    report.add("outputs equal to the uncached run's, bit by bit", sum(equal) / len(equal), "", goal=1.0)
    print(report.table())
    return 1 if any(row["met"] is False for row in report.rows) else 0


if __name__ == "__main__":
    sys.exit(main())
