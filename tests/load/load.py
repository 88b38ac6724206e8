"""Many streams at once, some of them cancelled, overdue or read slowly: none lost, none mixed up, nothing leaked.

    LOCKSTEP_BIN=bin PYTHONPATH=. python3 tests/load/load.py --streams=1000 --requests=5000

Every request is one of a few hundred kinds whose output was taken alone before; fp32, so that it must be
the same to the letter. Prints what happened as JSON; the exit status says whether all was well.
"""
import argparse
import asyncio
import collections
import json
import os
import pathlib
import random
import resource
import sys
import time

from tests.harness import cluster
from tests.load.sse_client import Exchange, complete

WORDS = "the owl and a boat went out to see one old tree by the sea where it was dark and cold".split()
# Of client behaviour, with weights.
BEHAVIOURS = {"plain": 55, "whole": 10, "slow": 15, "cancel": 12, "deadline": 8}
SLOW_RECEIVE_BYTES = 2048
# The process's own, between two readings of the same load.
ALLOWED_GROWTH_MIB = 64


def make_kinds(count, seed):
    """Bodies of requests, all different and each with a seed of its own."""
    draw = random.Random(seed)
    kinds = []
    for number in range(count):
        body = {"prompt": " ".join(draw.choices(WORDS, k=draw.randint(1, 60))), "max_tokens": draw.randint(1, 48),
                "temperature": draw.choice([0, 0.7, 1]), "seed": number, "n": draw.choice([1, 1, 1, 2])}
        if draw.random() < 0.3:
            body["stop"] = [draw.choice(WORDS), "."]
        if draw.random() < 0.2:
            body["logprobs"] = draw.randint(0, 3)
        if draw.random() < 0.3:
            body["ignore_eos"] = True
        kinds.append(body)
    return kinds


class Process:
    """What the kernel says of a process."""

    def __init__(self, pid):
        self.path = pathlib.Path(f"/proc/{pid}")

    def resident_mib(self):
        line = next(line for line in (self.path / "status").read_text().splitlines() if line.startswith("VmRSS"))
        return int(line.split()[1]) / 1024

    def open_files(self):
        return len(os.listdir(self.path / "fd"))


def coordinator_of(served):
    """The coordinatord that `coordinatorctl up` has started."""
    children = pathlib.Path(f"/proc/{served.process.pid}/task/{served.process.pid}/children").read_text().split()
    return Process(next(pid for pid in children
                        if pathlib.Path(f"/proc/{pid}/comm").read_text().startswith("coordinatord")))


class Load:
    """Runs `requests`, about `streams` of them at once, and compares what comes with what is expected."""

    def __init__(self, address, kinds, expected, seed):
        self.address, self.kinds, self.expected = address, kinds, expected
        self.random = random.Random(seed)
        self.counts = collections.Counter()
        self.wrong = []
        self.open, self.most_open = 0, 0

    async def run(self, streams, requests):
        self.left = requests
        # Some of the connections do not stream.
        await asyncio.gather(*(self._connection() for _ in range(streams * 5 // 4)))

    async def _connection(self):
        while self.left > 0:
            self.left -= 1
            number = self.random.randrange(len(self.kinds))
            behaviour = self.random.choices(list(BEHAVIOURS), BEHAVIOURS.values())[0]
            try:
                await getattr(self, "_" + behaviour)(number)
            except Exception as error:  # whatever it is, it counts as a lost request
                self.wrong.append(f"{behaviour} {number}: {type(error).__name__} {error}")
            self.counts[behaviour] += 1

    async def _start(self, number, **options):
        exchange = await Exchange.start(self.address, {**self.kinds[number], "stream": True}, **options)
        await exchange.head()
        return exchange

    def _check(self, number, reply):
        if reply.status != 200 or not reply.done or reply.error or reply.outcome() != self.expected[number]:
            self.wrong.append(f"{number}: {reply} instead of {self.expected[number]}")
        else:
            self.counts["equal"] += 1

    async def _read(self, exchange, pause=0.0, until=None):
        """Reads to the end, or until so many pieces have come; counts the stream as open meanwhile."""
        self.open += 1
        self.most_open = max(self.most_open, self.open)
        try:
            pieces = 0
            async for _ in exchange.events():
                pieces += 1
                if until is not None and pieces >= until:
                    return
                if pause:
                    await asyncio.sleep(pause)
        finally:
            self.open -= 1
            exchange.close()

    async def _plain(self, number):
        exchange = await self._start(number)
        await self._read(exchange)
        self._check(number, exchange.reply)

    async def _whole(self, number):
        self._check(number, await complete(self.address, self.kinds[number]))

    async def _slow(self, number):
        exchange = await self._start(number, receive_buffer=SLOW_RECEIVE_BYTES)
        await self._read(exchange, pause=0.05)
        self._check(number, exchange.reply)

    async def _cancel(self, number):
        exchange = await self._start(number)
        await self._read(exchange, until=self.random.randint(1, 10))

    async def _deadline(self, number):
        exchange = await self._start(number)
        try:
            await asyncio.wait_for(self._read(exchange), self.random.uniform(0.01, 1.0))
        except asyncio.TimeoutError:
            self.counts["overdue"] += 1
        else:
            self._check(number, exchange.reply)


async def outputs_alone(address, kinds):
    """Each kind's output with nobody else there."""
    return [(await complete(address, kind)).outcome() for kind in kinds]


def nothing_left(served):
    status = served.status()
    return (status["running_requests"], status["waiting_requests"], status["kv_blocks_used"]) == (0, 0, 0)


def run_load(streams, requests, kinds=200, seed=1, **flags):
    """The whole exercise on a cluster of its own; a dict of figures, with what went wrong in "wrong"."""
    flags = {"dtype": "fp32", "max_num_seqs": 256, "max_queue": max(streams, 1) * 2, **flags}
    with cluster.Cluster(http="127.0.0.1:0", **flags) as served:
        bodies = make_kinds(kinds, seed)
        expected = asyncio.run(outputs_alone(served.http_address, bodies))
        process = coordinator_of(served)
        files = process.open_files()
        figures = {"resident_mib": [round(process.resident_mib())], "wrong": []}
        # The same load twice: what the first leaves behind, the second must not leave again.
        for half in range(2):
            load = Load(served.http_address, bodies, expected, seed + half)
            start = time.monotonic()
            asyncio.run(load.run(streams, requests // 2))
            figures[f"seconds_{half}"] = round(time.monotonic() - start, 1)
            figures[f"most_open_{half}"] = load.most_open
            figures[f"counts_{half}"] = dict(load.counts)
            figures["wrong"] += load.wrong
            try:
                cluster.wait_until(lambda: nothing_left(served), seconds=30, what="an empty engine")
                cluster.wait_until(lambda: process.open_files() <= files + 2, seconds=30, what="closed connections")
            except TimeoutError as error:
                figures["wrong"].append(f"{error}: {served.status()}, {process.open_files()} files")
            figures["resident_mib"].append(round(process.resident_mib()))
        if figures["resident_mib"][2] - figures["resident_mib"][1] > ALLOWED_GROWTH_MIB:
            figures["wrong"].append(f"memory grows: {figures['resident_mib']} MiB")
        figures["epochs"] = served.status()["epoch"]
    return figures


async def burst(address, body, count):
    """So many at the same moment: (replies, seconds until each head came)."""
    async def one():
        start = time.monotonic()
        exchange = await Exchange.start(address, body)
        await exchange.head()
        seconds = time.monotonic() - start
        async for _ in exchange.events():
            pass
        exchange.close()
        return exchange.reply, seconds
    return await asyncio.gather(*(one() for _ in range(count)))


def run_burst(count, max_queue, max_num_seqs, **flags):
    """More than the queue holds: each is either served in full or refused, and no more refused than must be."""
    with cluster.Cluster(http="127.0.0.1:0", dtype="fp32", max_queue=max_queue, max_num_seqs=max_num_seqs,
                         **flags) as served:
        body = {"prompt": "Once", "max_tokens": 150, "temperature": 0, "ignore_eos": True, "stream": True}
        alone = asyncio.run(complete(served.http_address, body)).outcome()
        answers = asyncio.run(burst(served.http_address, body, count))
        refused = [(reply, seconds) for reply, seconds in answers if reply.status == 429]
        right = sum(reply.status == 200 and reply.outcome() == alone for reply, _ in answers)
        wrong = [str(reply) for reply, _ in refused if reply.headers.get("retry-after") != "1"]
        if right + len(refused) != count:
            wrong.append(f"{right} served and {len(refused)} refused are not {count}")
        if not count - right <= count - max_queue:
            wrong.append(f"{len(refused)} of {count} refused, though {max_queue} may wait")
        cluster.wait_until(lambda: nothing_left(served), seconds=30, what="an empty engine")
        return {"served": right, "refused": len(refused), "wrong": wrong,
                "slowest_refusal_s": round(max((seconds for _, seconds in refused), default=0), 3)}


def allow_many_files():
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (min(hard, max(soft, 65536)), hard))


def main():
    allow_many_files()
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--streams", type=int, default=1000)
    parser.add_argument("--requests", type=int, default=5000)
    parser.add_argument("--kinds", type=int, default=200)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--tp", type=int, default=1)
    arguments = parser.parse_args()
    figures = {"load": run_load(arguments.streams, arguments.requests, arguments.kinds, arguments.seed,
                                tp=arguments.tp),
               "burst": run_burst(count=arguments.streams, max_queue=arguments.streams // 4, max_num_seqs=64,
                                  tp=arguments.tp)}
    print(json.dumps(figures, indent=1))
    sys.exit(1 if figures["load"]["wrong"] or figures["burst"]["wrong"] else 0)


if __name__ == "__main__":
    main()
