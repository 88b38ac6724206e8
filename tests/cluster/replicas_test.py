"""Several replicas behind one coordinator: requests spread over them, and one's loss is nobody else's."""
import concurrent.futures
import os
import unittest

from tests.harness import cluster, runner

REPLICAS = 2
LONG = 1500  # tokens: some seconds of work for the demo model


def by_replica(status):
    return {worker["replica"]: worker for worker in status["workers"] if "replica" in worker}


class ReplicasTest(unittest.TestCase):
    def test_requests_spread_and_the_same_prefix_returns_to_where_it_is_cached(self):
        with cluster.Cluster(replicas=REPLICAS, dtype="fp32") as served:
            prompts = [[100 + i] * 100 for i in range(6)]
            with concurrent.futures.ThreadPoolExecutor(len(prompts)) as pool:
                answers = list(pool.map(lambda ids: served.generate(token_ids=ids, temperature=0, max_tokens=50,
                                                                    ignore_eos=True), prompts))
            replicas = served.status()["replicas"]
            self.assertEqual([replica["state"] for replica in replicas], ["serving"] * REPLICAS)
            for replica in replicas:
                self.assertGreater(replica["finished_requests"], 0, "a replica got nothing to do")
            for prompt, answer in zip(prompts, answers):
                again = served.generate(token_ids=prompt, temperature=0, max_tokens=50, ignore_eos=True)
                self.assertEqual(again["token_ids"], answer["token_ids"])
                self.assertEqual(again["finish"]["cached_tokens"], 96)

    def test_losing_one_replica_leaves_the_others_requests_and_epoch_alone(self):
        with cluster.Cluster(replicas=REPLICAS, dtype="fp32") as served:
            before = served.status()
            pids = {replica: worker["pid"] for replica, worker in by_replica(before).items()}
            self.assertEqual(set(pids), set(range(REPLICAS)))
            with concurrent.futures.ThreadPoolExecutor(2) as pool:
                running = [pool.submit(served.generate, "Once", temperature=0, max_tokens=LONG, ignore_eos=True)
                           for _ in range(2)]
                cluster.wait_until(lambda: [r["running_requests"] for r in served.status()["replicas"]] == [1, 1],
                                   what="a request on each replica")
                os.kill(pids[0], 9)
                answers = [request.result() for request in running]
            # The one that lost its ranks was computed again from its tokens; nobody lost any.
            self.assertEqual(answers[0]["token_ids"], answers[1]["token_ids"])
            self.assertEqual(len(answers[0]["token_ids"]), LONG)
            after = cluster.wait_until(
                lambda: (s := served.status()) and all(r["state"] == "serving" for r in s["replicas"]) and s,
                what="both replicas")
            self.assertEqual(after["replicas"][1]["epoch"], before["replicas"][1]["epoch"])
            self.assertEqual(by_replica(after)[1]["pid"], pids[1])
            self.assertGreater(after["replicas"][0]["epoch"], before["replicas"][0]["epoch"])
            self.assertEqual([r["kv_blocks_used"] for r in after["replicas"]], [0, 0])


if __name__ == "__main__":
    runner.main()
