// The rendezvous that the coordinator would do, in one process.
#include "worker/local_cluster.h"

#include <atomic>
#include <map>
#include <utility>

#include "absl/strings/str_cat.h"
#include "absl/time/clock.h"
#include "base/status_macros.h"

namespace lockstep::worker {
namespace {

// Groups of several clusters in one process must not meet.
std::atomic<uint64_t> cluster_count{0};

void AddGroup(v1::CollectiveGroup::Purpose purpose, const std::string& name,
              v1::Transport transport, int rank, int size, v1::Assignment& assignment) {
  v1::CollectiveGroup& group = *assignment.add_groups();
  group.set_purpose(purpose);
  group.set_name(name);
  group.set_transport(size == 1 ? v1::TRANSPORT_SOLO : transport);
  group.set_rank(rank);
  group.set_size(size);
}

v1::Assignment AssignmentOf(const LocalClusterOptions& options, const std::string& prefix,
                            int rank) {
  const int tp_rank = rank % options.tp_size;
  const int stage = rank / options.tp_size;
  v1::Assignment assignment;
  assignment.set_epoch(options.limits.epoch);
  assignment.set_rank(rank);
  assignment.set_tp_size(options.tp_size);
  assignment.set_pp_size(options.pp_size);
  assignment.set_tp_rank(tp_rank);
  assignment.set_pp_stage(stage);
  AddGroup(v1::CollectiveGroup::PURPOSE_TENSOR, absl::StrCat(prefix, "tp", stage),
           options.transport, tp_rank, options.tp_size, assignment);
  if (options.pp_size > 1) {
    AddGroup(v1::CollectiveGroup::PURPOSE_ACTIVATIONS, absl::StrCat(prefix, "pp", tp_rank),
             options.transport, stage, options.pp_size, assignment);
    AddGroup(v1::CollectiveGroup::PURPOSE_TOKENS, absl::StrCat(prefix, "ret", tp_rank),
             options.transport, stage, options.pp_size, assignment);
  }
  return assignment;
}

}  // namespace

absl::StatusOr<std::unique_ptr<LocalCluster>> LocalCluster::Create(
    const LocalClusterOptions& options, const model::WeightSource& source) {
  LocalClusterOptions with_vocabulary = options;
  with_vocabulary.limits.vocab_size = options.spec.vocab_size;
  std::unique_ptr<LocalCluster> cluster(new LocalCluster(with_vocabulary));
  LOCKSTEP_RETURN_IF_ERROR(cluster->Form(source));
  return cluster;
}

LocalCluster::~LocalCluster() { AbortAll("the local cluster ends"); }

absl::Status LocalCluster::Form(const model::WeightSource& source) {
  const std::string prefix = absl::StrCat("local", cluster_count.fetch_add(1), "-");
  const int64_t addends = options_.spec.hidden_size * options_.limits.max_batch_tokens;
  const int size = options_.tp_size * options_.pp_size;
  v1::CollectivePeers peers;
  for (int rank = 0; rank < size; ++rank) {
    Rank& entry = *ranks_.emplace_back(std::make_unique<Rank>());
    LOCKSTEP_ASSIGN_OR_RETURN(
        entry.setup,
        RankGroupsSetup::Create(AssignmentOf(options_, prefix, rank), addends, "127.0.0.1"));
    // Ranks come in order of their place in every group.
    for (const auto& [group, address] : entry.setup->addresses()) {
      (*peers.mutable_addresses_by_group())[group].add_addresses(address);
    }
    std::vector<int> cpus;
    if (rank < static_cast<int>(options_.cpus.size())) cpus = options_.cpus[rank];
    entry.thread = std::make_unique<ComputeThread>(std::move(cpus), options_.threads);
  }
  int formed = 0;
  absl::Status first_error;
  for (int rank = 0; rank < size; ++rank) {
    ranks_[rank]->thread->Post([&, rank](ComputeState& state) {
      absl::Status status = FormRank(rank, peers, source, state);
      std::lock_guard lock(mutex_);
      first_error.Update(status);
      ++formed;
      answered_.notify_all();
    });
  }
  std::unique_lock lock(mutex_);
  answered_.wait(lock, [&] { return formed == size; });
  return first_error;
}

absl::Status LocalCluster::FormRank(int rank, const v1::CollectivePeers& peers,
                                    const model::WeightSource& source, ComputeState& state) {
  Rank& entry = *ranks_[rank];
  const model::RankShard shard = model::MakeShard(options_.spec, options_.tp_size, options_.pp_size,
                                                  rank % options_.tp_size, rank / options_.tp_size);
  LOCKSTEP_RETURN_IF_ERROR(
      entry.setup->Connect(peers, absl::Now() + absl::Seconds(30), entry.progress));
  LOCKSTEP_ASSIGN_OR_RETURN(entry.weights,
                            LoadShardWeights(
                                options_.spec, shard, source, options_.dtype, state.pool,
                                [](int64_t, int64_t) {}, [] { return false; }));
  LOCKSTEP_ASSIGN_OR_RETURN(
      entry.runner,
      StepRunner::Create({options_.spec, shard, options_.dtype, options_.limits}, entry.weights,
                         entry.setup->groups(), state.pool, [] { return absl::OkStatus(); }));
  return absl::OkStatus();
}

void LocalCluster::Submit(const v1::StepBatch& batch) {
  for (const std::unique_ptr<Rank>& rank : ranks_) {
    rank->thread->Post([this, batch, entry = rank.get()](ComputeState&) {
      absl::StatusOr<v1::StepResult> result = entry->runner->Run(batch);
      // The others must not wait for this rank.
      if (!result.ok()) AbortAll(std::string(result.status().message()));
      std::lock_guard lock(mutex_);
      entry->results.push_back(std::move(result));
      answered_.notify_all();
    });
  }
}

absl::StatusOr<v1::StepResult> LocalCluster::Next() {
  const int reporting = options_.tp_size * (options_.pp_size - 1);
  std::unique_lock lock(mutex_);
  absl::Status error;
  v1::StepResult reported;
  uint64_t digest = 0;
  for (size_t i = 0; i < ranks_.size(); ++i) {
    auto& results = ranks_[i]->results;
    answered_.wait(lock, [&] { return !results.empty(); });
    absl::StatusOr<v1::StepResult> result = std::move(results.front());
    results.pop_front();
    // An abort that follows another rank's error says less than that error.
    if (!result.ok()) {
      if (error.ok() || absl::IsAborted(error)) error = result.status();
      continue;
    }
    if (i > 0 && result->state_digest() != digest) {
      error.Update(absl::InternalError("the ranks' states differ"));
    }
    digest = result->state_digest();
    if (static_cast<int>(i) == reporting) reported = *std::move(result);
  }
  if (!error.ok()) return error;
  return reported;
}

absl::StatusOr<v1::StepResult> LocalCluster::Run(const v1::StepBatch& batch) {
  Submit(batch);
  return Next();
}

void LocalCluster::AbortAll(const std::string& reason) {
  for (const std::unique_ptr<Rank>& rank : ranks_) {
    if (rank->setup) rank->setup->Abort(reason);
  }
}

}  // namespace lockstep::worker
