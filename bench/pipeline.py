"""What it is worth to have several batches in flight: `python3 bench/pipeline.py`. Standard library only.

PP 2 with one core per stage, against the same held to one batch in flight: prompts waiting, one long prompt, how long
the stages wait, and what running decodes notice while a long prompt enters.
"""
import argparse
import concurrent.futures
import json
import pathlib
import statistics
import subprocess
import sys
import time

ROOT = pathlib.Path(__file__).resolve().parents[1]
sys.path[:0] = [str(ROOT), str(ROOT / "bench")]
from run import SHAPE, Report  # noqa: E402
from tests.harness import cluster  # noqa: E402

STAGES = 2
BUDGET = 2048
CHUNK = BUDGET // (4 * STAGES)  # PrefillRowsPerBatch of coordinator/engine/scheduler.h
LONG = 4096
WAITING, EACH = 8, 512


def tokens(seed, count):
    """Ids that no other prompt of the run begins with."""
    return [(seed * 7919 + i * 104729) % 128000 for i in range(count)]


def prefill(client, seed, count):
    """The answer to a prompt of `count` tokens, and the seconds from admission to its token."""
    answer = client.generate(token_ids=tokens(seed, count), temperature=0, ignore_eos=True, max_tokens=1)
    return answer, (answer["finish"]["first_token_us"] - answer["finish"]["queue_us"]) * 1e-6


def prefill_waiting(client, seed):
    """Seconds for WAITING prompts of EACH tokens, all sent at once."""
    begin = time.monotonic()
    with concurrent.futures.ThreadPoolExecutor(WAITING) as pool:
        list(pool.map(lambda i: prefill(client, seed + i, EACH), range(WAITING)))
    return time.monotonic() - begin


def busy_ns(client):
    """By stage: time in steps, less the time waiting for peers."""
    return [worker["total_step_ns"] - worker["total_wait_ns"] for worker in client.status()["workers"]]


def layers(client):
    return [worker["layers"][1] - worker["layers"][0] for worker in client.status()["workers"]]


def predicted_wait_shares(weights, batches):
    """The share of the time that each stage waits when batches of equal size pass stages of these weights: while the
    pipeline fills and drains, and for the slowest stage."""
    total = sum(weights) + (batches - 1) * max(weights)
    return [1 - batches * weight / total for weight in weights]


def bench_prefill(report, rounds):
    flags = {"model": SHAPE, "load_format": "dummy", "dtype": "bf16", "pp": STAGES, "max_model_len": LONG + 512,
             "max_num_seqs": 16, "max_num_batched_tokens": BUDGET, "noenable_prefix_caching": True}
    samples = []
    with cluster.Cluster(**flags) as piped, cluster.Cluster(max_batches_in_flight=1, **flags) as held:
        for client in (piped, held):
            prefill(client, 1, CHUNK)
        for i in range(rounds):
            seed = 1000 * (i + 1)
            sample = {"held_waiting": prefill_waiting(held, seed), "piped_waiting": prefill_waiting(piped, seed)}
            before = busy_ns(piped)
            _, sample["piped_long"] = prefill(piped, seed + 100, LONG)
            sample["wait_shares"] = [1 - (after - earlier) * 1e-9 / sample["piped_long"]
                                     for earlier, after in zip(before, busy_ns(piped))]
            _, sample["held_long"] = prefill(held, seed + 100, LONG)
            print(json.dumps({"round": i, **sample}), flush=True)
            samples.append(sample)
        predicted = predicted_wait_shares(layers(piped), LONG // CHUNK)
        bench_decodes(report, piped)

    def median(name):
        return statistics.median(sample[name] for sample in samples)

    for name, goal, count, text in (("waiting", 1.7, WAITING * EACH, f"{WAITING} prompts of {EACH}"),
                                    ("long", 1.5, LONG, f"a prompt of {LONG}")):
        ratio = statistics.median(sample[f"held_{name}"] / sample[f"piped_{name}"] for sample in samples)
        report.add(f"prefill of {text}, PP {STAGES}, to one batch in flight", count / median(f"piped_{name}"),
                   "tokens/s", goal=goal, limit=count / median(f"held_{name}"), ratio=ratio)
    for stage in range(STAGES):
        waited = statistics.median(sample["wait_shares"][stage] for sample in samples)
        report.add(f"share of the time that stage {stage} waits, {LONG} tokens, off what layers predict",
                   waited, "", goal=0.05, at_most=True, limit=predicted[stage], ratio=abs(waited - predicted[stage]))


def stream(client, seed, count, arrivals):
    """Reads a stream of `count` tokens, noting when each came."""
    process = subprocess.Popen(
        [cluster.bin_dir() / "coordinatorctl", "generate", "--json", "--coordinator", client.address,
         "--temperature=0", "--ignore-eos", f"--max-tokens={count}",
         "--token-ids=" + ",".join(map(str, tokens(seed, 16)))], text=True, stdout=subprocess.PIPE)
    for line in process.stdout:
        arrivals += [time.monotonic()] * len(json.loads(line)["token_ids"])
    process.wait()


def bench_decodes(report, client):
    """Inter-token time of running decodes while a long prompt enters, against a step of the budget."""
    step = statistics.median(prefill(client, 7 + i, CHUNK)[1] for i in range(3))
    arrivals = [[] for _ in range(4)]
    with concurrent.futures.ThreadPoolExecutor(len(arrivals)) as pool:
        streams = [pool.submit(stream, client, 50 + i, 150, times) for i, times in enumerate(arrivals)]
        cluster.wait_until(lambda: all(len(times) > 4 for times in arrivals), what="running decodes")
        begin = time.monotonic()
        prefill(client, 77, LONG)
        end = time.monotonic()
        for running in streams:
            running.result()
    gaps = sorted(b - a for times in arrivals for a, b in zip(times, times[1:]) if a >= begin and b <= end)
    worst = gaps[min(len(gaps) - 1, int(len(gaps) * 0.99))]
    report.add(f"p99 inter-token time while a prompt of {LONG} enters, to a step of {CHUNK} rows", worst * 1e3, "ms",
               goal=2.0, at_most=True, limit=step * 1e3, ratio=worst / step)
    report.add("inter-token times in that sample", len(gaps), "")


def main():
    arguments = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    arguments.add_argument("--rounds", type=int, default=2)
    options = arguments.parse_args()
    report = Report()
    bench_prefill(report, options.rounds)
    print(report.table())
    return 1 if any(row["met"] is False for row in report.rows) else 0


if __name__ == "__main__":
    sys.exit(main())
