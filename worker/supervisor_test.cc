// The supervisor in a process of its own, over small shell programs.
#include "worker/supervisor.h"

#include <gtest/gtest.h>
#include <signal.h>
#include <sys/wait.h>
#include <unistd.h>

#include <fstream>
#include <string>
#include <vector>

namespace lockstep::worker {
namespace {

ChildCommand Shell(const std::string& script) { return {"sh", {"/bin/sh", "-c", script}}; }

// Runs Supervise in a forked child with its signals blocked, as main() does.
pid_t StartSupervisor(const std::vector<ChildCommand>& commands) {
  sigset_t signals;
  sigemptyset(&signals);
  for (int signal : {SIGTERM, SIGINT, SIGCHLD}) sigaddset(&signals, signal);
  sigprocmask(SIG_BLOCK, &signals, nullptr);
  pid_t pid = fork();
  if (pid == 0) _exit(Supervise(commands));
  sigprocmask(SIG_UNBLOCK, &signals, nullptr);
  return pid;
}

int ExitStatus(pid_t pid) {
  int status = 0;
  waitpid(pid, &status, 0);
  return WIFEXITED(status) ? WEXITSTATUS(status) : -1;
}

// A named pipe whose opening for reading waits until a child opens it for writing.
std::string MakePipe(const std::string& name) {
  std::string path = testing::TempDir() + "/" + name + std::to_string(getpid());
  std::string command = "mkfifo " + path;
  EXPECT_EQ(system(command.c_str()), 0);
  return path;
}

std::string ReadLine(const std::string& path) {
  std::string line;
  std::ifstream in(path);
  std::getline(in, line);
  return line;
}

TEST(SupervisorTest, EndsWithZeroWhenAllChildrenDo) {
  EXPECT_EQ(ExitStatus(StartSupervisor({Shell("exit 0"), Shell("exit 0")})), 0);
}

TEST(SupervisorTest, AChildsUnexpectedEndStopsTheOthersAndIsReported) {
  EXPECT_EQ(ExitStatus(StartSupervisor({Shell("exec sleep 1000"), Shell("exit 3")})), 1);
  EXPECT_EQ(ExitStatus(StartSupervisor({Shell("exec sleep 1000"), Shell("kill -9 $$")})), 1);
}

TEST(SupervisorTest, TerminationIsPassedOn) {
  for (int signal : {SIGTERM, SIGINT}) {
    std::string started = MakePipe("started" + std::to_string(signal));
    pid_t pid = StartSupervisor(
        {Shell("trap 'exit 0' TERM; echo up > " + started + "; while :; do sleep 0.05; done")});
    EXPECT_EQ(ReadLine(started), "up");
    kill(pid, signal);
    EXPECT_EQ(ExitStatus(pid), 0);
    unlink(started.c_str());
  }
}

TEST(SupervisorTest, ChildrenDoNotOutliveIt) {
  std::string said = MakePipe("said");
  pid_t pid = StartSupervisor({Shell("trap 'echo orphan > " + said + "; exit 0' TERM; echo up > " +
                                     said + "; while :; do sleep 0.05; done")});
  EXPECT_EQ(ReadLine(said), "up");
  kill(pid, SIGKILL);
  EXPECT_EQ(ExitStatus(pid), -1);
  EXPECT_EQ(ReadLine(said), "orphan");
  unlink(said.c_str());
}

TEST(SupervisorTest, AProgramThatCannotStartIsAFailure) {
  EXPECT_EQ(ExitStatus(StartSupervisor({{"cpu:0", {"/nonexistent/workerd"}}})), 1);
}

}  // namespace
}  // namespace lockstep::worker
