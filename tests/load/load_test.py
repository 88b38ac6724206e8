"""The load of load.py in small: 100 streams, 500 requests; and a burst that the queue cannot hold."""
import unittest

from tests.harness import runner
from tests.load import load


class LoadTest(unittest.TestCase):
    def test_streams_are_complete_equal_to_those_alone_and_leave_nothing(self):
        figures = load.run_load(streams=100, requests=500, kinds=60, tp=2)
        self.assertEqual(figures["wrong"], [])
        self.assertEqual(figures["epochs"], 1)
        self.assertGreaterEqual(figures["most_open_0"], 80)

    def test_burst_is_served_or_refused_and_nothing_else(self):
        figures = load.run_burst(count=100, max_queue=30, max_num_seqs=8)
        self.assertEqual(figures["wrong"], [])
        self.assertGreater(figures["refused"], 0)


if __name__ == "__main__":
    runner.main()
