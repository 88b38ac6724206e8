// `coordinatorctl generate`: one request, its text streamed to the terminal.
#ifndef LOCKSTEP_COORDINATOR_CTL_GENERATE_COMMAND_H_
#define LOCKSTEP_COORDINATOR_CTL_GENERATE_COMMAND_H_

#include <string>

#include "proto/lockstep/v1/inference.pb.h"

namespace lockstep::coordinator {

struct GenerateOptions {
  std::string coordinator;  // HOST:PORT
  v1::GenerateRequest request;
  // One JSON object a message (token_ids, text, logprobs, prompt_logprobs, finish) instead of the
  // text.
  bool json = false;
  // Prompt before the text, as a story is read.
  bool echo = false;
};

/// Streams to stdout; a line on the speed goes to stderr when that is a terminal. Returns the exit
/// status: 0 after a finished stream, 1 after an error (on stderr), 130 when interrupted.
int RunGenerate(const GenerateOptions& options);

}  // namespace lockstep::coordinator

#endif  // LOCKSTEP_COORDINATOR_CTL_GENERATE_COMMAND_H_
