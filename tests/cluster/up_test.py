"""`coordinatorctl up` as a person uses it: quick to serve, watched over, stopped by Ctrl-C without a trace."""
import os
import pathlib
import time
import unittest

from tests.harness import cluster, runner


def shared_memory_files():
    return {name for name in os.listdir("/dev/shm") if name.startswith("lockstep")}


class UpTest(unittest.TestCase):
    def test_ctrl_c_ends_every_process_with_status_0_and_leaves_no_segment(self):
        with cluster.Cluster(tp=2) as served:
            served.generate("Once", max_tokens=5)
            pids = list(served.worker_pids().values())
            during = shared_memory_files()
            self.assertEqual(served.stop(), 0)
        for pid in pids:
            cluster.wait_until(lambda: not pathlib.Path(f"/proc/{pid}").exists(), what=f"end of worker {pid}")
        # The nonce that names this machine's shared memory stays; segments were unlinked at once.
        self.assertEqual(shared_memory_files(), during)

    def test_killed_worker_is_started_again_and_the_cluster_serves_on(self):
        with cluster.Cluster(tp=2) as served:
            before = served.status()
            os.kill(served.worker_pids()[1], 9)
            after = cluster.wait_until(
                lambda: (s := served.serving()) and s["epoch"] > before["epoch"] and s, what="a later epoch")
            self.assertEqual(after["workers"][0]["pid"], before["workers"][0]["pid"], "rank 0 must survive")
            self.assertTrue(served.generate("Once", max_tokens=5, ignore_eos=True)["token_ids"])

    def test_demo_model_serves_soon(self):
        # The goal is 2 s (bench/README.md has the figure); this bound only catches a lost minute.
        start = time.monotonic()
        with cluster.Cluster(tp=2, pp=2):
            self.assertLess(time.monotonic() - start, 60)

    def test_status_without_a_coordinator_names_the_address_and_what_to_do(self):
        result = cluster.ctl("status", "--coordinator=127.0.0.1:1")
        self.assertEqual(result.returncode, 1)
        self.assertIn("127.0.0.1:1", result.stderr)
        self.assertIn("coordinatorctl up", result.stderr)

    def test_unknown_flag_is_refused_by_its_name(self):
        result = cluster.ctl("up", "--modle=x")
        self.assertEqual(result.returncode, 2)
        self.assertIn("--model", result.stderr)


if __name__ == "__main__":
    runner.main()
