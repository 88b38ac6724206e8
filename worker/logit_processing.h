// What a request changes in the model's logits before a token is drawn: biases, penalties, and end
// tokens that come too early.
#ifndef LOCKSTEP_WORKER_LOGIT_PROCESSING_H_
#define LOCKSTEP_WORKER_LOGIT_PROCESSING_H_

#include <cstdint>
#include <span>

#include "worker/sampling.h"

namespace lockstep::worker {

/// Whether ProcessLogits may change anything. `generated`: tokens of output so far.
bool ChangesLogits(const Sampling& sampling, int64_t generated);

/// Changes the logits of ids first_id, first_id + 1, ... in place, each id by itself and in fp32,
/// so that every division of the vocabulary gives the same bits. In this order, which is that of
/// vLLM and of the papers it follows: logit_bias is added; repetition_penalty (Keskar et al. 2019)
/// divides positive and multiplies negative logits of the ids in prompt or output;
/// frequency_penalty times the count in the output and presence_penalty are taken off the ids in
/// the output; before min_tokens the end tokens become -inf, unless the vocabulary consists of
/// them alone. `counts`: nullptr if nothing is penalised. Finite logits stay finite or become -inf.
void ProcessLogits(const Sampling& sampling, const TokenCounts* counts, int64_t generated,
                   int64_t vocab_size, int32_t first_id, std::span<float> logits);

}  // namespace lockstep::worker

#endif  // LOCKSTEP_WORKER_LOGIT_PROCESSING_H_
