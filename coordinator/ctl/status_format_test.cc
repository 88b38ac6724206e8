// Claims on how a cluster is shown.
#include "coordinator/ctl/status_format.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "nlohmann/json.hpp"

namespace lockstep::coordinator {
namespace {

using ::testing::HasSubstr;
using ::testing::Not;

v1::GetTopologyResponse ServingTopology() {
  v1::GetTopologyResponse topology;
  topology.set_state(v1::CLUSTER_STATE_SERVING);
  topology.set_epoch(7);
  topology.set_model("demo");
  topology.set_tp_size(2);
  topology.set_pp_size(1);
  v1::WorkerStatus* rank = topology.add_workers();
  rank->set_rank(0);
  rank->set_node("north");
  rank->set_layer_begin(0);
  rank->set_layer_end(4);
  rank->set_weight_bytes(3 << 20);
  rank->set_last_step_ns(2'500'000);
  rank->mutable_progress()->set_phase(v1::PHASE_WAITING_FOR_PEER);
  v1::CollectiveGroup* group = rank->add_groups();
  group->set_purpose(v1::CollectiveGroup::PURPOSE_TENSOR);
  group->set_transport(v1::TRANSPORT_SHM);
  v1::WorkerStatus* spare = topology.add_workers();
  spare->set_node("south");
  return topology;
}

TEST(StatusFormatTest, TableShowsEpochPlanStateLayersStepAndCollective) {
  std::string text = FormatStatus(ServingTopology());
  for (const char* part : {"serving", "epoch 7", "TP 2 x PP 1", "north", "waiting-for-peer", "0-3",
                           "3.00 MiB", "2.50 ms", "tp shm", "spare"}) {
    EXPECT_THAT(text, HasSubstr(part));
  }
}

TEST(StatusFormatTest, WorkerWithoutHeartbeatIsSilentWhateverItSaidLast) {
  v1::WorkerStatus worker;
  worker.set_rank(3);
  worker.mutable_progress()->set_phase(v1::PHASE_COMPUTING);
  EXPECT_EQ(WorkerState(worker), "computing");
  worker.set_heartbeat_age_us(2'000'001);
  EXPECT_EQ(WorkerState(worker), "silent");
}

TEST(StatusFormatTest, JsonParsesEvenWithBrokenUtf8AndOmitsTheRankOfASpare) {
  v1::GetTopologyResponse topology = ServingTopology();
  topology.mutable_workers(1)->set_device("\xff\xfe");
  nlohmann::json json = nlohmann::json::parse(FormatStatusJson(topology));
  EXPECT_EQ(json["workers"][0]["rank"], 0);
  EXPECT_EQ(json["workers"][0]["layers"], nlohmann::json({0, 4}));
  EXPECT_FALSE(json["workers"][1].contains("rank"));
}

TEST(StatusFormatTest, ProgressLineShowsLoadOfRanksThatLoad) {
  v1::GetTopologyResponse topology = ServingTopology();
  topology.set_state(v1::CLUSTER_STATE_FORMING);
  topology.mutable_workers(0)->set_loaded_bytes(1);
  topology.mutable_workers(0)->set_total_bytes(4);
  EXPECT_THAT(FormatProgressLine(topology), HasSubstr("rank 0 25%"));
  EXPECT_THAT(FormatProgressLine(topology), Not(HasSubstr("rank 1")));
}

}  // namespace
}  // namespace lockstep::coordinator
