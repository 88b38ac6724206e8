"""The same model gives the same tokens under every plan: TP 1, 2, 4, 8, PP 1, 2, 4 and both together."""
import concurrent.futures
import random
import sys
import unittest

from tests.harness import cluster, runner

sys.path.insert(0, str(cluster.DEMO_MODEL))
import stories  # noqa: E402  (the demo model's grammar)

PROMPTS = 20
TOKENS = 200
PLANS = [(2, 1, 1), (4, 1, 1), (8, 1, 1), (1, 2, 1), (1, 4, 1), (2, 2, 1), (2, 2, 2)]  # TP, PP, nodes
# bf16 rounds weights' products' inputs alike for every plan, and sums in another order: the log-probabilities
# of the demo model then differ by rounding of the key-value cache (8 bits of mantissa, 2^-9 relative).
BF16_TOLERANCE = 0.05


def prompts():
    """Beginnings of stories, of various lengths."""
    rng = random.Random(20)
    texts = [stories.generate(rng).text for _ in range(PROMPTS)]
    return [text[: rng.randint(1, len(text))] for text in texts]


def all_prompts(client, **flags):
    """One answer per prompt, all in flight at once: batches of every composition occur."""
    with concurrent.futures.ThreadPoolExecutor(PROMPTS) as pool:
        return list(pool.map(lambda prompt: client.generate(prompt, temperature=0, **flags), prompts()))


def token_ids(answers):
    return [answer["token_ids"] for answer in answers]


class PlansTest(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        with cluster.Cluster(dtype="fp32") as one:
            cls.reference = all_prompts(one, max_tokens=TOKENS, ignore_eos=True, logprobs=True)
            cls.alone = one.generate(prompts()[0], temperature=0, max_tokens=TOKENS, ignore_eos=True,
                                     logprobs=True)
            cls.sampled = one.generate("Once upon a time", temperature=0.8, top_k=20, top_p=0.9, seed=7,
                                       max_tokens=100)
        with cluster.Cluster(dtype="bf16") as one:
            cls.bf16 = all_prompts(one, max_tokens=20, ignore_eos=True, prompt_logprobs=True)

    def test_a_request_alone_has_the_bits_that_it_has_among_19_others(self):
        self.assertEqual(self.alone["token_ids"], self.reference[0]["token_ids"])
        self.assertEqual(self.alone["logprobs"], self.reference[0]["logprobs"])

    def test_the_reference_is_full_length_and_its_text_is_not_empty(self):
        for answer in self.reference:
            self.assertEqual(len(answer["token_ids"]), TOKENS)
            self.assertTrue(answer["text"])

    def _check_fp32(self, tp, pp, nodes):
        with cluster.Cluster(dtype="fp32", tp=tp, pp=pp, nodes=nodes) as cut:
            answers = all_prompts(cut, max_tokens=TOKENS, ignore_eos=True)
            sampled = cut.generate("Once upon a time", temperature=0.8, top_k=20, top_p=0.9, seed=7,
                                   max_tokens=100)
        self.assertEqual(token_ids(answers), token_ids(self.reference))
        self.assertEqual(sampled["token_ids"], self.sampled["token_ids"])

    def _check_bf16(self, tp, pp, nodes):
        with cluster.Cluster(dtype="bf16", tp=tp, pp=pp, nodes=nodes) as cut:
            answers = all_prompts(cut, max_tokens=20, ignore_eos=True, prompt_logprobs=True)
        for answer, reference in zip(answers, self.bf16):
            for ours, theirs in zip(answer["prompt_logprobs"], reference["prompt_logprobs"], strict=True):
                self.assertAlmostEqual(ours, theirs, delta=BF16_TOLERANCE)


def _add_plan(tp, pp, nodes):
    name = f"tp{tp}_pp{pp}" + (f"_on_{nodes}_nodes" if nodes > 1 else "")
    setattr(PlansTest, f"test_{name}_gives_the_tokens_of_tp1_in_fp32",
            lambda self: self._check_fp32(tp, pp, nodes))
    setattr(PlansTest, f"test_{name}_gives_the_logprobs_of_tp1_in_bf16_within_{BF16_TOLERANCE}",
            lambda self: self._check_bf16(tp, pp, nodes))


for plan in PLANS:
    _add_plan(*plan)

if __name__ == "__main__":
    runner.main()
