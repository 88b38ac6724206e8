// fork, exec, sigwait.
#include "worker/supervisor.h"

#include <signal.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cerrno>
#include <cstring>
#include <map>
#include <string>

#include "absl/strings/str_cat.h"
#include "glog/logging.h"

namespace lockstep::worker {
namespace {

sigset_t WatchedSignals() {
  sigset_t set;
  sigemptyset(&set);
  for (int signal : {SIGTERM, SIGINT, SIGCHLD}) sigaddset(&set, signal);
  return set;
}

// In the child between fork and exec: only async-signal-safe calls.
[[noreturn]] void ExecChild(char* const* arguments, pid_t parent) {
  setsid();
  prctl(PR_SET_PDEATHSIG, SIGTERM);
  if (getppid() != parent) _exit(125);  // the parent died before the line above
  sigset_t none;
  sigemptyset(&none);
  sigprocmask(SIG_SETMASK, &none, nullptr);
  execv(arguments[0], arguments);
  _exit(126);
}

pid_t Start(const ChildCommand& command) {
  std::vector<char*> arguments;
  for (const std::string& argument : command.arguments) {
    arguments.push_back(const_cast<char*>(argument.c_str()));
  }
  arguments.push_back(nullptr);
  const pid_t parent = getpid();
  const pid_t pid = fork();
  if (pid == 0) ExecChild(arguments.data(), parent);
  return pid;
}

std::string Describe(int status) {
  if (WIFSIGNALED(status)) return absl::StrCat("signal ", WTERMSIG(status));
  return absl::StrCat("exit status ", WEXITSTATUS(status));
}

class Children {
 public:
  void Add(pid_t pid, const std::string& name) { running_[pid] = name; }
  bool empty() const { return running_.empty(); }
  bool failed() const { return failed_; }

  void StopAll() {
    stopping_ = true;
    for (const auto& [pid, name] : running_) kill(pid, SIGTERM);
  }

  // Takes note of every child that has ended.
  void Reap() {
    int status = 0;
    for (pid_t pid = waitpid(-1, &status, WNOHANG); pid > 0; pid = waitpid(-1, &status, WNOHANG)) {
      auto child = running_.find(pid);
      if (child == running_.end()) continue;
      if (status != 0 && !stopping_) {
        LOG(ERROR) << "the worker for " << child->second << " (pid " << pid << ") ended with "
                   << Describe(status) << "; stopping the others";
        failed_ = true;
      }
      running_.erase(child);
      if (failed_ && !stopping_) StopAll();
    }
  }

 private:
  std::map<pid_t, std::string> running_;
  bool stopping_ = false;
  bool failed_ = false;
};

}  // namespace

int Supervise(const std::vector<ChildCommand>& commands) {
  Children children;
  bool all_started = true;
  for (const ChildCommand& command : commands) {
    pid_t pid = Start(command);
    if (pid > 0) {
      children.Add(pid, command.name);
      continue;
    }
    LOG(ERROR) << "cannot start the worker for " << command.name << ": " << std::strerror(errno);
    all_started = false;
    children.StopAll();
    break;
  }
  const sigset_t watched = WatchedSignals();
  while (!children.empty()) {
    int signal = 0;
    sigwait(&watched, &signal);
    if (signal != SIGCHLD) children.StopAll();
    children.Reap();
  }
  return all_started && !children.failed() ? 0 : 1;
}

}  // namespace lockstep::worker
