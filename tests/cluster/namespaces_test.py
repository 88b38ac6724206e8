"""TP 4 over two network namespaces joined by veth, each with its own address: two machines in all but name."""
import os
import subprocess
import unittest

from tests.cluster import plans_test
from tests.harness import cluster, runner

ADDRESSES = ["10.77.0.1", "10.77.0.2"]


def _ip(*arguments):
    subprocess.run(["ip", *arguments], check=True)


class TwoNamespaces:
    """Two namespaces with a veth pair between them; removed at the end with all that runs in them."""

    def __enter__(self):
        self.names = [f"lockstep-{os.getpid()}-{i}" for i in range(2)]
        links = [f"ls{os.getpid() % 100000}v{i}" for i in range(2)]
        for name in self.names:
            _ip("netns", "add", name)
        _ip("link", "add", links[0], "netns", self.names[0], "type", "veth", "peer", "name", links[1], "netns",
            self.names[1])
        for name, link, address in zip(self.names, links, ADDRESSES):
            _ip("-n", name, "addr", "add", f"{address}/24", "dev", link)
            _ip("-n", name, "link", "set", link, "up")
            _ip("-n", name, "link", "set", "lo", "up")
        return self

    def enter(self, index):
        return ["ip", "netns", "exec", self.names[index]]

    def __exit__(self, *_):
        for name in self.names:
            _ip("netns", "delete", name)


@unittest.skipUnless(os.geteuid() == 0, "network namespaces need root")
class NamespacesTest(unittest.TestCase):
    def test_tp4_over_two_namespaces_gives_the_tokens_of_tp1_in_fp32(self):
        with cluster.Cluster(dtype="fp32") as one:
            reference = plans_test.all_prompts(one, max_tokens=plans_test.TOKENS, ignore_eos=True)
        with TwoNamespaces() as net:
            answers, status = self._run(net)
        self.assertEqual(plans_test.token_ids(answers), plans_test.token_ids(reference))
        self.assertEqual([worker["node"] for worker in status["workers"]], ["ns0", "ns0", "ns1", "ns1"])
        self.assertEqual({worker["collectives"] for worker in status["workers"]}, {"tp tcp"})

    def _run(self, net):
        bin_dir = cluster.bin_dir()
        address = f"{ADDRESSES[0]}:50051"
        children = [subprocess.Popen(
            [*net.enter(0), bin_dir / "coordinatord", f"--model={cluster.DEMO_MODEL}", "--tp=4", "--dtype=fp32",
             "--allow-cross-node-tp", f"--listen={address}", "--insecure"])]
        for index in range(2):
            children.append(subprocess.Popen(
                [*net.enter(index), bin_dir / "workerd", f"--coordinator={address}", "--devices=cpu:0,cpu:1",
                 f"--node=ns{index}", "--insecure"]))
        try:
            client = cluster.Client(address, prefix=net.enter(0))
            status = cluster.wait_until(client.serving, what="serving over two namespaces")
            return plans_test.all_prompts(client, max_tokens=plans_test.TOKENS, ignore_eos=True), status
        finally:
            children[0].terminate()  # takes its workers along
            for child in children:
                child.wait(30)


if __name__ == "__main__":
    runner.main()
