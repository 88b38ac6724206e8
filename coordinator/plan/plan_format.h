// A division of a model over ranks, for people and for programs. Pure functions.
#ifndef LOCKSTEP_COORDINATOR_PLAN_PLAN_FORMAT_H_
#define LOCKSTEP_COORDINATOR_PLAN_PLAN_FORMAT_H_

#include <string>

#include "absl/status/status.h"
#include "model/decoder_spec.h"
#include "model/parallel_plan.h"

namespace lockstep::coordinator {

/// Two lines on the model and the division, a table with one row per rank (inclusive ranges:
/// "0-19"), and what the KV cache holds.
std::string FormatPlan(const model::DecoderSpec& spec, const model::ParallelPlan& plan);

/// One JSON object, ended by a newline. Ranges are [begin, end) pairs, sizes bytes and tokens.
std::string FormatPlanJson(const model::DecoderSpec& spec, const model::ParallelPlan& plan);

/// A refusal as one JSON object: {"refused": message, "legal_tp_sizes": [..], "legal_pp_sizes":
/// [..]}, the sizes being those that model and nodes allow, memory aside.
std::string FormatRefusalJson(const model::DecoderSpec& spec, const model::PlanRequest& request,
                              const absl::Status& refusal);

}  // namespace lockstep::coordinator

#endif  // LOCKSTEP_COORDINATOR_PLAN_PLAN_FORMAT_H_
