"""Batched decode against the limits of the same batch size: `python3 bench/batch.py`. Standard library only.

A real cluster with the shape's weights decodes 1 to 32 requests at once (prompts of 64 tokens, 32 new ones), as
`coordinatorctl bench` measures it while all of them decode. The limit of a batch size is the larger of two times for
one step: reading all weights once, and oneDNN's products of the same shapes at so many rows, all layers and the head.
Both are measured right before each run. Beside it stands the ratio to the fastest products known, ours among them.
The binaries, limits_bench too, come from bin/, or from $LOCKSTEP_BIN.
"""
import argparse
import json
import pathlib
import statistics
import sys

ROOT = pathlib.Path(__file__).resolve().parents[1]
sys.path[:0] = [str(ROOT), str(ROOT / "bench")]
from run import SHAPE, Report, cpu_list, limits, processor, read_bandwidth  # noqa: E402
from tests.harness import cluster  # noqa: E402

GOAL = 0.90
PROMPT_TOKENS = 64
OUTPUT_TOKENS = 32


def products():
    """{(out features, in features): how many times a step computes it}."""
    config = json.loads((SHAPE / "config.json").read_text())
    hidden, ffn, head_dim = config["hidden_size"], config["intermediate_size"], config["head_dim"]
    heads, kv_heads = config["num_attention_heads"], config["num_key_value_heads"]
    layer = [((heads + 2 * kv_heads) * head_dim, hidden), (hidden, heads * head_dim), (2 * ffn, hidden), (hidden, ffn)]
    return {**dict.fromkeys(layer, config["num_hidden_layers"]), (config["vocab_size"], hidden): 1}


def probe(batch):
    """The read bandwidth now, and the seconds of one step's products: by oneDNN, and by whoever was fastest."""
    counts = products()
    lines = limits("--probe", f"--cpus={cpu_list()}", f"--rows={batch}",
                   "--shapes=" + ",".join(f"{n}x{k}" for n, k in counts))
    onednn, fastest = 0.0, 0.0
    for (n, k), count in counts.items():
        seconds = {line["kind"]: line["seconds"] for line in lines[1:] if (line["n"], line["k"]) == (n, k)}
        onednn += count * min(value for kind, value in seconds.items() if kind.startswith("onednn"))
        fastest += count * min(seconds.values())
    return {"bandwidth": lines[0]["bytes_per_second"], "onednn": onednn, "fastest": fastest}


def decode_rate(served, batch, seed):
    """Tokens a second of `batch` requests together, while all of them decode."""
    result = cluster.ctl("bench", "--json", f"--coordinator={served.address}", f"--concurrency={batch}",
                         f"--requests={batch}", f"--prompt-tokens={PROMPT_TOKENS}", f"--output-tokens={OUTPUT_TOKENS}",
                         "--ignore-eos", "--temperature=0", f"--seed={seed}", timeout=600)
    if result.returncode != 0:
        sys.exit(f"bench/batch.py: {result.stderr}{result.stdout}")
    window = json.loads(result.stdout)["decode_window"]
    if window is None:
        sys.exit(f"bench/batch.py: {batch} requests never decoded at once")
    return window["output_throughput"]


def measure(served, weight_bytes, batch, seed):
    """One run with the limits around it."""
    sample = {"batch": batch, **probe(batch)}
    sample["rate"] = decode_rate(served, batch, seed)
    sample["bandwidth"] = max(sample["bandwidth"], read_bandwidth())
    read = weight_bytes / sample["bandwidth"]
    sample["limit"] = batch / max(read, sample["onednn"])
    sample["strict_limit"] = batch / max(read, sample["fastest"])
    print(json.dumps(sample), flush=True)
    return sample


def report_batch(report, samples):
    """One row for each ratio of a batch size; returns the median rate."""
    def median(function):
        return statistics.median(map(function, samples))

    batch, rate = samples[0]["batch"], median(lambda s: s["rate"])
    report.add(f"decode of {batch} at once", rate, "tokens/s", goal=GOAL, limit=median(lambda s: s["limit"]),
               ratio=median(lambda s: s["rate"] / s["limit"]))
    report.add(f"decode of {batch} at once, to the fastest products", rate, "tokens/s",
               limit=median(lambda s: s["strict_limit"]), ratio=median(lambda s: s["rate"] / s["strict_limit"]))
    return rate


def main():
    arguments = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    arguments.add_argument("--rounds", type=int, default=3)
    arguments.add_argument("--batches", default="1,2,4,8,16,32", help="rising, with commas between them")
    arguments.add_argument("--tp", type=int, default=1)
    options = arguments.parse_args()
    batches = [int(batch) for batch in options.batches.split(",")]
    samples = {batch: [] for batch in batches}
    with cluster.Cluster(model=SHAPE, tp=options.tp, load_format="dummy", dtype="bf16", max_model_len=256,
                         max_num_seqs=max(batches)) as served:
        weight_bytes = sum(worker["weight_bytes"] for worker in served.status()["workers"])
        decode_rate(served, batches[-1], seed=0)  # warms caches and pools up
        for i in range(options.rounds):
            for batch in batches:
                samples[batch].append(measure(served, weight_bytes, batch, seed=100 * (i + 1) + batch))
    report = Report()
    rates = [report_batch(report, samples[batch]) for batch in batches]
    if len(rates) > 1:
        growth = min(later / earlier for earlier, later in zip(rates, rates[1:]))
        report.add("least growth of tokens/s from one batch size to the next", growth, "", goal=1.0)
    print(f"\n{processor()}, TP {options.tp}\n{report.table()}")
    return 1 if any(row["met"] is False for row in report.rows) else 0


if __name__ == "__main__":
    sys.exit(main())
