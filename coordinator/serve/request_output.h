// What a request has brought and no client has been told yet: updates go in as the engine makes
// them, messages come out when there is somebody to take one, so that what came in between goes out
// together.
#ifndef LOCKSTEP_COORDINATOR_SERVE_REQUEST_OUTPUT_H_
#define LOCKSTEP_COORDINATOR_SERVE_REQUEST_OUTPUT_H_

#include <cstdint>
#include <optional>
#include <vector>

#include "absl/status/status.h"
#include "coordinator/engine/engine_request.h"
#include "coordinator/serve/text_output.h"
#include "proto/lockstep/v1/inference.pb.h"
#include "text/tokenizer.h"

namespace lockstep::coordinator {

/// One choice. Not thread-safe.
class ChoiceOutput {
 public:
  /// Both must outlive it.
  ChoiceOutput(int choice, const text::Tokenizer& tokenizer, const TextOptions& options);

  /// Must not be called after the choice's outcome. kStop when a stop string was found.
  SinkVerdict Add(RequestUpdate update);

  /// Whether tokens or the end wait to be taken.
  bool has_message() const;
  /// Swaps what has gathered into `message`, whose content and memory it takes over for the next.
  void Take(v1::GenerateResponse& message);

  const std::optional<RequestOutcome>& outcome() const { return outcome_; }
  /// Whether the message with `finish` has been taken.
  bool finished() const { return finished_; }

 private:
  void DecodeGathered();
  void AddFinish();

  const int choice_;
  std::optional<TextOutput> text_;  // if there are stop strings
  v1::GenerateResponse gathered_;
  int decoded_ids_ = 0;  // of gathered_.token_ids
  std::optional<int32_t> end_token_;
  std::optional<RequestOutcome> outcome_;
  bool finished_ = false;
};

/// All choices of a request. Messages come without their text, which is MessageText's work, so that
/// nobody waits for it under a lock; with stop strings, which the engine waits to hear about, the
/// text is made as the tokens come. Not thread-safe.
class RequestOutput {
 public:
  /// Both must outlive it.
  RequestOutput(int choices, const text::Tokenizer& tokenizer, const TextOptions& options);

  /// What RequestSink::OnUpdate does with an update; those after a choice's outcome are ignored.
  SinkVerdict Add(RequestUpdate update);

  /// The next message into `message`, the choices taking turns. False when there is none now, and
  /// always once the request has failed.
  bool Next(v1::GenerateResponse& message);
  bool has_message() const;

  /// How it failed, if a choice did.
  const absl::Status& status() const { return status_; }
  /// Whether all outcomes are in, or the request has failed: no update matters any more.
  bool complete() const { return !status_.ok() || open_choices_ == 0; }
  /// Whether, besides, every message has been taken.
  bool finished() const { return !status_.ok() || unfinished_choices_ == 0; }

 private:
  std::vector<ChoiceOutput> choices_;
  size_t turn_ = 0;
  size_t open_choices_;
  size_t unfinished_choices_;
  absl::Status status_;
};

/// Fills in the text of the messages of one RequestOutput. Not thread-safe, but independent of it.
class MessageText {
 public:
  /// As for the RequestOutput.
  MessageText(int choices, const text::Tokenizer& tokenizer, const TextOptions& options);

  /// For every message, in the order of RequestOutput::Next.
  void Fill(v1::GenerateResponse& message);

 private:
  const bool filled_already_;
  std::vector<TextOutput> texts_;
};

}  // namespace lockstep::coordinator

#endif  // LOCKSTEP_COORDINATOR_SERVE_REQUEST_OUTPUT_H_
