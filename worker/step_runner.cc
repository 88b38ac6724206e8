// The step as a flat list: apply, resolve tokens, forward, choose, deliver, report.
#include "worker/step_runner.h"

#include <algorithm>
#include <span>
#include <utility>

#include "base/status_macros.h"

namespace lockstep::worker {
namespace {

/// The rows that logits are wanted of, ascending, each once.
std::vector<int64_t> ReadRows(const Step& step) {
  std::vector<int64_t> rows;
  for (const Step::Sample& sample : step.samples) rows.push_back(sample.row);
  for (const Step::Score& score : step.scores) rows.push_back(score.row);
  std::sort(rows.begin(), rows.end());
  rows.erase(std::unique(rows.begin(), rows.end()), rows.end());
  return rows;
}

LogitRow RowOf(const Step::Sample& sample) {
  const Sequence& sequence = *sample.sequence;
  return {.sampling = &sequence.sampling,
          .position = sample.position,
          .logprob = sequence.logprobs,
          .alternatives = sequence.top_logprobs,
          .counts = sequence.counts ? &*sequence.counts : nullptr,
          .generated = std::max<int64_t>(0, sample.position - sequence.prompt_tokens)};
}

void SetAlternatives(std::span<const ScoredToken> tokens, v1::TokenAlternatives& message) {
  for (const ScoredToken& token : tokens) {
    message.add_token_ids(token.token);
    message.add_logprobs(token.logprob);
  }
}

}  // namespace

StepRunner::StepRunner(const StepRunnerOptions& options, RankGroups& groups,
                       kernels::ThreadPool& pool, CheckpointFn checkpoint, KvPool kv)
    : options_(options),
      groups_(groups),
      checkpoint_(std::move(checkpoint)),
      kv_(std::move(kv)),
      table_(options.limits),
      token_return_(options.shard, groups.tokens.get()),
      sampler_(options.shard.vocab, options.spec.vocab_size, *groups.tensor, pool) {}

absl::StatusOr<std::unique_ptr<StepRunner>> StepRunner::Create(const StepRunnerOptions& options,
                                                               const ShardWeights& weights,
                                                               RankGroups& groups,
                                                               kernels::ThreadPool& pool,
                                                               CheckpointFn checkpoint) {
  const kernels::KvLayout layout{static_cast<int>(options.shard.kv_heads.size()),
                                 options.spec.attention.head_dim, options.dtype};
  LOCKSTEP_ASSIGN_OR_RETURN(
      KvPool kv, KvPool::Create(options.shard.layers.size(), options.limits.kv_blocks, layout));
  std::unique_ptr<StepRunner> runner(
      new StepRunner(options, groups, pool, std::move(checkpoint), std::move(kv)));
  LOCKSTEP_ASSIGN_OR_RETURN(
      runner->decoder_,
      Decoder::Create(options.spec, options.shard, weights, runner->kv_, *groups.tensor, pool,
                      options.limits.max_batch_tokens, runner->checkpoint_));
  return runner;
}

absl::StatusOr<v1::StepResult> StepRunner::Run(const v1::StepBatch& batch) {
  LOCKSTEP_ASSIGN_OR_RETURN(Step step, table_.Apply(batch));
  LOCKSTEP_RETURN_IF_ERROR(token_return_.Resolve(step, table_));
  std::vector<Choice> choices;
  if (step.rows() > 0) {
    const std::vector<int64_t> read = ReadRows(step);
    LOCKSTEP_RETURN_IF_ERROR(Forward(step, read));
    if (options_.shard.has_head) {
      LOCKSTEP_ASSIGN_OR_RETURN(choices, ChooseTokens(step, read));
    }
  }
  std::vector<int32_t> sampled;
  if (options_.shard.has_head) {
    for (size_t i = 0; i < step.samples.size(); ++i) sampled.push_back(choices[i].token);
  }
  table_.CountSampled(step, sampled);
  LOCKSTEP_RETURN_IF_ERROR(token_return_.Deliver(step, sampled));

  v1::StepResult result;
  result.set_epoch(batch.epoch());
  result.set_step_id(batch.step_id());
  result.set_state_digest(table_.Digest());
  if (options_.shard.has_head && options_.shard.tp_rank == 0) Report(step, choices, result);
  return result;
}

absl::Status StepRunner::Forward(const Step& step, std::span<const int64_t> read) {
  const model::RankShard& shard = options_.shard;
  const kernels::Matrix hidden = decoder_->hidden(step.rows());
  const std::span<float> values(hidden.data, hidden.rows * hidden.cols);
  if (shard.has_embedding) {
    LOCKSTEP_RETURN_IF_ERROR(decoder_->Embed(step.tokens));
  } else {
    LOCKSTEP_RETURN_IF_ERROR(
        groups_.activations->Receive(shard.pp_stage - 1, std::as_writable_bytes(values)));
  }
  if (shard.has_head) {
    return decoder_->RunLayers(step.positions, step.sequences, read);
  }
  LOCKSTEP_RETURN_IF_ERROR(decoder_->RunLayers(step.positions, step.sequences));
  return groups_.activations->Send(shard.pp_stage + 1, std::as_bytes(values));
}

absl::StatusOr<std::vector<Choice>> StepRunner::ChooseTokens(const Step& step,
                                                             std::span<const int64_t> read) {
  const auto index_of = [&](int64_t row) {
    return std::lower_bound(read.begin(), read.end(), row) - read.begin();
  };
  std::vector<int64_t> indices;
  std::vector<LogitRow> rows;
  for (const Step::Sample& sample : step.samples) {
    indices.push_back(index_of(sample.row));
    rows.push_back(RowOf(sample));
  }
  for (const Step::Score& score : step.scores) {
    indices.push_back(index_of(score.row));
    rows.push_back({.target = score.target, .alternatives = score.alternatives});
  }
  std::vector<Choice> choices;
  for (size_t begin = 0; begin < rows.size(); begin += Decoder::kMaxLogitRows) {
    size_t count = std::min<size_t>(rows.size() - begin, Decoder::kMaxLogitRows);
    kernels::ConstMatrix logits = decoder_->Logits(std::span(indices).subspan(begin, count));
    LOCKSTEP_ASSIGN_OR_RETURN(
        std::vector<Choice> chosen,
        sampler_.Choose(logits, std::span<const LogitRow>(rows).subspan(begin, count)));
    choices.insert(choices.end(), chosen.begin(), chosen.end());
    LOCKSTEP_RETURN_IF_ERROR(checkpoint_());
  }
  return choices;
}

void StepRunner::Report(const Step& step, std::span<const Choice> choices,
                        v1::StepResult& result) const {
  for (size_t i = 0; i < step.samples.size(); ++i) {
    v1::SampledToken& sampled = *result.add_sampled();
    sampled.set_sequence_id(step.samples[i].sequence->id);
    sampled.set_token_id(choices[i].token);
    if (step.samples[i].sequence->logprobs) sampled.set_logprob(choices[i].logprob);
    if (step.samples[i].sequence->top_logprobs > 0) {
      SetAlternatives(choices[i].alternatives, *sampled.mutable_top_logprobs());
    }
  }
  std::span<const Choice> scores = choices.subspan(step.samples.size());
  for (const Step::ScoreRange& range : step.score_ranges) {
    v1::PromptLogprobs& logprobs = *result.add_prompt_logprobs();
    logprobs.set_sequence_id(range.sequence_id);
    logprobs.set_first_position(static_cast<uint32_t>(range.first_position));
    for (const Choice& choice : scores.subspan(range.first, range.count)) {
      logprobs.add_logprobs(choice.logprob);
      if (!choice.alternatives.empty()) {
        SetAlternatives(choice.alternatives, *logprobs.add_top_logprobs());
      }
    }
  }
}

}  // namespace lockstep::worker
