"""lm-eval's local-completions client against a cluster; what it finds must be what gRPC says of the same texts.

Run by tools/test_clients, with lm-eval in the environment.
"""
import json
import os
import pathlib
import subprocess
import sys
import tempfile
import urllib.request

from tests.harness import cluster

HERE = pathlib.Path(__file__).absolute().parent
TASKS = ["lockstep_pronouns", "lockstep_endings"]
# Of log-probabilities over two fronts, the one in decimal digits.
TOLERANCE = 1e-3


def evaluate(address, output):
    """Runs lm-eval; the samples of each task, and its results."""
    arguments = [f"model=demo,base_url=http://{address}/v1/completions,tokenizer_backend=huggingface",
                 f"tokenizer={cluster.DEMO_MODEL},num_concurrent=4,max_retries=1,max_length=2048"]
    subprocess.run([sys.executable, "-m", "lm_eval", "run", "--model", "local-completions", "--model_args", ",".join(arguments),
                    "--tasks", ",".join(TASKS), "--include_path", str(HERE), "--batch_size", "4", "--log_samples",
                    "--output_path", output], check=True, env={**os.environ, "HF_HUB_OFFLINE": "1", "TOKENIZERS_PARALLELISM": "false"})
    (results,) = pathlib.Path(output).rglob("results_*.json")
    samples = {task: [json.loads(line) for file in pathlib.Path(output).rglob(f"samples_{task}_*.jsonl")
                      for line in file.read_text().splitlines()] for task in TASKS}
    return samples, json.loads(results.read_text())["results"]


def tokenize(served, text):
    """Without special tokens, as lm-eval does it."""
    body = json.dumps({"prompt": text, "add_special_tokens": False}).encode()
    request = urllib.request.Request(f"http://{served.http_address}/tokenize", body, {"Content-Type": "application/json"})
    with urllib.request.urlopen(request) as response:
        return json.load(response)["tokens"]


def logprob(served, context, choice):
    """Of the choice's tokens after the context, by gRPC."""
    whole, begins = tokenize(served, context + choice), len(tokenize(served, context))
    # The first token of a prompt has none.
    return sum(served.generate(token_ids=whole, max_tokens=1, prompt_logprobs=True)["prompt_logprobs"][begins - 1:])


def check_choices(served, samples):
    """lm-eval's log-likelihoods against gRPC's; returns how many answers are right."""
    right = 0
    for sample in samples:
        choices = [" " + choice for choice in sample["doc"]["choices"]]
        expected = [logprob(served, sample["doc"]["context"], choice) for choice in choices]
        found = [float(response[0][0]) for response in sample["resps"]]
        for one, other in zip(found, expected):
            if abs(one - other) > TOLERANCE:
                raise AssertionError(f"lm-eval finds {found}, gRPC {expected}: {sample['doc']}")
        right += expected.index(max(expected)) == sample["doc"]["answer"]
    return right


def check_endings(served, samples):
    """lm-eval's generations against gRPC's text, cut at the stop."""
    for sample in samples:
        prompt = tokenize(served, sample["doc"]["context"])
        text = served.generate(token_ids=prompt, max_tokens=40, temperature=0)["text"].split(".")[0]
        found = sample["resps"][0][0]
        if found.strip() != text.strip():
            raise AssertionError(f"lm-eval has {found!r}, gRPC {text!r}: {sample['doc']}")


def main():
    with cluster.Cluster(http="127.0.0.1:0", tp=2, dtype="fp32") as served, tempfile.TemporaryDirectory() as output:
        samples, results = evaluate(served.http_address, output)
        questions = samples["lockstep_pronouns"]
        right = check_choices(served, questions)
        check_endings(served, samples["lockstep_endings"])
    accuracy = results["lockstep_pronouns"]["acc,none"]
    if not questions or abs(accuracy - right / len(questions)) > 1e-9:
        raise AssertionError(f"lm-eval says {accuracy}, gRPC {right} of {len(questions)}")
    print(f"lm-eval: {right} of {len(questions)} right, by both fronts; "
          f"{len(samples['lockstep_endings'])} endings equal\n2 passed, 0 failed")


if __name__ == "__main__":
    main()
