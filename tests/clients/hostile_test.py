"""Hostile input: each gets one clear refusal, nothing crashes, nothing leaks, and the next request is served."""
import concurrent.futures
import json
import pathlib
import random
import socket
import unittest

import grpc

from tests.harness import cluster, runner

MIB = 1 << 20
GROWTH_MIB = 200


def head(path, length=None, content_type="application/json", version="1.1", more=""):
    text = f"POST {path} HTTP/{version}\r\nHost: x\r\nContent-Type: {content_type}\r\n{more}"
    if length is not None:
        text += f"Content-Length: {length}\r\n"
    return (text + "\r\n").encode()


class HostileTest(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        cls.cluster = cluster.Cluster(http="127.0.0.1:0", tp=1)
        cls.addClassCleanup(cls.cluster.stop)
        host, port = cls.cluster.http_address.split(":")
        cls.endpoint = (host, int(port))
        cls.pids = cls.processes()
        cls.resident = cls.resident_mib()

    @classmethod
    def processes(cls):
        pid = cls.cluster.process.pid
        return pathlib.Path(f"/proc/{pid}/task/{pid}/children").read_text().split()

    @classmethod
    def resident_mib(cls):
        pid = next(p for p in cls.pids if pathlib.Path(f"/proc/{p}/comm").read_text().startswith("coordinatord"))
        lines = pathlib.Path(f"/proc/{pid}/status").read_text().splitlines()
        return int(next(line for line in lines if line.startswith("VmRSS")).split()[1]) / 1024

    def tearDown(self):
        """All processes live on, nothing is held, and a request is served."""
        self.assertEqual(self.processes(), self.pids, self.cluster.log())
        status, body = self.post("/v1/completions", {"prompt": "Once", "max_tokens": 3})
        self.assertEqual((status, body["usage"]["completion_tokens"]), (200, 3))
        cluster.wait_until(self.idle, seconds=20, what="an idle engine")
        self.assertLess(self.resident_mib() - self.resident, GROWTH_MIB)

    def idle(self):
        status = self.cluster.status()
        return (status["running_requests"], status["waiting_requests"], status["kv_blocks_used"]) == (0, 0, 0)

    def exchange(self, *pieces, finish=False):
        """Sends bytes and reads until the server closes or answers in full: (status, parsed body)."""
        with socket.create_connection(self.endpoint, timeout=60) as sock:
            try:
                for piece in pieces:
                    sock.sendall(piece)
                if finish:
                    sock.shutdown(socket.SHUT_WR)
            except (BrokenPipeError, ConnectionResetError):
                pass  # refused before all was sent
            return self.read_answer(sock.makefile("rb"))

    @staticmethod
    def read_answer(file):
        line = file.readline()
        if not line:
            return None, None
        length = 0
        while header := file.readline().strip():
            name, value = header.split(b":", 1)
            if name.lower() == b"content-length":
                length = int(value)
        body = file.read(length)
        return int(line.split()[1]), json.loads(body) if body else None

    def post(self, path, body):
        data = body if isinstance(body, bytes) else json.dumps(body).encode()
        return self.exchange(head(path, len(data)) + data)

    def refused(self, body, *words, status=400, path="/v1/completions"):
        found, answer = self.post(path, body)
        shown = body if len(body) < 200 else f"{len(body)} bytes"
        self.assertEqual(found, status, (shown, answer))
        for word in words:
            self.assertIn(word, answer["error"]["message"], shown)

    def test_malformed_json(self):
        for body in (b"", b"{", b"{\"prompt\": }", b"{\"prompt\": \"x\"", b"null", b"[]", b"3", b"\"x\"", b"{}{}",
                     b"{\"prompt\": \"\\ud800\"}", b"{\"prompt\": \"\xff\xfe\"}", b"\x00", b"{\"temperature\": NaN}",
                     b"{\"temperature\": Infinity}", b"{\"temperature\": 1e999}", b"{'prompt': 1}", b"\xef\xbb\xbf{"):
            for path in "/v1/completions", "/v1/chat/completions", "/tokenize", "/detokenize":
                self.refused(body, path=path)

    def test_brackets_and_values_without_end(self):
        self.refused(b"[" * 100_000, "nested deeper than 64")
        self.refused(b"{\"a\":" * 1_000_000, "nested deeper than 64")
        self.refused(b"{\"prompt\": [" + b"1," * 5_000_000 + b"1]}", "more than 2000000 values")

    def test_wrong_types_and_numbers_beyond_all_ranges(self):
        wrong = {"prompt": [None, 7, {}, [], [[]], [1, "x"], [1.5], [-1], [2**40], [[1], "x", 3]],
                 "max_tokens": ["5", -1, 0, 2**31, 2**64, 1e300, 1.5, [], True], "temperature": ["hot", -1, 1e30, [], {}],
                 "top_p": [0, -1, 2, "x"], "top_k": [-2, 1.5, 2**31, "x"], "min_p": [-1, 2, "x"],
                 "n": [0, -1, 129, 2**40, "x"], "seed": [1.5, "x", 2**64, []], "stop": [7, [7], [""], ["x"] * 17, {}],
                 "logprobs": [-1, 21, True, "x"], "logit_bias": [[], {"x": 1}, {"5": "x"}, {"-1": 1}, {"99999999": 1},
                                                                {"5": 1e9}],
                 "presence_penalty": [-3, 3, "x"], "frequency_penalty": [-3, 3], "repetition_penalty": [0, -1, 101],
                 "min_tokens": [-1, 2**20, "x"], "stop_token_ids": [[-1], 7, ["x"], [2**33]], "ignore_eos": ["yes", 1],
                 "stream": ["yes", 1], "priority": [2**31, "x"], "echo": [3], "model": [3, "unknown"],
                 "stream_options": [{"include_usage": True}, 3], "user": [3], "no_such_field": [1]}
        for name, values in wrong.items():
            for value in values:
                body = {"prompt": "Once", "max_tokens": 2, name: value}
                if name == "stream_options" and value == 3:
                    body["stream"] = True
                status, answer = self.post("/v1/completions", body)
                with self.subTest(field=name, value=str(value)[:50]):
                    self.assertEqual(status, 404 if value == "unknown" else 400, answer)
                    self.assertIn("error", answer)

    def test_conversations_that_are_none(self):
        for messages in (None, [], {}, "x", [3], [{}], [{"role": "user"}], [{"content": "x"}], [{"role": 1, "content": "x"}],
                         [{"role": "user", "content": 3}], [{"role": "user", "content": [{"type": "image_url"}]}],
                         [{"role": "wizard", "content": "x"}], [{"role": "user", "content": "x", "tool_calls": []}]):
            self.refused(json.dumps({"messages": messages}).encode(), path="/v1/chat/completions")
        self.refused(json.dumps({"messages": [{"role": "user", "content": "x"}], "chat_template_kwargs": 3}).encode(),
                     path="/v1/chat/completions")

    def test_bodies_and_texts_that_are_too_large(self):
        self.assertEqual(self.exchange(head("/v1/completions", 64 * MIB + 1))[0], 413)
        text = b"{\"prompt\": \"" + b"a" * (64 * MIB - 100) + b"\"}"
        self.refused(text, "bytes; the context of 2048 tokens has room for 524288")
        self.refused(text, "bytes; the context", path="/tokenize")
        self.refused(b"{\"prompt\": \"" + b"a " * 100_000 + b"\"}", "the context of 2048 tokens")
        chunk = b"100000\r\n" + b" " * MIB + b"\r\n"
        chunks = [head("/v1/completions", more="Transfer-Encoding: chunked\r\n")] + [chunk] * 70
        self.assertEqual(self.exchange(*chunks)[0], 413)

    def test_http_that_is_none(self):
        for data in (b"GARBAGE\r\n\r\n", b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03\r\n\r\n", b"GET\r\n\r\n",
                     b"GET / HTTP/9.9\r\n\r\n", b"POST /v1/completions HTTP/1.1\r\nContent-Length: -5\r\n\r\n",
                     b"POST /v1/completions HTTP/1.1\r\nContent-Length: 99999999999999999999\r\n\r\n",
                     b"POST /v1/completions HTTP/1.1\r\nContent-Length: 5\r\nContent-Length: 6\r\n\r\n",
                     b"POST /v1/completions HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n",
                     b"GET / HTTP/1.1\r\nno colon\r\n\r\n"):
            status, answer = self.exchange(data)
            self.assertIn(status, (400, 413), data)
            self.assertIn("error", answer)
        status, _ = self.exchange(b"GET / HTTP/1.1\r\nX: " + b"a" * 20_000 + b"\r\n\r\n")
        self.assertEqual(status, 431)
        self.assertEqual(self.exchange(head("/v1/completions", 2, content_type="text/plain") + b"{}")[0], 415)
        self.assertEqual(self.exchange(b"DELETE /v1/models HTTP/1.1\r\n\r\n")[0], 405)
        self.assertEqual(self.exchange(b"GET /../../etc/passwd HTTP/1.1\r\n\r\n")[0], 404)
        self.assertEqual(self.exchange(b"GET /v1/models/%zz HTTP/1.1\r\n\r\n")[0], 400)

    def test_requests_cut_short(self):
        for data in (b"", b"P", head("/v1/completions", 100) + b"{\"prompt\"", head("/v1/completions")[:40]):
            self.assertEqual(self.exchange(data, finish=True), (None, None))

    def test_slow_headers_and_bodies_time_out_and_hold_up_nobody(self):
        def slow(start, drip):
            with socket.create_connection(self.endpoint, timeout=30) as sock:
                sock.sendall(start)
                file = sock.makefile("rb")
                sock.settimeout(0.5)
                for _ in range(60):
                    try:
                        sock.sendall(drip)
                        return self.read_answer(file)[0]
                    except TimeoutError:
                        file = sock.makefile("rb")  # a timeout spoils the old one
                return None
        with concurrent.futures.ThreadPoolExecutor(20) as pool:
            answers = [pool.submit(slow, b"POST /v1/completions HTTP/1.1\r\nX: ", b"a") for _ in range(20)]
            self.assertEqual(self.post("/v1/completions", {"prompt": "Once", "max_tokens": 2})[0], 200)
            self.assertEqual({answer.result() for answer in answers}, {408})

    def test_many_idle_connections(self):
        idle = [socket.create_connection(self.endpoint) for _ in range(500)]
        self.assertEqual(self.post("/v1/completions", {"prompt": "Once", "max_tokens": 2})[0], 200)
        for sock in idle:
            sock.close()

    def test_requests_in_one_packet_are_answered_in_order(self):
        one = b"GET /version HTTP/1.1\r\n\r\n"
        with socket.create_connection(self.endpoint, timeout=30) as sock:
            sock.sendall(one * 3 + b"GET /health HTTP/1.1\r\n\r\n" + one)
            file = sock.makefile("rb")
            answers = [self.read_answer(file) for _ in range(5)]
        self.assertEqual([status for status, _ in answers], [200] * 5)
        self.assertEqual([body is None for _, body in answers], [False, False, False, True, False])

    def test_random_bytes_in_front_of_both_ports(self):
        draw = random.Random(7)
        host, port = self.cluster.address.split(":")
        for endpoint in self.endpoint, (host, int(port)):
            for _ in range(50):
                with socket.create_connection(endpoint, timeout=30) as sock:
                    sock.sendall(draw.randbytes(draw.randint(1, 3000)))

    def test_random_bytes_as_messages_of_every_method(self):
        draw = random.Random(8)
        methods = {"InferenceService": ["Generate", "Chat", "Tokenize", "Detokenize", "GetModel"],
                   "ClusterService": ["Join", "Execute"], "AdminService": ["GetTopology"]}
        with grpc.insecure_channel(self.cluster.address) as channel:
            for service, names in methods.items():
                for name in names:
                    for _ in range(30):
                        # Tag of a length-delimited field 1 or 2, so that some go beyond the first byte.
                        data = draw.choice([b"", b"\x0a", b"\x12\x05"]) + draw.randbytes(draw.randint(0, 200))
                        call = channel.stream_stream(f"/lockstep.v1.{service}/{name}")
                        try:
                            list(call(iter([data]), timeout=5))
                        except grpc.RpcError as error:
                            self.assertNotIn(error.code(), (grpc.StatusCode.UNKNOWN, grpc.StatusCode.UNAVAILABLE),
                                             (name, data))

    def test_grpc_message_beyond_the_limit(self):
        with grpc.insecure_channel(self.cluster.address) as channel:
            call = channel.unary_unary("/lockstep.v1.InferenceService/Tokenize")
            with self.assertRaises(grpc.RpcError) as caught:
                call(b"\x0a" + b"\xff" * (17 * MIB), timeout=30)
            self.assertEqual(caught.exception.code(), grpc.StatusCode.RESOURCE_EXHAUSTED)


if __name__ == "__main__":
    runner.main()
