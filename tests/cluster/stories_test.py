"""The served demo model writes coherent stories: what it samples parses under the grammar that it learned."""
import concurrent.futures
import sys
import unittest

from tests.harness import cluster, runner

sys.path.insert(0, str(cluster.DEMO_MODEL))
import stories  # noqa: E402  (the demo model's grammar)

STORIES = 100
NEEDED = 95
# Beginnings that the grammar knows; what comes after is the model's own.
OPENINGS = ["Once upon a time", "There once was", "This is the story of", "Long ago, there was"]


class StoriesTest(unittest.TestCase):
    def _story(self, served, seed):
        opening = OPENINGS[seed % len(OPENINGS)]
        return opening + served.generate(opening, temperature=0.8, top_p=1, seed=seed, max_tokens=400)["text"]

    def test_95_of_100_stories_sampled_at_temperature_0_8_parse(self):
        with cluster.Cluster(tp=2) as served:
            with concurrent.futures.ThreadPoolExecutor(16) as pool:
                texts = list(pool.map(lambda seed: self._story(served, seed), range(STORIES)))
        failures = [text for text in texts if not stories.parse(text)]
        self.assertGreaterEqual(STORIES - len(failures), NEEDED, "\n\n".join(failures))
        self.assertGreater(len(set(texts)), STORIES * 0.9, "stories must differ")


if __name__ == "__main__":
    runner.main()
