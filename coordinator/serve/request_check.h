// Checks what a client asked for and fills in what it left open. Pure functions: no clock, no
// engine, no side effects.
#ifndef LOCKSTEP_COORDINATOR_SERVE_REQUEST_CHECK_H_
#define LOCKSTEP_COORDINATOR_SERVE_REQUEST_CHECK_H_

#include <cstdint>
#include <span>
#include <string_view>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "coordinator/engine/engine_request.h"
#include "coordinator/serve/served_model.h"
#include "proto/lockstep/v1/inference.pb.h"
#include "text/tokenizer.h"

namespace lockstep::coordinator {

/// What the engine is to do, defaults applied (an absent field takes the model's, then the neutral
/// value of inference.proto); seed and deadline stay open. InvalidArgument names the field, its
/// value and the legal range; OutOfRange, with the numbers, when prompt and max_tokens exceed the
/// context. Takes time in proportion to the prompt: texts are tokenized.
absl::StatusOr<EngineRequest> CheckGenerateRequest(const v1::GenerateRequest& request,
                                                   const ServedModel& model,
                                                   const text::Tokenizer& tokenizer);

/// OutOfRange, with the numbers, for a text that no tokenizer makes short enough, so that nobody
/// spends minutes on finding out how long it is.
absl::Status CheckTextBytes(std::string_view text, int64_t context_tokens);

/// InvalidArgument, naming `field` and place, if an id is not in [0, vocab_size).
absl::Status CheckTokenIds(std::span<const int32_t> ids, int64_t vocab_size,
                           std::string_view field);

}  // namespace lockstep::coordinator

#endif  // LOCKSTEP_COORDINATOR_SERVE_REQUEST_CHECK_H_
