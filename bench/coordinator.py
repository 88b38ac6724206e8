"""What the coordinator delivers in front of an instant worker, pinned to one core: `python3 bench/coordinator.py`.

A real coordinatord with the demo model's tokenizer runs on one CPU; bench/coordinator_bench, which plays the worker
and the clients (256 streams on 256 channels), on another. The worker is paced, so that a token that the coordinator
cannot deliver in time shows as a message of more than one token and in the latency. Standard library only; the
binaries come from bin/, or from $LOCKSTEP_BIN.
"""
import argparse
import json
import os
import pathlib
import subprocess
import sys
import tempfile
import time

ROOT = pathlib.Path(__file__).resolve().parents[1]
sys.path[:0] = [str(ROOT), str(ROOT / "bench")]
from run import Report  # noqa: E402
from tests.harness import cluster  # noqa: E402

GOAL = 80000  # tokens a second
STREAMS = 256


def start_coordinator(cpu, port_file):
    """coordinatord on one CPU, listening."""
    process = subprocess.Popen(
        [cluster.bin_dir() / "coordinatord", f"--model={cluster.DEMO_MODEL}", "--listen=127.0.0.1:0",
         f"--port-file={port_file}", f"--max-num-seqs={STREAMS}"],
        stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
        preexec_fn=lambda: os.sched_setaffinity(0, {cpu}))
    cluster.wait_until(port_file.exists, what="coordinatord")
    return process, f"127.0.0.1:{port_file.read_text().split()[0]}"


def cpu_seconds(pid):
    fields = pathlib.Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def resident_bytes(pid):
    lines = pathlib.Path(f"/proc/{pid}/status").read_text().splitlines()
    return sum(int(line.split()[1]) * 1024 for line in lines if line.startswith("VmHWM:"))


def measure(cpus, pace, seconds):
    """One run at a pace (0: none): what coordinator_bench prints, and the coordinator's CPU share and memory."""
    with tempfile.TemporaryDirectory() as directory:
        process, address = start_coordinator(cpus[0], pathlib.Path(directory) / "port")
        try:
            before, begin = cpu_seconds(process.pid), time.monotonic()
            result = subprocess.run(
                [cluster.bin_dir() / "coordinator_bench", f"--coordinator={address}", f"--streams={STREAMS}",
                 f"--tokens_per_second={pace}", f"--seconds={seconds}"], text=True, check=True,
                stdout=subprocess.PIPE, timeout=seconds + 60,
                preexec_fn=lambda: os.sched_setaffinity(0, {cpus[1]}))
            line = json.loads(result.stdout)
            line["cpu_share"] = (cpu_seconds(process.pid) - before) / (time.monotonic() - begin)
            line["resident_bytes"] = resident_bytes(process.pid)
            return line
        finally:
            process.terminate()
            process.wait()


def main():
    arguments = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    arguments.add_argument("--seconds", type=float, default=5)
    arguments.add_argument("--paces", type=float, nargs="+", default=[20000, 84000, 100000, 0],
                           help="tokens a second that the worker offers; 0: it answers at once")
    options = arguments.parse_args()
    cpus = sorted(os.sched_getaffinity(0))
    if len(cpus) < 2:
        sys.exit("bench/coordinator.py needs two CPUs: one for the coordinator, one for its worker and clients")
    report = Report()
    best = 0.0
    for pace in options.paces:
        line = measure(cpus, pace, options.seconds)
        name = f"paced at {pace:.0f}" if pace else "unpaced"
        print(json.dumps({"pace": pace, **line}), flush=True)
        report.add(f"tokens delivered, {name}", line["tokens_per_second"], "tokens/s")
        report.add(f"messages per token, {name}", line["messages_per_token"], "")
        report.add(f"p50 delivery latency, {name}", line["latency_us"]["p50"], "us")
        report.add(f"p99 delivery latency, {name}", line["latency_us"]["p99"], "us")
        report.add(f"coordinator's share of its core, {name}", line["cpu_share"], "")
        report.add(f"coordinator's peak memory, {name}", line["resident_bytes"] / 2**20, "MiB")
        # A token that had to wait for the one before it to be written shares its message.
        if line["messages_per_token"] >= 0.999 and not line["failures"]:
            best = max(best, line["tokens_per_second"])
    report.add(f"most tokens delivered one message each, {STREAMS} streams and channels", best, "tokens/s",
               goal=1.0, limit=GOAL, ratio=best / GOAL)
    print(report.table())
    return 1 if any(row["met"] is False for row in report.rows) else 0


if __name__ == "__main__":
    sys.exit(main())
