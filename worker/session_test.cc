// The session's transitions, from literal messages.
#include "worker/session.h"

#include <gtest/gtest.h>

#include <string>

namespace lockstep::worker {
namespace {

v1::JoinResponse Welcome() {
  v1::JoinResponse message;
  message.mutable_welcome();
  return message;
}
v1::JoinResponse Assign(uint64_t epoch) {
  v1::JoinResponse message;
  message.mutable_assignment()->set_epoch(epoch);
  return message;
}
v1::JoinResponse Peers(uint64_t epoch) {
  v1::JoinResponse message;
  message.mutable_peers()->set_epoch(epoch);
  return message;
}
v1::JoinResponse Abort(uint64_t epoch) {
  v1::JoinResponse message;
  message.mutable_abort_epoch()->set_epoch(epoch);
  message.mutable_abort_epoch()->set_reason("because");
  return message;
}
v1::JoinResponse ShutDown() {
  v1::JoinResponse message;
  message.mutable_shutdown();
  return message;
}

// "Begin 3, End 3" and the like.
std::string Told(Session& session, const v1::JoinResponse& message) {
  absl::StatusOr<SessionCommands> commands = session.OnMessage(message);
  if (!commands.ok()) return "refused";
  std::string text;
  for (const SessionCommand& command : *commands) {
    if (!text.empty()) text += ", ";
    if (auto* c = std::get_if<BeginEpoch>(&command)) {
      text += "Begin " + std::to_string(c->assignment.epoch());
    }
    if (auto* c = std::get_if<FormEpoch>(&command)) {
      text += "Form " + std::to_string(c->peers.epoch());
    }
    if (auto* c = std::get_if<EndEpoch>(&command)) text += "End " + std::to_string(c->epoch);
    if (std::get_if<Exit>(&command)) text += "Exit";
  }
  return text;
}

Session Joined() {
  Session session;
  EXPECT_EQ(Told(session, Welcome()), "");
  return session;
}

Session Serving(uint64_t epoch) {
  Session session = Joined();
  Told(session, Assign(epoch));
  Told(session, Peers(epoch));
  EXPECT_TRUE(session.OnFormed(epoch));
  return session;
}

TEST(SessionTest, AnEpochGoesFromAssignmentToServing) {
  Session session = Joined();
  EXPECT_EQ(Told(session, Assign(4)), "Begin 4");
  EXPECT_EQ(session.state(), Session::State::kAwaitingPeers);
  EXPECT_EQ(Told(session, Peers(4)), "Form 4");
  EXPECT_EQ(session.state(), Session::State::kForming);
  EXPECT_TRUE(session.OnFormed(4));
  EXPECT_EQ(session.state(), Session::State::kServing);
  EXPECT_EQ(session.highest_epoch(), 4u);
}

TEST(SessionTest, NothingComesBeforeTheWelcomeNorTheWelcomeTwice) {
  Session session;
  EXPECT_EQ(Told(session, Assign(1)), "refused");
  EXPECT_EQ(Told(session, Welcome()), "");
  EXPECT_EQ(Told(session, Welcome()), "refused");
  EXPECT_EQ(Told(session, v1::JoinResponse()), "refused");
}

TEST(SessionTest, StaleMessagesAskForNothing) {
  Session session = Serving(5);
  EXPECT_EQ(Told(session, Assign(5)), "");
  EXPECT_EQ(Told(session, Assign(2)), "");
  EXPECT_EQ(Told(session, Peers(5)), "");
  EXPECT_EQ(Told(session, Abort(4)), "");
  EXPECT_FALSE(session.OnFormed(4));
  EXPECT_FALSE(session.OnFailed(4));
  EXPECT_EQ(session.state(), Session::State::kServing);
}

TEST(SessionTest, AbortEndsTheEpochAndItsLateEventsAreDropped) {
  Session session = Joined();
  Told(session, Assign(5));
  Told(session, Peers(5));
  EXPECT_EQ(Told(session, Abort(5)), "End 5");
  EXPECT_EQ(session.state(), Session::State::kIdle);
  EXPECT_FALSE(session.OnFormed(5));
  EXPECT_FALSE(session.OnFailed(5));
  EXPECT_EQ(Told(session, Abort(5)), "");
  EXPECT_EQ(Told(session, Assign(5)), "");
  EXPECT_EQ(Told(session, Assign(6)), "Begin 6");
}

TEST(SessionTest, AnAbortOfAnEpochNeverSeenRaisesTheHighest) {
  Session session = Joined();
  EXPECT_EQ(Told(session, Abort(9)), "");
  EXPECT_EQ(session.highest_epoch(), 9u);
  EXPECT_EQ(Told(session, Assign(9)), "");
}

TEST(SessionTest, ANewerAssignmentEndsTheOlderEpochFirst) {
  Session session = Serving(5);
  EXPECT_EQ(Told(session, Assign(7)), "End 5, Begin 7");
}

TEST(SessionTest, AFailureIsToldOnceAndTheNextEpochMayCome) {
  Session session = Joined();
  Told(session, Assign(5));
  EXPECT_TRUE(session.OnFailed(5));
  EXPECT_FALSE(session.OnFailed(5));
  EXPECT_EQ(Told(session, Peers(5)), "");
  EXPECT_EQ(Told(session, Assign(6)), "Begin 6");
}

TEST(SessionTest, ADisconnectionEndsTheEpochAndAsksForANewWelcome) {
  Session session = Serving(5);
  SessionCommands commands = session.OnDisconnected("gone");
  ASSERT_EQ(commands.size(), 1u);
  EXPECT_EQ(std::get<EndEpoch>(commands[0]).epoch, 5u);
  EXPECT_EQ(session.state(), Session::State::kRegistering);
  EXPECT_EQ(session.highest_epoch(), 5u);
  EXPECT_TRUE(session.OnDisconnected("again").empty());
  EXPECT_EQ(Told(session, Welcome()), "");
}

TEST(SessionTest, ShutdownEndsTheEpochThenTheProcess) {
  Session session = Serving(5);
  EXPECT_EQ(Told(session, ShutDown()), "End 5, Exit");
  EXPECT_EQ(session.state(), Session::State::kExiting);
  EXPECT_EQ(Told(session, Assign(6)), "");
}

TEST(SessionTest, ShutdownMayComeBeforeTheWelcome) {
  Session session;
  EXPECT_EQ(Told(session, ShutDown()), "Exit");
}

}  // namespace
}  // namespace lockstep::worker
