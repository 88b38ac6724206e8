// Claims on child processes, with real ones.
#include "coordinator/ctl/child_process.h"

#include <gtest/gtest.h>
#include <signal.h>
#include <unistd.h>

#include "absl/time/clock.h"

namespace lockstep::coordinator {
namespace {

std::filesystem::path LogFile(const std::string& name) {
  return std::filesystem::path(testing::TempDir()) / name;
}

TEST(ChildProcessTest, ExitStatusAndOutputAreKept) {
  auto child =
      ChildProcess::Start({"/bin/sh", "-c", "echo one; echo two >&2; exit 3"}, LogFile("exit"));
  ASSERT_TRUE(child.ok()) << child.status();
  ASSERT_TRUE(child->WaitUntil(absl::Now() + absl::Seconds(30)));
  EXPECT_EQ(child->Ended(), "exit status 3");
  EXPECT_EQ(Tail(LogFile("exit"), 1), "two\n");
  EXPECT_EQ(Tail(LogFile("exit"), 9), "one\ntwo\n");
}

TEST(ChildProcessTest, ChildHasASessionOfItsOwn) {
  auto child = ChildProcess::Start({"/bin/sleep", "100"}, LogFile("session"));
  ASSERT_TRUE(child.ok()) << child.status();
  absl::Time deadline = absl::Now() + absl::Seconds(30);
  while (getsid(child->pid()) != child->pid() && absl::Now() < deadline) sched_yield();
  EXPECT_EQ(getsid(child->pid()), child->pid());
}

TEST(ChildProcessTest, DestructorEndsARunningChild) {
  pid_t pid = -1;
  {
    auto child = ChildProcess::Start({"/bin/sleep", "100"}, LogFile("destructor"));
    ASSERT_TRUE(child.ok()) << child.status();
    pid = child->pid();
    EXPECT_FALSE(child->Ended());
  }
  EXPECT_EQ(kill(pid, 0), -1);
}

TEST(ChildProcessTest, SignalIsReportedByNumberAndName) {
  auto child = ChildProcess::Start({"/bin/sleep", "100"}, LogFile("signal"));
  ASSERT_TRUE(child.ok()) << child.status();
  child->Signal(SIGKILL);
  ASSERT_TRUE(child->WaitUntil(absl::Now() + absl::Seconds(30)));
  EXPECT_EQ(child->Ended(), "signal 9 (Killed)");
}

TEST(ChildProcessTest, MissingProgramNamesThePathAndTheRemedy) {
  auto child = ChildProcess::Start({"/nowhere/workerd"}, LogFile("missing"));
  EXPECT_EQ(child.status().code(), absl::StatusCode::kNotFound);
  EXPECT_NE(child.status().message().find("/nowhere/workerd"), std::string::npos);
}

}  // namespace
}  // namespace lockstep::coordinator
