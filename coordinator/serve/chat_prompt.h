// A conversation to the prompt that the model's chat template makes of it. Pure.
#ifndef LOCKSTEP_COORDINATOR_SERVE_CHAT_PROMPT_H_
#define LOCKSTEP_COORDINATOR_SERVE_CHAT_PROMPT_H_

#include "absl/status/statusor.h"
#include "proto/lockstep/v1/inference.pb.h"
#include "text/chat_template.h"

namespace lockstep::coordinator {

/// `request.generation` with the rendered conversation as its text; special tokens, which templates
/// write themselves, are added only if it says so. `chat_template` is null for a model without one:
/// FailedPrecondition. InvalidArgument without messages, with a prompt in `generation`, or with the
/// template's own words where it refuses the messages.
absl::StatusOr<v1::GenerateRequest> RenderChat(const v1::ChatRequest& request,
                                               const text::ChatTemplate* chat_template);

}  // namespace lockstep::coordinator

#endif  // LOCKSTEP_COORDINATOR_SERVE_CHAT_PROMPT_H_
