// Which TP and PP sizes a model and its nodes allow, memory aside.
#ifndef LOCKSTEP_MODEL_PLAN_RULES_H_
#define LOCKSTEP_MODEL_PLAN_RULES_H_

#include <string>
#include <vector>

#include "absl/status/status.h"
#include "model/decoder_spec.h"
#include "model/plan_request.h"

namespace lockstep::model {

/// The TP (PP) sizes that are legal for the model on their own, ascending. TP: at most the heads;
/// divides the heads and the FFN; divides the KV heads or is a multiple of them (then they are
/// replicated); leaves every rank a row of the vocabulary. PP: from 1 to the layers, which are
/// balanced where PP does not divide them.
std::vector<int> LegalTpSizes(const DecoderSpec& spec);
std::vector<int> LegalPpSizes(const DecoderSpec& spec);

/// The legal TP sizes that the request's nodes allow too: within a node; or, where crossing is
/// allowed, a multiple of the node's devices.
std::vector<int> LegalTpSizes(const DecoderSpec& spec, const PlanRequest& request);

/// OK, or the first rule that the request breaks: InvalidArgument for numbers out of range,
/// FailedPrecondition with the rule, the numbers and the legal sizes otherwise.
absl::Status CheckPlanRules(const DecoderSpec& spec, const PlanRequest& request);

/// "1, 2, 4, 8", or "1 to 80" for a run of more than four.
std::string ListSizes(const std::vector<int>& sizes);

}  // namespace lockstep::model

#endif  // LOCKSTEP_MODEL_PLAN_RULES_H_
