"""`coordinatorctl bench` against a real cluster: counts, figures, JSON, and how it ends when something fails."""
import json
import signal
import subprocess
import unittest

from tests.harness import cluster, runner


def bench(address, *flags):
    """Runs it to its end; the result has returncode, stdout, stderr and, where it printed any, `figures`."""
    result = cluster.ctl("bench", "--json", f"--coordinator={address}", *flags)
    result.figures = json.loads(result.stdout) if result.stdout else None
    return result


def start_bench(address, *flags):
    return subprocess.Popen(
        [cluster.bin_dir() / "coordinatorctl", "bench", "--json", f"--coordinator={address}", *flags],
        text=True, stdout=subprocess.PIPE, stderr=subprocess.PIPE)


def wait_for_steps(served):
    """Until the cluster has computed a step, so that a load has arrived."""
    cluster.wait_until(lambda: served.status()["workers"][0]["last_step_ns"] > 0, what="a step")


class BenchTest(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        cls.served = cluster.Cluster(tp=2)

    @classmethod
    def tearDownClass(cls):
        cls.served.stop()

    def test_fixed_concurrency_completes_every_request_with_the_tokens_asked_for(self):
        result = bench(self.served.address, "--concurrency=4", "--requests=20", "--prompt-tokens=16",
                       "--output-tokens=8", "--ignore-eos", "--warmup=4")
        self.assertEqual(result.returncode, 0, result.stderr)
        figures = result.figures
        self.assertEqual(figures["completed"], 20)
        self.assertEqual(figures["failed"], 0)
        self.assertEqual(figures["errors"], [])
        self.assertEqual(figures["total_input_tokens"], 20 * 16)
        self.assertEqual(figures["total_output_tokens"], 20 * 8)
        self.assertEqual(figures["max_concurrent_requests"], 4)
        self.assertAlmostEqual(figures["output_throughput"], 160 / figures["duration"], places=3)

    def test_latencies_are_ordered_and_fit_together(self):
        figures = bench(self.served.address, "--concurrency=3", "--requests=30", "--prompt-tokens=uniform:4-40",
                        "--output-tokens=12", "--ignore-eos").figures
        for latency in ("ttft", "tpot", "itl", "e2el"):
            values = [figures[f"{name}_{latency}_ms"] for name in ("median", "p90", "p99", "max")]
            self.assertEqual(values, sorted(values), latency)
            self.assertGreater(values[0], 0, latency)
        self.assertLess(figures["mean_ttft_ms"], figures["mean_e2el_ms"])
        self.assertLessEqual(figures["max_e2el_ms"], figures["duration"] * 1e3)

    def test_decode_rate_of_the_full_batch_is_reported_apart(self):
        figures = bench(self.served.address, "--concurrency=4", "--requests=4", "--prompt-tokens=8",
                        "--output-tokens=200", "--ignore-eos").figures
        window = figures["decode_window"]
        self.assertEqual(window["requests"], 4)
        self.assertLessEqual(window["duration"], figures["duration"])
        self.assertGreaterEqual(window["output_throughput"], 0.8 * figures["output_throughput"])

    def test_arrivals_at_a_rate_for_a_time_need_no_concurrency(self):
        result = bench(self.served.address, "--rate=40", "--duration=1", "--prompt-tokens=4", "--output-tokens=2")
        self.assertEqual(result.returncode, 0, result.stderr)
        # Poisson with mean 40: five standard deviations.
        self.assertTrue(8 <= result.figures["completed"] <= 72, result.figures["completed"])
        self.assertIsNone(result.figures["decode_window"])

    def test_shared_prefixes_are_found_in_the_cache_and_other_prompts_are_not(self):
        flags = ("--concurrency=1", "--requests=8", "--prompt-tokens=20", "--output-tokens=1")
        shared = bench(self.served.address, *flags, "--shared-prefix-tokens=64", "--prefixes=2", "--seed=5").figures
        self.assertEqual(shared["total_input_tokens"], 8 * 84)
        # All but the first request of each prefix.
        self.assertEqual(shared["total_cached_tokens"], 6 * 64)
        alone = bench(self.served.address, *flags, "--seed=6").figures
        self.assertEqual(alone["total_cached_tokens"], 0)

    def test_prompt_too_long_is_an_error_by_its_code_and_status_1(self):
        result = bench(self.served.address, "--requests=3", "--concurrency=1", "--prompt-tokens=5000",
                       "--output-tokens=5")
        self.assertEqual(result.returncode, 1)
        self.assertEqual(result.figures["completed"], 0)
        self.assertEqual(result.figures["failed"], 3)
        (error,) = result.figures["errors"]
        self.assertEqual((error["code"], error["count"]), ("OUT_OF_RANGE", 3))
        self.assertIn("5000", error["message"])

    def test_table_names_percentiles_and_throughput(self):
        result = cluster.ctl("bench", f"--coordinator={self.served.address}", "--requests=2", "--prompt-tokens=4",
                             "--output-tokens=3", "--concurrency=2")
        self.assertEqual(result.returncode, 0, result.stderr)
        for part in ("2 completed, 0 failed", "requests/s", "output tokens/s", "p99", "to first token"):
            self.assertIn(part, result.stdout)

    def test_ctrl_c_prints_what_was_measured_and_ends_with_130(self):
        process = start_bench(self.served.address, "--duration=600", "--concurrency=2", "--output-tokens=16")
        wait_for_steps(self.served)
        # Until it handles the signal, which would else end it at once.
        cluster.wait_until(lambda: "SigCgt" in (status := open(f"/proc/{process.pid}/status").read()) and
                           int(status.split("SigCgt:")[1].split()[0], 16) & 1 << signal.SIGINT - 1, what="its handler")
        process.send_signal(signal.SIGINT)
        output, _ = process.communicate(timeout=60)
        self.assertEqual(process.returncode, 130)
        self.assertIn("completed", json.loads(output))


class BenchWithoutServerTest(unittest.TestCase):
    def test_no_server_is_status_1_with_the_address(self):
        result = bench("127.0.0.1:1", "--requests=1")
        self.assertEqual(result.returncode, 1)
        self.assertIn("127.0.0.1:1", result.stderr)
        self.assertIsNone(result.figures)

    def test_server_that_goes_away_is_unavailable_and_status_1(self):
        with cluster.Cluster() as served:
            process = start_bench(served.address, "--duration=4", "--concurrency=2", "--output-tokens=16")
            wait_for_steps(served)
        output, _ = process.communicate(timeout=60)
        figures = json.loads(output)
        self.assertEqual(process.returncode, 1)
        self.assertIn("UNAVAILABLE", [error["code"] for error in figures["errors"]])

    def test_illegal_flags_are_status_2_and_named(self):
        for flag, named in (("--prompt-tokens=uniform:9-3", "--prompt-tokens"), ("--concurrency=0", "--concurrency"),
                            ("--rate=-1", "--rate"), ("--output-tokens=lots", "--output-tokens")):
            result = cluster.ctl("bench", "--coordinator=127.0.0.1:1", flag)
            self.assertEqual(result.returncode, 2, flag)
            self.assertIn(named, result.stderr)


if __name__ == "__main__":
    runner.main()
