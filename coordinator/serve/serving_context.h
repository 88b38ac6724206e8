// What the fronts, gRPC and HTTP alike, serve with.
#ifndef LOCKSTEP_COORDINATOR_SERVE_SERVING_CONTEXT_H_
#define LOCKSTEP_COORDINATOR_SERVE_SERVING_CONTEXT_H_

#include "coordinator/engine/engine.h"
#include "coordinator/serve/served_model.h"
#include "text/chat_template.h"
#include "text/tokenizer.h"

namespace lockstep::coordinator {

/// References into the server, which outlives the fronts and every call on them. Copied freely.
struct ServingContext {
  const ServedModel& model;
  const text::Tokenizer& tokenizer;
  const text::ChatTemplate* chat_template;  // null: the model has none
  Engine& engine;
};

}  // namespace lockstep::coordinator

#endif  // LOCKSTEP_COORDINATOR_SERVE_SERVING_CONTEXT_H_
