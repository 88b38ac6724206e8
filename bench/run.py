"""Measures Lockstep against this machine's limits, in one run: tools/bench. Standard library only.

Prints JSON lines (one a figure: name, value, limit, ratio, goal) and a table at the end. Everything that is
compared is interleaved, since the memory bandwidth of shared machines drifts: a ratio is the median over
rounds of figures taken within seconds of each other.
"""
import argparse
import json
import os
import pathlib
import statistics
import struct
import subprocess
import sys
import tempfile
import threading
import time

ROOT = pathlib.Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))
from tests.harness import cluster  # noqa: E402  (starts the real binaries)

SHAPE = ROOT / "bench" / "shapes" / "llama-3.2-1b"
PROMPT_TOKENS = 512
DECODE_TOKENS = 24


class Report:
    """The figures, printed as they come and once more as a table."""

    def __init__(self):
        self.rows = []

    def add(self, name, value, unit, goal=None, ratio=None, limit=None, at_most=False):
        compared = value if ratio is None else ratio
        met = None if goal is None else (compared <= goal if at_most else compared >= goal)
        row = {"name": name, "value": round(value, 4), "unit": unit, "limit": limit, "ratio": ratio, "goal": goal,
               "met": met}
        self.rows.append(row)
        print(json.dumps(row), flush=True)

    def table(self):
        def cell(value):
            return "-" if value is None else f"{value:.3f}" if isinstance(value, float) else str(value)
        header = ["name", "value", "unit", "limit", "ratio", "goal", "met"]
        cells = [header] + [[cell(row[key]) for key in header] for row in self.rows]
        widths = [max(len(line[i]) for line in cells) for i in range(len(header))]
        return "\n".join("  ".join(text.ljust(width) for text, width in zip(line, widths)).rstrip() for line in cells)


def limits(*arguments):
    """Runs bench/limits_bench; returns its JSON lines."""
    result = subprocess.run([cluster.bin_dir() / "limits_bench", *map(str, arguments)], text=True, check=True,
                            stdout=subprocess.PIPE)
    return [json.loads(line) for line in result.stdout.splitlines()]


def cpu_list():
    return ",".join(map(str, sorted(os.sched_getaffinity(0))))


def read_bandwidth():
    return limits("--probe", f"--cpus={cpu_list()}")[0]["bytes_per_second"]


def product_limit_seconds(bandwidth):
    """The least time for all products of a prefill of the shape, head included, and who was fastest."""
    config = json.loads((SHAPE / "config.json").read_text())
    hidden, ffn, head_dim = config["hidden_size"], config["intermediate_size"], config["head_dim"]
    heads, kv_heads = config["num_attention_heads"], config["num_key_value_heads"]
    shapes = [((heads + 2 * kv_heads) * head_dim, hidden), (hidden, heads * head_dim), (2 * ffn, hidden), (hidden, ffn)]
    lines = limits(f"--cpus={cpu_list()}", f"--rows={PROMPT_TOKENS}",
                   "--shapes=" + ",".join(f"{n}x{k}" for n, k in shapes))
    fastest = {}
    for line in lines:
        key = (line["n"], line["k"])
        if key not in fastest or line["seconds"] < fastest[key]["seconds"]:
            fastest[key] = line
    layers = config["num_hidden_layers"] * sum(fastest[shape]["seconds"] for shape in shapes)
    # Only the last row of a prompt goes through the head: its weights are read once.
    head = config["vocab_size"] * hidden * 2 / bandwidth
    return layers + head, {f"{n}x{k}": fastest[n, k]["kind"] for n, k in shapes}


def prompt(seed):
    """Token ids that no other prompt of the run begins with."""
    return [(seed * 7919 + i * 104729) % 128000 for i in range(PROMPT_TOKENS)]


def timed_request(served, seed):
    """(prefill seconds, seconds a decoded token) by the server's own clock, queue time left out."""
    finish = served.generate(token_ids=prompt(seed), temperature=0, ignore_eos=True, max_tokens=DECODE_TOKENS)["finish"]
    prefill = (finish["first_token_us"] - finish["queue_us"]) * 1e-6
    decode = (finish["total_us"] - finish["first_token_us"]) * 1e-6 / (finish["completion_tokens"] - 1)
    return prefill, decode


def bench_tokens(report, rounds):
    """Decode and prefill at TP 1 and TP 2 against the limits; the clusters rest while others are measured."""
    flags = {"load_format": "dummy", "dtype": "bf16", "max_model_len": 1024, "max_num_seqs": 2}
    with cluster.Cluster(model=SHAPE, tp=1, **flags) as one, cluster.Cluster(model=SHAPE, tp=2, **flags) as two:
        weight_bytes = one.status()["workers"][0]["weight_bytes"]
        samples = []
        for seed in range(rounds + 1):
            sample = {"bandwidth": read_bandwidth()}
            sample["prefill_limit"], sample["fastest"] = product_limit_seconds(sample["bandwidth"])
            sample["prefill1"], sample["decode1"] = timed_request(one, 2 * seed)
            sample["bandwidth"] = max(sample["bandwidth"], read_bandwidth())
            sample["prefill2"], sample["decode2"] = timed_request(two, 2 * seed + 1)
            print(json.dumps({"round": seed, **sample}), flush=True)
            samples.append(sample)
    samples = samples[1:]  # the first one warms caches and pools up

    def median(function):
        return statistics.median(map(function, samples))

    bandwidth = median(lambda s: s["bandwidth"])
    report.add("read bandwidth", bandwidth * 1e-9, "GB/s")
    report.add("decode, TP 1", 1 / median(lambda s: s["decode1"]), "tokens/s", goal=0.90,
               limit=bandwidth / weight_bytes,
               ratio=median(lambda s: weight_bytes / s["bandwidth"] / s["decode1"]))
    report.add("prefill of 512, TP 1", PROMPT_TOKENS / median(lambda s: s["prefill1"]), "tokens/s", goal=0.95,
               limit=PROMPT_TOKENS / median(lambda s: s["prefill_limit"]),
               ratio=median(lambda s: s["prefill_limit"] / s["prefill1"]))
    report.add("decode, TP 2 to TP 1", 1 / median(lambda s: s["decode2"]), "tokens/s", goal=0.95,
               ratio=median(lambda s: s["decode1"] / s["decode2"]))
    report.add("prefill of 512, TP 2 to TP 1", PROMPT_TOKENS / median(lambda s: s["prefill2"]), "tokens/s", goal=0.95,
               ratio=median(lambda s: s["prefill1"] / s["prefill2"]))


def bench_all_reduce(report):
    for transport, goal in (("shm", 2.0), ("tcp", 40.0)):
        result = subprocess.run([cluster.bin_dir() / "collective_bench", "--ranks=2", f"--transport={transport}",
                                 "--bytes=8192"], text=True, check=True, stdout=subprocess.PIPE)
        line = json.loads(result.stdout.splitlines()[0])
        report.add(f"all-reduce of 8 KiB, 2 ranks, {transport}", line["median_us"], "us", goal=goal, at_most=True)


def write_checkpoint(directory):
    """A safetensors file of the shape with finite bf16 values, and its config."""
    config = json.loads((SHAPE / "config.json").read_text())
    hidden, ffn, head_dim = config["hidden_size"], config["intermediate_size"], config["head_dim"]
    kv = config["num_key_value_heads"] * head_dim
    shapes = {"model.embed_tokens.weight": [config["vocab_size"], hidden], "model.norm.weight": [hidden]}
    for layer in range(config["num_hidden_layers"]):
        base = f"model.layers.{layer}."
        for name, shape in {
                "self_attn.q_proj": [config["num_attention_heads"] * head_dim, hidden], "self_attn.k_proj": [kv, hidden],
                "self_attn.v_proj": [kv, hidden], "self_attn.o_proj": [hidden, config["num_attention_heads"] * head_dim],
                "mlp.gate_proj": [ffn, hidden], "mlp.up_proj": [ffn, hidden], "mlp.down_proj": [hidden, ffn],
                "input_layernorm": [hidden], "post_attention_layernorm": [hidden]}.items():
            shapes[f"{base}{name}.weight"] = shape
    header, offset = {}, 0
    for name, shape in shapes.items():
        length = 2 * shape[0] * (shape[1] if len(shape) == 2 else 1)
        header[name] = {"dtype": "BF16", "shape": shape, "data_offsets": [offset, offset + length]}
        offset += length
    text = json.dumps(header).encode()
    values = struct.pack("<4096H", *(0x3C00 + 0x8000 * (i % 2) + i % 256 for i in range(4096))) * 128
    with open(directory / "model.safetensors", "wb") as out:
        out.write(struct.pack("<Q", len(text)) + text)
        for begin in range(0, offset, len(values)):
            out.write(values[: offset - begin])
        out.flush()
        os.fsync(out.fileno())  # else its pages are still being written back while the ranks load
    (directory / "config.json").write_text(json.dumps(config))
    return offset


def own_memory(pid):
    """Anonymous and shared memory of a process in bytes; 0 once it is gone."""
    try:
        lines = pathlib.Path(f"/proc/{pid}/status").read_text().splitlines()
    except OSError:
        return 0
    return sum(int(line.split()[1]) * 1024 for line in lines if line.startswith(("RssAnon:", "RssShmem:")))


def children_named(name):
    pids = []
    for entry in pathlib.Path("/proc").glob("[0-9]*"):
        try:
            if (entry / "comm").read_text().strip() == name:
                pids.append(int(entry.name))
        except OSError:
            pass
    return pids


def load_once(directory, tp):
    """Starts and stops a cluster; (worst rate of a rank in bytes a second, worst excess of memory in bytes)."""
    before, peaks, done = set(children_named("workerd")), {}, threading.Event()

    def watch():
        while not done.wait(0.01):
            for pid in set(children_named("workerd")) - before:
                peaks[pid] = max(peaks.get(pid, 0), own_memory(pid))

    watcher = threading.Thread(target=watch)
    watcher.start()
    try:
        with cluster.Cluster(model=directory, dtype="bf16", tp=tp, max_model_len=1024, max_num_seqs=2,
                             skip_tokenizer_init=True) as served:
            workers = served.status()["workers"]
    finally:
        done.set()
        watcher.join()
    rate = min(worker["weight_bytes"] / (worker["load_us"] * 1e-6) for worker in workers)
    excess = max(peaks[worker["pid"]] - 1.15 * worker["weight_bytes"] - worker["kv_bytes"] for worker in workers)
    return rate, excess


def bench_load(report):
    """Loading from a warm page cache: rate and peak memory per rank, at TP 1 and TP 2.

    A virtual machine's host backs memory when it is first touched, which may take ten times as long as the load
    itself; so every plan loads once more than it is measured. The first load stands in the report without a goal.
    """
    with tempfile.TemporaryDirectory() as directory:
        directory = pathlib.Path(directory)
        write_checkpoint(directory)
        report.add("load rate per rank, TP 1, into memory new to the machine", load_once(directory, 1)[0] * 1e-9, "GB/s")
        for tp in (1, 2):
            loads = [load_once(directory, tp) for _ in range(3)]
            report.add(f"load rate per rank, TP {tp}", statistics.median(rate for rate, _ in loads) * 1e-9, "GB/s",
                       goal=1.0)
            report.add(f"peak memory above 1.15 x slice + KV, TP {tp}", max(excess for _, excess in loads) / 2**20,
                       "MiB", goal=300.0, at_most=True)


def bench_start(report):
    """From `up` to serving the demo model, TP 2 x PP 2."""
    seconds = []
    for _ in range(3):
        start = time.monotonic()
        with cluster.Cluster(tp=2, pp=2, nodes=2):
            seconds.append(time.monotonic() - start)
    report.add("up to serving, demo model, TP 2 x PP 2", statistics.median(seconds), "s", goal=2.0, at_most=True)


def processor():
    for line in pathlib.Path("/proc/cpuinfo").read_text().splitlines():
        if line.startswith("model name"):
            return line.split(":", 1)[1].strip()
    return "unknown"


def main():
    arguments = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    arguments.add_argument("--rounds", type=int, default=5)
    arguments.add_argument("--only", choices=["start", "all-reduce", "load", "tokens"])
    options = arguments.parse_args()
    parts = {"start": bench_start, "all-reduce": bench_all_reduce, "load": bench_load,
             "tokens": lambda report: bench_tokens(report, options.rounds)}
    report = Report()
    print(json.dumps({"processor": processor(), "cpus": len(os.sched_getaffinity(0))}), flush=True)
    for name, part in parts.items():
        if options.only in (None, name):
            print(f"bench: {name} ...", file=sys.stderr, flush=True)
            part(report)
    print(f"\n{processor()}, {len(os.sched_getaffinity(0))} CPUs\n{report.table()}")
    return 1 if any(row["met"] is False for row in report.rows) else 0


if __name__ == "__main__":
    sys.exit(main())
