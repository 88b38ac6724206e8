"""What cannot work is refused with the rule, the numbers and what would be legal, and nobody dies of it."""
import json
import pathlib
import shutil
import struct
import subprocess
import tempfile
import unittest

from tests.harness import cluster, runner


def plan(*arguments):
    return cluster.ctl("plan", f"--model={cluster.DEMO_MODEL}", *arguments)


class IllegalPlanTest(unittest.TestCase):
    """By `plan`, which loads nothing, and by coordinatord, before it listens for any worker."""

    def _refused(self, arguments, *parts):
        result = plan(*arguments)
        self.assertNotEqual(result.returncode, 0, result.stdout)
        for part in parts:
            self.assertIn(part, result.stderr)

    def _coordinator_refuses(self, arguments, *parts):
        result = subprocess.run(
            [cluster.bin_dir() / "coordinatord", f"--model={cluster.DEMO_MODEL}", "--listen=127.0.0.1:0",
             *arguments], text=True, capture_output=True, timeout=60)
        self.assertEqual(result.returncode, 1)
        self.assertNotIn("listening", result.stdout)
        for part in parts:
            self.assertIn(part, result.stderr)

    def test_legal_plan_is_printed_with_every_rank(self):
        result = plan("--tp=2", "--pp=2", "--json")
        self.assertEqual(result.returncode, 0, result.stderr)
        self.assertEqual(len(json.loads(result.stdout)["ranks"]), 4)

    def test_tp3_with_8_heads(self):
        self._refused(["--tp=3"], "3", "8", "1, 2, 4, 8")
        self._coordinator_refuses(["--tp=3"], "1, 2, 4, 8")

    def test_tp16_with_8_heads(self):
        self._refused(["--tensor-parallel-size=16"], "16", "8", "1, 2, 4, 8")
        self._coordinator_refuses(["--tensor-parallel-size=16"], "1, 2, 4, 8")

    def test_pp5_with_4_layers(self):
        self._refused(["--pp=5"], "5", "4")
        self._coordinator_refuses(["--pipeline-parallel-size=5"], "4")

    def test_ffn_not_divisible(self):
        with tempfile.TemporaryDirectory() as directory:
            config = json.loads((cluster.DEMO_MODEL / "config.json").read_text())
            config["intermediate_size"] = 1001
            (pathlib.Path(directory) / "config.json").write_text(json.dumps(config))
            result = cluster.ctl("plan", f"--model={directory}", "--tp=2")
        self.assertNotEqual(result.returncode, 0)
        self.assertIn("1001", result.stderr)

    def test_too_little_memory_says_the_bytes(self):
        self._refused(["--device-memory=22MiB"], "22.00 MiB", "--context up to")

    def test_tp_across_nodes_names_the_flag(self):
        self._refused(["--tp=4", "--devices-per-node=2"], "--allow-cross-node-tp")
        self.assertEqual(plan("--tp=4", "--devices-per-node=2", "--allow-cross-node-tp").returncode, 0)


class TpAcrossNodesTest(unittest.TestCase):
    def test_two_workers_on_two_nodes_do_not_form_a_tp_group_and_status_says_why(self):
        with LooseCluster(cluster.DEMO_MODEL, "--tp=2", nodes=["north", "south"]) as loose:
            status = cluster.wait_until(lambda: loose.status_when(lambda s: len(s["workers"]) == 2))
            self.assertEqual(status["state"], "waiting")
            self.assertIn("--allow-cross-node-tp", status["detail"])
            self.assertTrue(all(worker["loaded_bytes"] == 0 for worker in status["workers"]))


class LooseCluster(cluster.Client):
    """coordinatord and one workerd per node name, without a supervisor that would hide a death."""

    def __init__(self, model, *arguments, nodes):
        self.directory = tempfile.TemporaryDirectory()
        port_file = pathlib.Path(self.directory.name) / "port"
        self.log = open(pathlib.Path(self.directory.name) / "log", "w+")
        self.processes = [self._start("coordinatord", f"--model={model}", "--listen=127.0.0.1:0",
                                      f"--port-file={port_file}", *arguments)]
        cluster.wait_until(lambda: port_file.exists() and port_file.read_text(), what="coordinator's port")
        super().__init__(f"127.0.0.1:{port_file.read_text().strip()}")
        for index, node in enumerate(nodes):
            self.processes.append(self._start("workerd", f"--coordinator={self.address}", "--device=cpu:0",
                                              f"--node={node}", f"--local-index={index}", "--threads=1"))

    def _start(self, name, *arguments):
        return subprocess.Popen([cluster.bin_dir() / name, *arguments], stdout=self.log, stderr=self.log)

    def status_when(self, condition):
        status = self.status()
        return status if status and condition(status) else None

    def all_alive(self):
        return all(process.poll() is None for process in self.processes)

    def __enter__(self):
        return self

    def __exit__(self, *_):
        for process in self.processes:
            process.terminate()
        for process in self.processes:
            process.wait(30)
        self.log.close()
        self.directory.cleanup()


class BrokenModelTest(unittest.TestCase):
    """Workers find it while they load: the cluster says so, every process lives on."""

    def setUp(self):
        self._directory = tempfile.TemporaryDirectory()
        self.addCleanup(self._directory.cleanup)
        self.model = pathlib.Path(self._directory.name) / "model"
        shutil.copytree(cluster.DEMO_MODEL, self.model)
        self.weights = self.model / "model.safetensors"
        for file in self.model.iterdir():
            file.chmod(0o644)

    def _header(self):
        data = self.weights.read_bytes()
        (length,) = struct.unpack("<Q", data[:8])
        return json.loads(data[8:8 + length]), data[8 + length:]

    def _write(self, header, body):
        text = json.dumps(header).encode()
        self.weights.write_bytes(struct.pack("<Q", len(text)) + text + body)

    def _fails_and_all_live(self, *parts):
        with LooseCluster(self.model, "--tp=2", nodes=["here", "here"]) as loose:
            status = cluster.wait_until(lambda: loose.status_when(lambda s: s["state"] == "failed"),
                                        what="state failed")
            for part in parts:
                self.assertIn(part, status["detail"])
            self.assertTrue(loose.all_alive())

    def test_truncated_file(self):
        self.weights.write_bytes(self.weights.read_bytes()[:-1000])
        self._fails_and_all_live("model.safetensors")

    def test_bit_flip_in_the_header(self):
        data = bytearray(self.weights.read_bytes())
        data[8 + 2] ^= 0x80
        self.weights.write_bytes(bytes(data))
        self._fails_and_all_live("model.safetensors")

    def test_bit_flips_that_make_a_weight_infinite(self):
        header, body = self._header()
        name = "model.layers.1.mlp.up_proj.weight"
        begin, _ = header[name]["data_offsets"]
        body = bytearray(body)
        body[begin:begin + 2] = struct.pack("<H", 0x7F80)
        self._write(header, bytes(body))
        self._fails_and_all_live(name)

    def test_header_that_lies_about_a_shape(self):
        header, body = self._header()
        name = "model.layers.0.self_attn.q_proj.weight"
        header[name]["shape"] = header[name]["shape"][::-1] + [1]
        self._write(header, body)
        self._fails_and_all_live(name)

    def test_header_that_points_beyond_the_file(self):
        header, body = self._header()
        name = "model.norm.weight"
        header[name]["data_offsets"] = [len(body), 2 * len(body)]
        self._write(header, body)
        self._fails_and_all_live(name)

    def test_missing_tensor(self):
        header, body = self._header()
        header["model.layers.0.mlp.up_proj.renamed"] = header.pop("model.layers.0.mlp.up_proj.weight")
        self._write(header, body)
        self._fails_and_all_live("model.layers.0.mlp.up_proj.weight")


class UnreadableModelTest(unittest.TestCase):
    """The coordinator finds it before it listens: one sentence, exit status 1."""

    def setUp(self):
        self._directory = tempfile.TemporaryDirectory()
        self.addCleanup(self._directory.cleanup)
        self.model = pathlib.Path(self._directory.name) / "model"
        shutil.copytree(cluster.DEMO_MODEL, self.model)
        for file in self.model.iterdir():
            file.chmod(0o644)

    def _refused(self, *parts):
        result = cluster.ctl("up", f"--model={self.model}", "--listen=127.0.0.1:0")
        self.assertEqual(result.returncode, 1, result.stderr)
        for part in parts:
            self.assertIn(part, result.stderr)

    def test_malformed_config(self):
        (self.model / "config.json").write_text("{\"architectures\": [")
        self._refused("config.json")

    def test_unknown_architecture(self):
        config = json.loads((self.model / "config.json").read_text())
        config["architectures"] = ["MambaForCausalLM"]
        config["model_type"] = "mamba"
        (self.model / "config.json").write_text(json.dumps(config))
        self._refused("MambaForCausalLM", "LlamaForCausalLM")

    def test_malformed_tokenizer(self):
        (self.model / "tokenizer.json").write_text("{\"version\": \"1.0\", \"model\": 7}")
        self._refused("tokenizer.json")

    def test_pickled_weights_are_refused_by_name(self):
        (self.model / "model.safetensors").unlink()
        (self.model / "pytorch_model.bin").write_bytes(b"PK")
        with LooseCluster(self.model, nodes=["here"]) as loose:
            status = cluster.wait_until(lambda: loose.status_when(lambda s: s["state"] == "failed"))
            self.assertIn("pytorch_model.bin", status["detail"])
            self.assertTrue(loose.all_alive())

    def test_quantized_model_is_refused_by_name(self):
        config = json.loads((self.model / "config.json").read_text())
        config["quantization_config"] = {"quant_method": "awq", "bits": 4}
        (self.model / "config.json").write_text(json.dumps(config))
        self._refused("awq")

    def test_missing_model_says_where_was_looked(self):
        result = cluster.ctl("up", "--model=nobody/nothing", "--listen=127.0.0.1:0")
        self.assertEqual(result.returncode, 1)
        self.assertIn("nobody/nothing", result.stderr)


if __name__ == "__main__":
    runner.main()
