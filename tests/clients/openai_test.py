"""OpenAI's own Python client against a cluster: completions, chats, streams, log-probabilities, errors."""
import pathlib
import subprocess
import tempfile
import threading
import unittest

import httpx
import openai

from tests.harness import cluster, runner

STORY = "Once upon a time, there was a"


def client_of(address, **options):
    return openai.OpenAI(base_url=f"http://{address}/v1", api_key="none", max_retries=0, timeout=120, **options)


class ServedTest(unittest.TestCase):
    """One fp32 cluster for all tests of a class: outputs may be compared exactly."""
    FLAGS = {"tp": 2}

    @classmethod
    def setUpClass(cls):
        cls.cluster = cluster.Cluster(http="127.0.0.1:0", dtype="fp32", **cls.FLAGS)
        cls.addClassCleanup(cls.cluster.stop)
        cls.client = client_of(cls.cluster.http_address)
        cls.url = f"http://{cls.cluster.http_address}"
        cls.model = "demo"

    def complete(self, prompt=STORY, **options):
        options.setdefault("max_tokens", 20)
        options.setdefault("temperature", 0)
        return self.client.completions.create(model=self.model, prompt=prompt, **options)

    def chat(self, content="Tell me a story.", **options):
        options.setdefault("max_tokens", 20)
        options.setdefault("temperature", 0)
        return self.client.chat.completions.create(
            model=self.model, messages=[{"role": "user", "content": content}], **options)

    def tokenize(self, text, **options):
        return httpx.post(f"{self.url}/tokenize", json={"prompt": text, **options}).json()["tokens"]

    def detokenize(self, tokens):
        return httpx.post(f"{self.url}/detokenize", json={"tokens": tokens}).json()["prompt"]


class CompletionTest(ServedTest):
    def test_completion_has_text_reason_and_usage(self):
        answer = self.complete()
        self.assertTrue(answer.id.startswith("cmpl-"))
        self.assertEqual((answer.object, answer.model), ("text_completion", "demo"))
        self.assertEqual(answer.choices[0].finish_reason, "length")
        self.assertGreater(len(answer.choices[0].text), 20)
        self.assertEqual(answer.usage.completion_tokens, 20)
        self.assertEqual(answer.usage.prompt_tokens, len(self.tokenize(STORY)))
        self.assertEqual(answer.usage.total_tokens, answer.usage.prompt_tokens + 20)

    def test_default_length_is_16_tokens(self):
        answer = self.client.completions.create(model="demo", prompt=STORY, extra_body={"ignore_eos": True})
        self.assertEqual(answer.usage.completion_tokens, 16)

    def test_stream_puts_together_what_the_whole_response_says(self):
        whole = self.complete(max_tokens=60, logprobs=2)
        chunks = list(self.complete(max_tokens=60, logprobs=2, stream=True, stream_options={"include_usage": True}))
        self.assertEqual("".join(c.choices[0].text for c in chunks[:-1]), whole.choices[0].text)
        self.assertEqual([c.choices[0].finish_reason for c in chunks[:-1]],
                         [None] * (len(chunks) - 2) + [whole.choices[0].finish_reason])
        self.assertEqual([p for c in chunks[:-1] for p in c.choices[0].logprobs.token_logprobs],
                         whole.choices[0].logprobs.token_logprobs)
        self.assertEqual([o for c in chunks[:-1] for o in c.choices[0].logprobs.text_offset],
                         whole.choices[0].logprobs.text_offset)
        self.assertEqual(chunks[-1].choices, [])
        self.assertEqual(chunks[-1].usage.completion_tokens, whole.usage.completion_tokens)
        self.assertIsNone(chunks[0].usage)
        self.assertEqual({c.id for c in chunks}, {chunks[0].id})

    def test_token_ids_as_prompt_give_what_their_text_gives(self):
        self.assertEqual(self.complete(self.tokenize(STORY)).choices[0].text, self.complete().choices[0].text)

    def test_batch_of_prompts_gives_each_its_own_choices_in_order(self):
        prompts = [STORY, "The owl said", "A little boat"]
        alone = [self.complete(prompt).choices[0].text for prompt in prompts]
        for batch in prompts, [self.tokenize(prompt) for prompt in prompts]:
            answer = self.complete(batch)
            self.assertEqual([c.index for c in answer.choices], [0, 1, 2])
            self.assertEqual([c.text for c in answer.choices], alone)
            self.assertEqual(answer.usage.completion_tokens, 60)

    def test_streamed_batch_with_choices_says_which_is_which(self):
        prompts = [STORY, "The owl said"]
        options = {"n": 2, "temperature": 1, "seed": 5, "max_tokens": 30}
        whole = self.complete(prompts, **options)
        texts = [""] * 4
        for chunk in self.complete(prompts, stream=True, **options):
            texts[chunk.choices[0].index] += chunk.choices[0].text
        self.assertEqual(texts, [c.text for c in whole.choices])

    def test_n_choices_differ_and_come_again_with_the_same_seed(self):
        options = {"n": 4, "temperature": 1, "seed": 11, "max_tokens": 30}
        texts = [c.text for c in self.complete(**options).choices]
        self.assertEqual(len(set(texts)), 4)
        answer = self.complete(**options)
        self.assertEqual([c.text for c in answer.choices], texts)
        self.assertEqual(answer.usage.prompt_tokens, len(self.tokenize(STORY)))
        self.assertEqual(self.complete(**{**options, "n": 1}).choices[0].text, texts[0])

    def test_echo_with_logprobs_covers_prompt_and_output(self):
        answer = self.complete(echo=True, logprobs=3, max_tokens=5).choices[0]
        ids = self.tokenize(STORY)
        self.assertIn(STORY, answer.text)
        self.assertEqual(len(answer.logprobs.tokens), len(ids) + 5)
        self.assertIsNone(answer.logprobs.token_logprobs[0])
        self.assertIsNone(answer.logprobs.top_logprobs[0])
        for token, logprob, top in list(zip(answer.logprobs.tokens, answer.logprobs.token_logprobs,
                                            answer.logprobs.top_logprobs))[1:]:
            self.assertLessEqual(logprob, 0)
            self.assertIn(len(top), (3, 4))
            self.assertEqual(top[token], logprob)
        for logprob, top in list(zip(answer.logprobs.token_logprobs, answer.logprobs.top_logprobs))[len(ids):]:
            self.assertEqual(logprob, max(top.values()), "greedy takes the most probable")

    def test_echo_alone_generates_nothing(self):
        answer = self.complete(echo=True, logprobs=0, max_tokens=0).choices[0]
        self.assertEqual(answer.text, STORY)
        self.assertEqual(len(answer.logprobs.tokens), len(self.tokenize(STORY)))

    def test_prompt_logprobs_are_those_of_the_generation_that_says_the_same(self):
        generated = self.complete(max_tokens=12, logprobs=0, extra_body={"return_token_ids": True}).choices[0]
        prompt = self.tokenize(STORY) + generated.token_ids
        echoed = self.complete(prompt, echo=True, logprobs=0, max_tokens=0).choices[0]
        self.assertEqual(echoed.logprobs.token_logprobs[-12:], generated.logprobs.token_logprobs)

    def test_stop_string_across_tokens_ends_the_text_before_itself(self):
        text = self.complete(max_tokens=60).choices[0].text
        stop = text[20:27]
        for stream in False, True:
            answer = self.complete(max_tokens=60, stop=[stop, "no such words"], stream=stream)
            chunks = list(answer) if stream else [answer]
            self.assertEqual("".join(c.choices[0].text for c in chunks), text[:text.index(stop)])
            self.assertEqual(chunks[-1].choices[0].finish_reason, "stop")
            self.assertEqual(chunks[-1].choices[0].stop_reason, stop)
        kept = self.complete(max_tokens=60, stop=stop, extra_body={"include_stop_str_in_output": True})
        self.assertEqual(kept.choices[0].text, text[:text.index(stop) + len(stop)])

    def test_stop_token_ends_the_output(self):
        ids = self.complete(max_tokens=30, extra_body={"return_token_ids": True}).choices[0].token_ids
        stop = ids[10]
        answer = self.complete(max_tokens=30, extra_body={"stop_token_ids": [stop], "return_token_ids": True})
        self.assertEqual(answer.choices[0].token_ids, ids[:ids.index(stop) + 1])
        self.assertEqual(answer.choices[0].finish_reason, "stop")
        self.assertEqual(answer.choices[0].stop_reason, stop)
        self.assertEqual(answer.choices[0].prompt_token_ids, self.tokenize(STORY))

    def test_min_tokens_puts_the_end_off(self):
        ids = self.complete(max_tokens=30, extra_body={"return_token_ids": True}).choices[0].token_ids
        answer = self.complete(max_tokens=30, extra_body={"stop_token_ids": [ids[2]], "min_tokens": 8})
        self.assertGreaterEqual(answer.usage.completion_tokens, 8)

    def test_logit_bias_decides(self):
        token = self.tokenize(" owl", add_special_tokens=False)[0]
        answer = self.complete(max_tokens=5, logit_bias={str(token): 100}, extra_body={"return_token_ids": True})
        self.assertEqual(answer.choices[0].token_ids, [token] * 5)

    def test_penalties_and_filters_are_taken(self):
        answer = self.complete(temperature=0.8, top_p=0.9, presence_penalty=0.5, frequency_penalty=0.5, seed=3,
                               extra_body={"top_k": 20, "min_p": 0.05, "repetition_penalty": 1.1, "priority": -1,
                                           "skip_special_tokens": False})
        self.assertTrue(answer.choices[0].text)
        self.assertTrue(self.complete(extra_body={"top_k": -1}).choices[0].text)


class ChatTest(ServedTest):
    def test_chat_answers_as_the_assistant(self):
        answer = self.chat()
        self.assertTrue(answer.id.startswith("chatcmpl-"))
        self.assertEqual(answer.object, "chat.completion")
        self.assertEqual(answer.choices[0].message.role, "assistant")
        self.assertTrue(answer.choices[0].message.content)
        self.assertIn(answer.choices[0].finish_reason, ("length", "stop"))

    def test_chat_is_the_completion_of_the_rendered_template(self):
        tokens = httpx.post(f"{self.url}/tokenize", json={
            "messages": [{"role": "user", "content": "Tell me a story."}]}).json()["tokens"]
        self.assertEqual(self.detokenize(tokens),
                         "<|begin_of_text|><|user|>Tell me a story.<|end_of_turn|><|assistant|>")
        self.assertEqual(self.complete(tokens).choices[0].text, self.chat().choices[0].message.content)

    def test_stream_begins_with_the_role_and_puts_the_answer_together(self):
        whole = self.chat(max_tokens=40).choices[0]
        chunks = list(self.chat(max_tokens=40, stream=True))
        self.assertEqual(chunks[0].choices[0].delta.role, "assistant")
        self.assertEqual("".join(c.choices[0].delta.content or "" for c in chunks), whole.message.content)
        self.assertEqual(chunks[-1].choices[0].finish_reason, whole.finish_reason)
        self.assertEqual({c.object for c in chunks}, {"chat.completion.chunk"})

    def test_logprobs_tell_tokens_bytes_and_alternatives(self):
        content = self.chat(max_tokens=6, logprobs=True, top_logprobs=3).choices[0].logprobs.content
        self.assertEqual(len(content), 6)
        for token in content:
            self.assertEqual(bytes(token.bytes).decode(), token.token)
            self.assertEqual(len(token.top_logprobs), 3)
            self.assertEqual(token.top_logprobs[0].logprob, token.logprob)
        chunks = list(self.chat(max_tokens=6, logprobs=True, top_logprobs=3, stream=True))
        streamed = [t for c in chunks if c.choices[0].logprobs for t in c.choices[0].logprobs.content]
        self.assertEqual([t.logprob for t in streamed], [t.logprob for t in content])

    def test_text_parts_are_joined(self):
        parts = [{"type": "text", "text": "Tell me"}, {"type": "text", "text": "a story."}]
        self.assertEqual(self.chat(parts).choices[0].message.content,
                         self.chat("Tell me\na story.").choices[0].message.content)

    def test_n_and_max_completion_tokens(self):
        answer = self.chat(n=3, temperature=1, seed=2, max_tokens=None, max_completion_tokens=7)
        self.assertEqual([c.index for c in answer.choices], [0, 1, 2])
        self.assertLessEqual(answer.usage.completion_tokens, 21)


class ErrorTest(ServedTest):
    def refused(self, kind, *words, param=None, call=None, **options):
        with self.assertRaises(kind) as caught:
            (call or self.complete)(**options)
        for word in words:
            self.assertIn(word, caught.exception.body["message"])
        self.assertEqual(caught.exception.body["param"], param)
        return caught.exception

    def test_values_out_of_range_name_their_field_and_what_is_legal(self):
        bad = openai.BadRequestError
        self.refused(bad, "[0, 100]", param="temperature", temperature=-1)
        self.refused(bad, "(0, 1]", param="top_p", top_p=0)
        self.refused(bad, "[1, 128]", param="n", n=0)
        self.refused(bad, "[0, 20]", param="top_logprobs", logprobs=21)
        self.refused(bad, "max_tokens = 0", param="max_tokens", max_tokens=0)
        self.refused(bad, "[0, 20]", param="min_tokens", extra_body={"min_tokens": 21})
        self.refused(bad, "at most 16", param="stop", stop=["x"] * 17)
        self.refused(bad, "32 bits", param="max_tokens", max_tokens=2**40)

    def test_what_is_not_supported_is_refused_by_name(self):
        bad = openai.BadRequestError
        tools = [{"type": "function", "function": {"name": "f", "parameters": {}}}]
        self.refused(bad, "tools", param="tools", call=self.chat, tools=tools)
        self.refused(bad, "response_format", param="response_format", call=self.chat,
                     response_format={"type": "json_object"})
        self.refused(bad, "suffix", param="suffix", suffix="x")
        self.refused(bad, "best_of", param="best_of", best_of=3)
        self.refused(bad, "meant to be temperature", param="temprature", extra_body={"temprature": 1})

    def test_unknown_role_is_refused_in_the_templates_words(self):
        with self.assertRaises(openai.BadRequestError) as caught:
            self.client.chat.completions.create(model="demo", messages=[{"role": "wizard", "content": "x"}])
        self.assertIn("not wizard", caught.exception.body["message"])

    def test_unknown_model_is_not_found(self):
        with self.assertRaises(openai.NotFoundError) as caught:
            self.client.completions.create(model="gpt-4", prompt="x")
        self.assertEqual(caught.exception.body["code"], "model_not_found")

    def test_too_long_a_request_is_refused_with_the_numbers(self):
        error = self.refused(openai.BadRequestError, "100000", "2048", param="max_tokens", max_tokens=100000)
        self.assertEqual(error.body["code"], "context_length_exceeded")
        self.refused(openai.BadRequestError, "3000 tokens", prompt=[5] * 3000)

    def test_one_bad_prompt_of_a_batch_is_named_and_none_runs(self):
        self.refused(openai.BadRequestError, "prompt[1]", param="tokens.ids", prompt=[[5], [10**6]])


class OtherPathsTest(ServedTest):
    FLAGS = {"tp": 1, "served_model_name": "tales,stories"}

    def test_models_are_listed_under_every_served_name(self):
        models = self.client.models.list().data
        self.assertEqual([m.id for m in models], ["tales", "stories"])
        self.assertEqual(models[0].max_model_len, 2048)
        self.assertEqual(self.client.models.retrieve("stories").id, "stories")
        with self.assertRaises(openai.NotFoundError):
            self.client.models.retrieve("demo")
        for name in "tales", "stories":
            answer = self.client.completions.create(model=name, prompt=STORY, max_tokens=2)
            self.assertEqual(answer.model, "tales")

    def test_health_and_version(self):
        self.assertEqual(httpx.get(f"{self.url}/health").status_code, 200)
        self.assertRegex(httpx.get(f"{self.url}/version").json()["version"], r"^\d+\.\d+\.\d+")

    def test_tokenize_and_detokenize_are_inverse(self):
        text = "An owl, a boat, zwölf."
        tokens = self.tokenize(text, add_special_tokens=False)
        self.assertEqual(self.detokenize(tokens), text)
        with_special = httpx.post(f"{self.url}/tokenize", json={"prompt": text}).json()
        self.assertEqual(with_special["count"], len(tokens) + 1)
        self.assertEqual(with_special["max_model_len"], 2048)

    def test_unknown_paths_and_methods(self):
        missing = httpx.get(f"{self.url}/v2/nothing")
        self.assertEqual(missing.status_code, 404)
        self.assertIn("/v1/completions", missing.json()["error"]["message"])
        wrong = httpx.get(f"{self.url}/v1/completions")
        self.assertEqual((wrong.status_code, wrong.headers["allow"]), (405, "POST"))


class DisconnectTest(ServedTest):
    FLAGS = {"tp": 1}

    def test_client_that_leaves_ends_its_request_and_frees_the_blocks(self):
        for stream in True, False:
            # A client of its own, whose connection closes with it.
            with client_of(self.cluster.http_address) as client:
                call = dict(model="demo", prompt=STORY, max_tokens=1900, n=4, temperature=1,
                            extra_body={"ignore_eos": True})
                if stream:
                    next(iter(client.completions.create(stream=True, **call)))
                else:
                    with self.assertRaises(openai.APITimeoutError):
                        client.completions.create(timeout=0.1, **call)
            cluster.wait_until(self.nothing_left, seconds=20, what="end of the request")
        self.assertTrue(self.complete(max_tokens=3).choices[0].text)

    def nothing_left(self):
        status = self.cluster.status()
        return (status["running_requests"], status["waiting_requests"], status["kv_blocks_used"]) == (0, 0, 0)


class OverloadTest(ServedTest):
    FLAGS = {"tp": 1, "max_num_seqs": 1, "max_queue": 1}

    def test_full_queue_refuses_at_once_and_says_when_to_try_again(self):
        call = dict(model="demo", prompt=STORY, max_tokens=1900, stream=True, extra_body={"ignore_eos": True})
        running = self.client.completions.create(**call)
        next(iter(running))
        waiting = self.client.with_options(timeout=60)
        thread = threading.Thread(target=lambda: list(waiting.completions.create(**{**call, "max_tokens": 2})))
        thread.start()
        cluster.wait_until(lambda: self.cluster.status()["waiting_requests"] == 1, what="a waiting request")
        with self.assertRaises(openai.RateLimitError) as caught:
            self.complete()
        self.assertIn("--max-queue=1", caught.exception.body["message"])
        self.assertEqual(caught.exception.response.headers["retry-after"], "1")
        running.close()
        thread.join(60)
        self.assertFalse(thread.is_alive())


class SeedTest(unittest.TestCase):
    def test_server_with_a_seed_answers_the_same_after_a_restart(self):
        runs = []
        for _ in range(2):
            with cluster.Cluster(http="127.0.0.1:0", dtype="fp32", seed=9) as served:
                runs.append([client_of(served.http_address).completions.create(
                    model="demo", prompt=STORY, temperature=1, max_tokens=30).choices[0].text for _ in range(2)])
        self.assertEqual(runs[0], runs[1])
        self.assertNotEqual(runs[0][0], runs[0][1])


class NoGroupTest(unittest.TestCase):
    def test_requests_are_told_what_is_missing(self):
        with tempfile.TemporaryDirectory() as directory:
            port_file = pathlib.Path(directory) / "ports"
            process = subprocess.Popen(
                [cluster.bin_dir() / "coordinatord", f"--model={cluster.DEMO_MODEL}", "--listen=127.0.0.1:0",
                 "--http=127.0.0.1:0", f"--port-file={port_file}"], stdout=subprocess.DEVNULL,
                stderr=subprocess.DEVNULL)
            try:
                cluster.wait_until(port_file.exists, what="the ports")
                address = f"127.0.0.1:{port_file.read_text().split()[1]}"
                with self.assertRaises(openai.InternalServerError) as caught:
                    client_of(address).completions.create(model="demo", prompt="x")
                self.assertEqual(caught.exception.status_code, 503)
                self.assertIn("worker", caught.exception.body["message"])
                self.assertEqual(httpx.get(f"http://{address}/health").status_code, 503)
                self.assertEqual(httpx.get(f"http://{address}/v1/models").status_code, 200)
            finally:
                process.terminate()
                process.wait(30)


if __name__ == "__main__":
    runner.main()
