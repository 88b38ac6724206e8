// The transitions of Session.
#include "worker/session.h"

#include <algorithm>

#include "absl/status/status.h"
#include "absl/strings/str_cat.h"

namespace lockstep::worker {

absl::StatusOr<SessionCommands> Session::OnMessage(const v1::JoinResponse& message) {
  using Kind = v1::JoinResponse::MessageCase;
  const Kind kind = message.message_case();
  if (state_ == State::kExiting) return SessionCommands();
  if (kind == Kind::kShutdown) {
    SessionCommands commands;
    EndCurrent("shut down by the coordinator", commands);
    state_ = State::kExiting;
    commands.push_back(Exit{message.shutdown().reason()});
    return commands;
  }
  if ((state_ == State::kRegistering) != (kind == Kind::kWelcome)) {
    return absl::InvalidArgumentError(
        absl::StrCat("the coordinator sent message ", static_cast<int>(kind),
                     state_ == State::kRegistering ? " before" : " after", " its welcome"));
  }
  switch (kind) {
    case Kind::kWelcome:
      state_ = State::kIdle;
      return SessionCommands();
    case Kind::kAssignment:
      return OnAssignment(message.assignment());
    case Kind::kPeers:
      return OnPeers(message.peers());
    case Kind::kAbortEpoch:
      return OnAbort(message.abort_epoch());
    default:
      return absl::InvalidArgumentError("the coordinator sent an empty message");
  }
}

SessionCommands Session::OnDisconnected(const std::string& reason) {
  SessionCommands commands;
  EndCurrent(reason, commands);
  if (state_ != State::kExiting) state_ = State::kRegistering;
  return commands;
}

bool Session::OnFormed(uint64_t epoch) {
  if (epoch != epoch_ || state_ != State::kForming) return false;
  state_ = State::kServing;
  return true;
}

bool Session::OnFailed(uint64_t epoch) {
  if (epoch != epoch_ || epoch == 0) return false;
  epoch_ = 0;
  state_ = State::kIdle;
  return true;
}

SessionCommands Session::OnAssignment(const v1::Assignment& assignment) {
  SessionCommands commands;
  if (assignment.epoch() <= highest_epoch_) return commands;
  EndCurrent(absl::StrCat("epoch ", assignment.epoch(), " begins"), commands);
  highest_epoch_ = epoch_ = assignment.epoch();
  state_ = State::kAwaitingPeers;
  commands.push_back(BeginEpoch{assignment});
  return commands;
}

SessionCommands Session::OnPeers(const v1::CollectivePeers& peers) {
  if (peers.epoch() != epoch_ || state_ != State::kAwaitingPeers) return {};
  state_ = State::kForming;
  return {FormEpoch{peers}};
}

SessionCommands Session::OnAbort(const v1::AbortEpoch& abort) {
  highest_epoch_ = std::max(highest_epoch_, abort.epoch());
  SessionCommands commands;
  if (abort.epoch() >= epoch_) EndCurrent(abort.reason(), commands);
  return commands;
}

void Session::EndCurrent(const std::string& reason, SessionCommands& commands) {
  if (epoch_ == 0) return;
  commands.push_back(EndEpoch{epoch_, reason});
  epoch_ = 0;
  state_ = State::kIdle;
}

}  // namespace lockstep::worker
