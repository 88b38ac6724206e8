"""What requests share changes no bit: prefixes cached or not, choices of one request, under several plans."""
import unittest

from tests.harness import cluster, runner

PLANS = [{"tp": 1}, {"tp": 2}, {"pp": 2}]
STORY = "Once upon a time there was a little cat who liked to sing. " * 6
FLAGS = {"temperature": 0.8, "seed": 5, "max_tokens": 40, "ignore_eos": True, "logprobs": True}


class SharingTest(unittest.TestCase):
    def test_a_cached_prefix_gives_the_bits_of_an_uncached_one(self):
        for plan in PLANS:
            with self.subTest(plan), cluster.Cluster(dtype="fp32", **plan) as served:
                first = served.generate(STORY + "One day", **FLAGS)
                again = served.generate(STORY + "One day", **FLAGS)
                other = served.generate(STORY + "But then", **FLAGS)
                # Prompt log-probabilities are computed from all of the prompt.
                bypassing = served.generate(STORY + "But then", prompt_logprobs=True, **FLAGS)
                self.assertEqual(first["finish"]["cached_tokens"], 0)
                self.assertGreater(again["finish"]["cached_tokens"], 0)
                self.assertGreater(other["finish"]["cached_tokens"], 0)
                self.assertEqual(bypassing["finish"]["cached_tokens"], 0)
                for a, b in ((first, again), (other, bypassing)):
                    self.assertEqual(a["token_ids"], b["token_ids"])
                    self.assertEqual(a["logprobs"], b["logprobs"])
                self.assertEqual(served.status()["kv_blocks_used"], 0)

    def test_without_prefix_caching_nothing_is_found(self):
        with cluster.Cluster(noenable_prefix_caching=True) as served:
            for _ in range(2):
                self.assertEqual(served.generate(STORY, **FLAGS)["finish"]["cached_tokens"], 0)


if __name__ == "__main__":
    runner.main()
