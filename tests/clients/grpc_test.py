"""grpcio's client, knowing nothing but the port: reflection, health, and every method of InferenceService.

Messages and methods come from the server's own reflection; no generated code is involved.
"""
import unittest

import grpc
from google.protobuf import descriptor_pool, json_format, message_factory
from grpc_health.v1 import health_pb2, health_pb2_grpc
from grpc_reflection.v1alpha.proto_reflection_descriptor_database import ProtoReflectionDescriptorDatabase

from tests.harness import cluster, runner

SERVICE = "lockstep.v1.InferenceService"
STORY = "Once upon a time, there was a"


class Stub:
    """Calls methods with keyword arguments, in the form of protobuf's JSON."""

    def __init__(self, channel, service):
        self.channel = channel
        self.pool = descriptor_pool.DescriptorPool(ProtoReflectionDescriptorDatabase(channel))
        self.service = self.pool.FindServiceByName(service)

    def __call__(self, name, timeout=120, **fields):
        method = self.service.FindMethodByName(name)
        request = json_format.ParseDict(fields, message_factory.GetMessageClass(method.input_type)())
        kind = self.channel.unary_stream if method.server_streaming else self.channel.unary_unary
        call = kind(f"/{self.service.full_name}/{name}", request_serializer=type(request).SerializeToString,
                    response_deserializer=message_factory.GetMessageClass(method.output_type).FromString)
        return call(request, timeout=timeout)


class GrpcTest(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        cls.cluster = cluster.Cluster(tp=2, dtype="fp32")
        cls.addClassCleanup(cls.cluster.stop)
        cls.channel = grpc.insecure_channel(cls.cluster.address)
        cls.addClassCleanup(cls.channel.close)
        cls.call = Stub(cls.channel, SERVICE)

    def generate(self, method="Generate", **fields):
        """By choice: (token ids, text, last message)."""
        choices = {}
        for message in self.call(method, **fields):
            ids, text, _ = choices.get(message.choice, ([], "", None))
            choices[message.choice] = (ids + list(message.token_ids), text + message.text, message)
        for _, _, last in choices.values():
            self.assertTrue(last.HasField("finish"))
        return choices

    def refused(self, code, *words, method="Generate", **fields):
        with self.assertRaises(grpc.RpcError) as caught:
            list(self.call(method, **fields))
        self.assertEqual(caught.exception.code(), code)
        for word in words:
            self.assertIn(word, caught.exception.details())

    def test_reflection_lists_every_service(self):
        names = ProtoReflectionDescriptorDatabase(self.channel).get_services()
        for name in SERVICE, "lockstep.v1.AdminService", "grpc.health.v1.Health":
            self.assertIn(name, names)
        methods = {method.name for method in self.call.service.methods}
        self.assertEqual(methods, {"Generate", "Chat", "Tokenize", "Detokenize", "GetModel"})

    def test_health_of_server_and_service(self):
        health = health_pb2_grpc.HealthStub(self.channel)
        for service in "", SERVICE:
            status = health.Check(health_pb2.HealthCheckRequest(service=service)).status
            self.assertEqual(status, health_pb2.HealthCheckResponse.SERVING)
        with self.assertRaises(grpc.RpcError) as caught:
            health.Check(health_pb2.HealthCheckRequest(service="no.such.Service"))
        self.assertEqual(caught.exception.code(), grpc.StatusCode.NOT_FOUND)

    def test_generate_streams_tokens_text_usage_and_timings(self):
        ids, text, last = self.generate(text=STORY, max_tokens=20, sampling={"temperature": 0})[0]
        self.assertEqual(len(ids), 20)
        self.assertEqual(self.call("Detokenize", token_ids=ids).text, text)
        self.assertEqual((last.finish.prompt_tokens, last.finish.completion_tokens),
                         (len(self.call("Tokenize", text=STORY).token_ids), 20))
        self.assertGreaterEqual(last.finish.total_us, last.finish.first_token_us)
        self.assertGreater(last.finish.first_token_us, 0)

    def test_choices_of_one_request_differ_and_each_ends_once(self):
        choices = self.generate(text=STORY, n=3, max_tokens=30, sampling={"temperature": 1, "seed": 7})
        self.assertEqual(sorted(choices), [0, 1, 2])
        self.assertEqual(len({text for _, text, _ in choices.values()}), 3)
        alone = self.generate(text=STORY, max_tokens=30, sampling={"temperature": 1, "seed": 7})
        self.assertEqual(choices[0][0], alone[0][0])

    def test_stop_string_is_named_and_cuts_the_text(self):
        _, text, _ = self.generate(text=STORY, max_tokens=60, sampling={"temperature": 0})[0]
        stop = text[15:25]
        _, cut, last = self.generate(text=STORY, max_tokens=60, stop=[stop], sampling={"temperature": 0})[0]
        self.assertEqual(cut, text[:text.index(stop)])
        self.assertEqual(last.finish.stop, stop)

    def test_alternatives_hold_the_greedy_token_first(self):
        messages = list(self.call("Generate", text=STORY, max_tokens=5, top_logprobs=4, prompt_top_logprobs=2,
                                  sampling={"temperature": 0}))
        for message in messages:
            for token, logprob, top in zip(message.token_ids, message.logprobs, message.top_logprobs):
                self.assertEqual((top.token_ids[0], top.logprobs[0]), (token, logprob))
                self.assertEqual(len(top.token_ids), 4)
        prompt_tokens = len(self.call("Tokenize", text=STORY).token_ids)
        self.assertEqual(len(messages[0].prompt_logprobs), prompt_tokens - 1)
        self.assertEqual([len(top.token_ids) for top in messages[0].prompt_top_logprobs], [2] * (prompt_tokens - 1))

    def test_chat_renders_the_template(self):
        chat = self.generate("Chat", messages=[{"role": "user", "content": "Hello"}],
                             generation={"max_tokens": 10, "sampling": {"temperature": 0}})
        prompt = "<|begin_of_text|><|user|>Hello<|end_of_turn|><|assistant|>"
        plain = self.generate(text=prompt, add_special_tokens=False, max_tokens=10, sampling={"temperature": 0})
        self.assertEqual(chat[0][:2], plain[0][:2])

    def test_refusals_have_a_code_and_a_reason(self):
        invalid = grpc.StatusCode.INVALID_ARGUMENT
        self.refused(invalid, "sampling.temperature", text="x", sampling={"temperature": "NaN"})
        self.refused(invalid, "not wizard", method="Chat", messages=[{"role": "wizard", "content": "x"}])
        self.refused(invalid, "messages is empty", method="Chat")
        self.refused(grpc.StatusCode.OUT_OF_RANGE, "2048", text="x", max_tokens=4000)

    def test_deadline_and_cancel_end_the_work(self):
        with self.assertRaises(grpc.RpcError) as caught:
            list(self.call("Generate", timeout=0.2, text=STORY, n=8, max_tokens=1900, ignore_eos=True))
        self.assertEqual(caught.exception.code(), grpc.StatusCode.DEADLINE_EXCEEDED)
        call = self.call("Generate", text=STORY, n=8, max_tokens=1900, ignore_eos=True)
        next(call)
        call.cancel()
        cluster.wait_until(lambda: self.cluster.status()["kv_blocks_used"] == 0, seconds=20, what="free blocks")

    def test_model_says_what_is_served(self):
        model = self.call("GetModel")
        self.assertEqual((model.name, model.context_tokens), ("demo", 2048))


if __name__ == "__main__":
    runner.main()
