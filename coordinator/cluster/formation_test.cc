// The state machine, driven by literal lists of events.
#include "coordinator/cluster/formation.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "coordinator/cluster/testing/small_cluster.h"

namespace lockstep::coordinator {
namespace {

using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::IsEmpty;

constexpr absl::Time kStart = absl::UnixEpoch();

WorkerInfo Worker(uint64_t id, const std::string& node = "a") {
  return {.worker_id = "w" + std::to_string(id),
          .node = node,
          .shm_domain = node,
          .device = "cpu:" + std::to_string(id),
          .local_index = static_cast<uint32_t>(id),
          .memory_bytes = 1 << 30};
}

std::string Text(const Command& command) {
  if (const auto* send = std::get_if<SendToWorker>(&command)) {
    std::string to = "w" + std::to_string(static_cast<uint64_t>(send->to)) + " ";
    switch (send->message.message_case()) {
      case v1::JoinResponse::kWelcome:
        return to + "welcome";
      case v1::JoinResponse::kAssignment:
        return to + "rank " + std::to_string(send->message.assignment().rank()) + " of epoch " +
               std::to_string(send->message.assignment().epoch());
      case v1::JoinResponse::kPeers:
        return to + "peers";
      case v1::JoinResponse::kAbortEpoch:
        return to + "abort " + std::to_string(send->message.abort_epoch().epoch());
      case v1::JoinResponse::kShutdown:
        return to + "shutdown";
      default:
        return to + "?";
    }
  }
  if (const auto* serving = std::get_if<EpochServing>(&command)) {
    return "serving " + std::to_string(serving->limits.epoch);
  }
  const EpochEnded& ended = std::get<EpochEnded>(command);
  return (ended.served ? "lost " : "ended ") + std::to_string(ended.epoch);
}

std::vector<std::string> Texts(const Commands& commands) {
  std::vector<std::string> texts;
  for (const Command& command : commands) texts.push_back(Text(command));
  return texts;
}

/// A formation with shorthand for the events of well-behaved workers w0, w1, ...
class FormationTest : public ::testing::Test {
 protected:
  void Make(int tp, int pp, int replicas = 1) {
    ClusterConfig config = SmallClusterConfig(tp, pp);
    config.replicas = replicas;
    formation_.emplace(std::move(config));
  }

  std::vector<std::string> Register(uint64_t id, const std::string& node = "a") {
    return Texts(formation_->WorkerRegistered(MemberId{id}, Worker(id, node), now_));
  }
  std::vector<std::string> Leave(uint64_t id) {
    return Texts(formation_->WorkerLeft(MemberId{id}, absl::CancelledError("gone"), now_));
  }
  std::vector<std::string> Addresses(uint64_t id, uint64_t epoch) {
    v1::CollectiveAddresses addresses;
    addresses.set_epoch(epoch);
    for (const char* group : {"tp0", "tp1", "pp0", "ret0"}) {
      (*addresses.mutable_address_by_group())[group] =
          std::string(group) + "@w" + std::to_string(id);
    }
    return Texts(formation_->AddressesTold(MemberId{id}, addresses, now_));
  }
  std::vector<std::string> Ready(uint64_t id, uint64_t epoch) {
    v1::Ready ready;
    ready.set_epoch(epoch);
    return Texts(formation_->RankReady(MemberId{id}, ready, now_));
  }
  std::vector<std::string> Open(uint32_t rank, uint64_t epoch) {
    v1::ExecuteHello hello;
    hello.set_epoch(epoch);
    hello.set_rank(rank);
    absl::StatusOr<Commands> commands = formation_->StreamOpened(hello, now_);
    if (!commands.ok()) return {std::string(commands.status().message())};
    return Texts(*commands);
  }
  std::vector<std::string> Fail(uint64_t id, uint64_t epoch, absl::StatusCode code) {
    v1::EpochFailed failed;
    failed.set_epoch(epoch);
    failed.set_code(static_cast<int>(code));
    failed.set_message("it went wrong");
    return Texts(formation_->RankFailed(MemberId{id}, failed, now_));
  }
  std::vector<std::string> Pass(absl::Duration time) {
    now_ += time;
    return Texts(formation_->TimePassed(now_));
  }
  /// w0 and w1 join and serve as epoch 1.
  void ServeWithTwo() {
    Register(0);
    Register(1);
    for (uint64_t id : {0, 1}) Addresses(id, 1);
    for (uint64_t id : {0, 1}) Ready(id, 1);
    Open(0, 1);
    Open(1, 1);
    ASSERT_EQ(formation_->state(), v1::CLUSTER_STATE_SERVING) << formation_->detail();
  }

  std::optional<Formation> formation_;
  absl::Time now_ = kStart;
};

TEST_F(FormationTest, FormsStepByStepAndServesWhenAllAreReadyAndConnected) {
  Make(2, 1);
  EXPECT_EQ(formation_->state(), v1::CLUSTER_STATE_WAITING);
  EXPECT_THAT(Register(0), ElementsAre("w0 welcome"));
  EXPECT_THAT(formation_->detail(), HasSubstr("waiting for 1 more worker"));
  EXPECT_THAT(Register(1),
              ElementsAre("w1 welcome", "w0 rank 0 of epoch 1", "w1 rank 1 of epoch 1"));
  EXPECT_EQ(formation_->state(), v1::CLUSTER_STATE_FORMING);
  EXPECT_THAT(Addresses(1, 1), IsEmpty());
  EXPECT_THAT(Addresses(0, 1), ElementsAre("w0 peers", "w1 peers"));
  EXPECT_THAT(Ready(0, 1), IsEmpty());
  EXPECT_THAT(Open(0, 1), IsEmpty());
  // A stream may overtake its rank's Ready.
  EXPECT_THAT(Open(1, 1), IsEmpty());
  EXPECT_THAT(formation_->detail(), HasSubstr("1 of 2 ranks ready"));
  EXPECT_THAT(Ready(1, 1), ElementsAre("serving 1"));
  EXPECT_EQ(formation_->state(), v1::CLUSTER_STATE_SERVING);
  EXPECT_EQ(formation_->NextDeadline(), std::nullopt);
}

TEST_F(FormationTest, AssignmentsCarryPlanModelGroupsAndLimits) {
  Make(1, 2);
  formation_->WorkerRegistered(MemberId{0}, Worker(0), now_);
  Commands commands = formation_->WorkerRegistered(MemberId{1}, Worker(1, "b"), now_);
  const v1::Assignment& last = std::get<SendToWorker>(commands[2]).message.assignment();
  EXPECT_EQ(last.rank(), 1);
  EXPECT_EQ(last.pp_size(), 2);
  EXPECT_EQ(last.pp_stage(), 1);
  EXPECT_EQ(last.tp_rank(), 0);
  EXPECT_EQ(last.model().directory(), "/models/small");
  EXPECT_EQ(last.kv_blocks(), 16);  // 4 sequences of 64 tokens
  EXPECT_EQ(last.max_batch_tokens(), 128);
  EXPECT_EQ(last.max_sequences(), 4);
  EXPECT_EQ(last.context_tokens(), 64);
  ASSERT_EQ(last.groups_size(), 3);
  EXPECT_EQ(last.groups(0).name(), "tp1");
  EXPECT_EQ(last.groups(0).transport(), v1::TRANSPORT_SOLO);
  EXPECT_EQ(last.groups(1).name(), "pp0");
  EXPECT_EQ(last.groups(1).transport(), v1::TRANSPORT_TCP);
  EXPECT_EQ(last.groups(1).rank(), 1);
  EXPECT_EQ(last.groups(1).size(), 2);
  EXPECT_EQ(last.groups(2).name(), "ret0");
}

TEST_F(FormationTest, PeersAreTheAddressesOfTheReceiversGroupsInOrderOfGroupRank) {
  Make(1, 2);
  Register(0);
  Register(1);
  Addresses(1, 1);
  v1::CollectiveAddresses addresses;
  addresses.set_epoch(1);
  (*addresses.mutable_address_by_group())["pp0"] = "zero";
  (*addresses.mutable_address_by_group())["ret0"] = "zero too";
  Commands commands = formation_->AddressesTold(MemberId{0}, addresses, now_);
  ASSERT_EQ(commands.size(), 2);
  const v1::CollectivePeers& peers = std::get<SendToWorker>(commands[0]).message.peers();
  EXPECT_THAT(peers.addresses_by_group().at("pp0").addresses(), ElementsAre("zero", "pp0@w1"));
  EXPECT_THAT(peers.addresses_by_group().at("ret0").addresses(),
              ElementsAre("zero too", "ret0@w1"));
  EXPECT_FALSE(peers.addresses_by_group().contains("tp1"));
}

TEST_F(FormationTest, TheEpochExceedsEveryEpochThatAWorkerHasSeen) {
  Make(2, 1);
  WorkerInfo veteran = Worker(0);
  veteran.highest_epoch = 41;
  formation_->WorkerRegistered(MemberId{0}, veteran, now_);
  EXPECT_THAT(Register(1),
              ElementsAre("w1 welcome", "w0 rank 0 of epoch 42", "w1 rank 1 of epoch 42"));
}

TEST_F(FormationTest, ALostWorkerEndsTheEpochAndItsSuccessorFormsTheNext) {
  Make(2, 1);
  ServeWithTwo();
  EXPECT_THAT(Leave(1), ElementsAre("w0 abort 1", "lost 1"));
  EXPECT_EQ(formation_->state(), v1::CLUSTER_STATE_WAITING);
  EXPECT_THAT(Register(2), ElementsAre("w2 welcome"));
  EXPECT_THAT(Pass(absl::Seconds(1)), ElementsAre("w0 rank 0 of epoch 2", "w2 rank 1 of epoch 2"));
}

TEST_F(FormationTest, WithoutASuccessorItWaitsAndSaysWhatIsMissingAndWhatHappened) {
  Make(2, 1);
  ServeWithTwo();
  Leave(1);
  EXPECT_THAT(Pass(absl::Seconds(1)), IsEmpty());
  EXPECT_THAT(formation_->detail(), HasSubstr("waiting for 1 more worker"));
  EXPECT_THAT(formation_->detail(), HasSubstr("rank 1 (cpu:1 on node a) has left"));
  EXPECT_EQ(formation_->NextDeadline(), std::nullopt);
}

TEST_F(FormationTest, ASpareTakesOver) {
  Make(2, 1);
  ServeWithTwo();
  EXPECT_THAT(Register(2), ElementsAre("w2 welcome"));
  EXPECT_THAT(Leave(0), ElementsAre("w1 abort 1", "lost 1"));
  EXPECT_THAT(Pass(absl::Seconds(1)), ElementsAre("w1 rank 0 of epoch 2", "w2 rank 1 of epoch 2"));
}

TEST_F(FormationTest, ASpareThatLeavesDisturbsNobody) {
  Make(2, 1);
  ServeWithTwo();
  Register(2);
  EXPECT_THAT(Leave(2), IsEmpty());
  EXPECT_EQ(formation_->state(), v1::CLUSTER_STATE_SERVING);
}

TEST_F(FormationTest, AClosedExecuteStreamEndsTheEpochAndTheSameWorkersFormAgain) {
  Make(2, 1);
  ServeWithTwo();
  EXPECT_THAT(Texts(formation_->StreamClosed(1, 0, absl::CancelledError("broken"), now_)),
              ElementsAre("w0 abort 1", "w1 abort 1", "lost 1"));
  EXPECT_THAT(Pass(absl::Milliseconds(99)), IsEmpty());
  EXPECT_THAT(Pass(absl::Milliseconds(1)),
              ElementsAre("w0 rank 0 of epoch 2", "w1 rank 1 of epoch 2"));
}

TEST_F(FormationTest, WrongStepsEndTheEpoch) {
  Make(2, 1);
  ServeWithTwo();
  EXPECT_THAT(Texts(formation_->StepsFailed(1, absl::InternalError("digest"), now_)),
              ElementsAre("w0 abort 1", "w1 abort 1", "lost 1"));
}

TEST_F(FormationTest, StaleEventsAreDropped) {
  Make(2, 1);
  ServeWithTwo();
  formation_->StreamClosed(1, 0, absl::CancelledError("broken"), now_);
  Pass(absl::Seconds(1));
  EXPECT_THAT(Addresses(0, 1), IsEmpty());
  EXPECT_THAT(Ready(0, 1), IsEmpty());
  EXPECT_THAT(Fail(0, 1, absl::StatusCode::kInternal), IsEmpty());
  EXPECT_THAT(Texts(formation_->StreamClosed(1, 1, absl::CancelledError(""), now_)), IsEmpty());
  EXPECT_THAT(Texts(formation_->StepsFailed(1, absl::InternalError(""), now_)), IsEmpty());
  EXPECT_EQ(formation_->state(), v1::CLUSTER_STATE_FORMING);
  EXPECT_EQ(formation_->replica(0).epoch()->number(), 2);
}

TEST_F(FormationTest, StreamsAreRefusedForAStaleEpochAnUnknownRankAndASecondTime) {
  Make(2, 1);
  EXPECT_THAT(Open(0, 1), ElementsAre(HasSubstr("no epoch stands")));
  Register(0);
  Register(1);
  EXPECT_THAT(Open(0, 1), ElementsAre(HasSubstr("takes no Execute streams")));
  Addresses(0, 1);
  Addresses(1, 1);
  EXPECT_THAT(Open(0, 7), ElementsAre(HasSubstr("epoch 7")));
  EXPECT_THAT(Open(2, 1), ElementsAre(HasSubstr("rank 2 is none")));
  EXPECT_THAT(Open(0, 1), IsEmpty());
  EXPECT_THAT(Open(0, 1), ElementsAre(HasSubstr("has one")));
}

TEST_F(FormationTest, APermanentFailureStopsUntilAWorkerComesOrGoes) {
  for (absl::StatusCode code : {absl::StatusCode::kInvalidArgument, absl::StatusCode::kNotFound,
                                absl::StatusCode::kDataLoss, absl::StatusCode::kUnimplemented,
                                absl::StatusCode::kFailedPrecondition}) {
    Make(2, 1);
    Register(0);
    Register(1);
    EXPECT_THAT(Fail(1, 1, code), ElementsAre("w0 abort 1", "w1 abort 1", "ended 1"));
    EXPECT_EQ(formation_->state(), v1::CLUSTER_STATE_FAILED);
    EXPECT_THAT(formation_->detail(), HasSubstr("rank 1 (cpu:1 on node a): it went wrong"));
    EXPECT_THAT(Pass(absl::Hours(1)), IsEmpty());
    EXPECT_THAT(Register(2),
                ElementsAre("w2 welcome", "w0 rank 0 of epoch 2", "w1 rank 1 of epoch 2"));
  }
}

TEST_F(FormationTest, OtherFailuresAreTriedAgainEverMoreSlowlyUntilItServes) {
  Make(1, 1);
  Register(0);
  uint64_t epoch = 1;
  for (int64_t pause_ms : {100, 200, 400, 800, 1600, 3200, 5000, 5000}) {
    Fail(0, epoch, absl::StatusCode::kUnavailable);
    EXPECT_EQ(formation_->NextDeadline(), now_ + absl::Milliseconds(pause_ms));
    EXPECT_THAT(Pass(absl::Milliseconds(pause_ms)),
                ElementsAre("w0 rank 0 of epoch " + std::to_string(++epoch)));
  }
  Addresses(0, epoch);
  Ready(0, epoch);
  EXPECT_THAT(Open(0, epoch), ElementsAre("serving " + std::to_string(epoch)));
  Fail(0, epoch, absl::StatusCode::kUnavailable);
  EXPECT_EQ(formation_->NextDeadline(), now_ + absl::Milliseconds(100));
}

TEST_F(FormationTest, AddressesThatDoNotComeInTimeEndTheEpochByName) {
  Make(2, 1);
  Register(0);
  Register(1);
  Addresses(0, 1);
  EXPECT_THAT(Pass(absl::Seconds(29)), IsEmpty());
  EXPECT_THAT(Pass(absl::Seconds(1)), ElementsAre("w0 abort 1", "w1 abort 1", "ended 1"));
  EXPECT_THAT(formation_->detail(), HasSubstr("waited for rank 1 (cpu:1 on node a)"));
}

TEST_F(FormationTest, LoadingMayTakeAsLongAsItMoves) {
  Make(1, 1);
  Register(0);
  Addresses(0, 1);
  v1::LoadProgress progress;
  progress.set_epoch(1);
  progress.set_total_bytes(1000);
  for (int i = 1; i <= 10; ++i) {
    EXPECT_THAT(Pass(absl::Seconds(29)), IsEmpty());
    progress.set_loaded_bytes(i);
    formation_->LoadProgressed(MemberId{0}, progress, now_);
  }
  v1::Progress heartbeat;
  heartbeat.set_epoch(1);
  heartbeat.set_phase(v1::PHASE_LOADING);
  EXPECT_THAT(Pass(absl::Seconds(29)), IsEmpty());
  formation_->HeartbeatCame(MemberId{0}, heartbeat, now_);
  EXPECT_THAT(Pass(absl::Seconds(29)), IsEmpty());
  formation_->LoadProgressed(MemberId{0}, progress, now_);  // the same bytes again
  heartbeat.set_age_us(29'000'000);                         // a pulse, but nothing moves
  formation_->HeartbeatCame(MemberId{0}, heartbeat, now_);
  EXPECT_THAT(Pass(absl::Seconds(1)), ElementsAre("w0 abort 1", "ended 1"));
}

TEST_F(FormationTest, TooLittleMemoryFailsBeforeAnyRankIsAssigned) {
  Make(1, 1);
  WorkerInfo small = Worker(0);
  small.memory_bytes = 1 << 20;
  EXPECT_THAT(Texts(formation_->WorkerRegistered(MemberId{0}, small, now_)),
              ElementsAre("w0 welcome"));
  EXPECT_EQ(formation_->state(), v1::CLUSTER_STATE_FAILED);
  EXPECT_THAT(formation_->detail(), HasSubstr("--memory-fraction"));
  Leave(0);
  EXPECT_EQ(formation_->state(), v1::CLUSTER_STATE_WAITING);
}

TEST_F(FormationTest, ANewWorkerDuringThePauseDoesNotShortenIt) {
  Make(1, 1);
  Register(0);
  Fail(0, 1, absl::StatusCode::kUnavailable);
  EXPECT_THAT(Register(1), ElementsAre("w1 welcome"));
  EXPECT_THAT(Pass(absl::Seconds(1)), ElementsAre("w0 rank 0 of epoch 2"));
}

TEST_F(FormationTest, ReplicasTakeTheirRanksInTurnAndEachHasAnEpochOfItsOwn) {
  Make(2, 1, 2);
  Register(0);
  EXPECT_THAT(Register(1),
              ElementsAre("w1 welcome", "w0 rank 0 of epoch 1", "w1 rank 1 of epoch 1"));
  EXPECT_THAT(formation_->detail(), HasSubstr("replica 1: waiting for 2 more workers"));
  EXPECT_THAT(formation_->detail(), HasSubstr("not counting 2 of other replicas"));
  Register(2);
  EXPECT_THAT(Register(3),
              ElementsAre("w3 welcome", "w2 rank 0 of epoch 2", "w3 rank 1 of epoch 2"));
  for (uint64_t id : {2, 3}) Addresses(id, 2);
  for (uint64_t id : {2, 3}) Ready(id, 2);
  Open(0, 2);
  EXPECT_THAT(Open(1, 2), ElementsAre("serving 2"));
  EXPECT_EQ(formation_->state(), v1::CLUSTER_STATE_SERVING);
  EXPECT_EQ(formation_->replica(0).state(), v1::CLUSTER_STATE_FORMING);
  EXPECT_EQ(formation_->ReplicaOf(2), 1);
}

TEST_F(FormationTest, AReplicaThatBreaksLeavesTheOtherAlone) {
  Make(1, 1, 2);
  for (uint64_t id : {0, 1}) {
    Register(id);
    Addresses(id, id + 1);
    Ready(id, id + 1);
    Open(0, id + 1);
  }
  EXPECT_THAT(Leave(0), ElementsAre("lost 1"));
  EXPECT_EQ(formation_->state(), v1::CLUSTER_STATE_SERVING);
  EXPECT_EQ(formation_->replica(1).state(), v1::CLUSTER_STATE_SERVING);
  EXPECT_THAT(Pass(absl::Seconds(1)), IsEmpty());
  EXPECT_THAT(Register(2), ElementsAre("w2 welcome", "w2 rank 0 of epoch 3"));
}

TEST_F(FormationTest, ASpareServesTheReplicaThatLacksAWorker) {
  Make(2, 1, 2);
  for (uint64_t id : {0, 1, 2, 3, 4}) Register(id);
  EXPECT_THAT(Leave(2), ElementsAre("w3 abort 2", "ended 2"));
  EXPECT_THAT(Pass(absl::Seconds(1)), ElementsAre("w3 rank 0 of epoch 3", "w4 rank 1 of epoch 3"));
}

TEST_F(FormationTest, ShutdownEndsTheEpochAndSendsEveryoneHome) {
  Make(2, 1);
  ServeWithTwo();
  Register(2);
  EXPECT_THAT(Texts(formation_->Shutdown("stop")),
              ElementsAre("w0 abort 1", "w1 abort 1", "lost 1", "w0 shutdown", "w1 shutdown",
                          "w2 shutdown"));
  EXPECT_THAT(Leave(0), IsEmpty());
  EXPECT_THAT(Pass(absl::Hours(1)), IsEmpty());
}

}  // namespace
}  // namespace lockstep::coordinator
