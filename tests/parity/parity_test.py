"""Prompt log-probabilities and greedy tokens agree with Hugging Face Transformers (fixtures/), in fp32."""
import json
import unittest

from tests.harness import cluster, runner

FIXTURES = sorted((cluster.ROOT / "tests/parity/fixtures").glob("*.json"))
PLANS = [(1, 1), (2, 1), (1, 2)]  # TP, PP
LARGEST_DIFFERENCE = 1e-3
# Where the reference's two best logits are closer than this, rounding may choose either.
TIE_MARGIN = 1e-4


class ParityTest(unittest.TestCase):
    def test_there_is_a_fixture_of_the_demo_model_and_of_two_random_ones(self):
        self.assertGreaterEqual(len(FIXTURES), 3)

    def _check(self, fixture, tp, pp):
        with cluster.Cluster(model=cluster.ROOT / fixture["model"], dtype="fp32", tp=tp, pp=pp,
                             skip_tokenizer_init=True) as served:
            for prompt in fixture["prompts"]:
                answer = served.generate(token_ids=prompt["token_ids"], temperature=0, prompt_logprobs=True,
                                         max_tokens=len(prompt["greedy"]), ignore_eos=True)
                self._compare_logprobs(answer["prompt_logprobs"], prompt["logprobs"])
                self._compare_greedy(answer["token_ids"], prompt)

    def _compare_logprobs(self, ours, theirs):
        self.assertEqual(len(ours), len(theirs))
        difference = max(abs(a - b) for a, b in zip(ours, theirs))
        print(f"largest difference {difference:.2e}")
        self.assertLess(difference, LARGEST_DIFFERENCE)

    def _compare_greedy(self, ours, prompt):
        for token, reference, margin in zip(ours, prompt["greedy"], prompt["greedy_margins"], strict=True):
            if token != reference:
                self.assertLess(margin, TIE_MARGIN, f"{ours} against {prompt['greedy']}")
                return


def _add(path, tp, pp):
    fixture = json.loads(path.read_text())
    setattr(ParityTest, f"test_{path.stem}_at_tp{tp}_pp{pp}_is_within_{LARGEST_DIFFERENCE}_of_transformers",
            lambda self: self._check(fixture, tp, pp))


for path in FIXTURES:
    for plan in PLANS:
        _add(path, *plan)

if __name__ == "__main__":
    runner.main()
