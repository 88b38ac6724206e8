// fork, exec and wait; see child_process.h.
#include "coordinator/ctl/child_process.h"

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <unistd.h>

#include <deque>
#include <fstream>

#include "absl/status/status.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "absl/time/clock.h"

namespace lockstep::coordinator {
namespace {

/// In the child between fork and exec: only async-signal-safe calls.
[[noreturn]] void ExecChild(char* const* arguments, int log, pid_t parent) {
  setsid();
  prctl(PR_SET_PDEATHSIG, SIGKILL);
  if (getppid() != parent) _exit(125);  // the parent died before the line above
  sigset_t none;
  sigemptyset(&none);
  sigprocmask(SIG_SETMASK, &none, nullptr);
  dup2(log, STDOUT_FILENO);
  dup2(log, STDERR_FILENO);
  int null = open("/dev/null", O_RDONLY);
  dup2(null, STDIN_FILENO);
  execv(arguments[0], arguments);
  const char* error = strerror(errno);
  [[maybe_unused]] ssize_t written = write(STDERR_FILENO, error, strlen(error));
  _exit(126);
}

std::string Describe(int status) {
  if (WIFSIGNALED(status)) {
    return absl::StrCat("signal ", WTERMSIG(status), " (", strsignal(WTERMSIG(status)), ")");
  }
  return absl::StrCat("exit status ", WEXITSTATUS(status));
}

}  // namespace

absl::StatusOr<ChildProcess> ChildProcess::Start(const std::vector<std::string>& arguments,
                                                 const std::filesystem::path& log_file) {
  if (access(arguments[0].c_str(), X_OK) != 0) {
    return absl::NotFoundError(
        absl::StrCat(arguments[0], " is not there or not executable; run tools/setup"));
  }
  int log = open(log_file.c_str(), O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0644);
  if (log < 0) {
    return absl::ErrnoToStatus(errno, absl::StrCat("cannot write the log ", log_file.string()));
  }
  std::vector<char*> argv;
  for (const std::string& argument : arguments) argv.push_back(const_cast<char*>(argument.c_str()));
  argv.push_back(nullptr);
  pid_t parent = getpid();
  pid_t pid = fork();
  if (pid == 0) ExecChild(argv.data(), log, parent);
  int fork_errno = errno;
  close(log);
  if (pid < 0) return absl::ErrnoToStatus(fork_errno, "fork");
  return ChildProcess(pid, log_file);
}

ChildProcess::~ChildProcess() {
  if (pid_ < 0 || Ended()) return;
  Signal(SIGKILL);
  waitpid(pid_, nullptr, 0);
}

ChildProcess::ChildProcess(ChildProcess&& other) noexcept
    : pid_(std::exchange(other.pid_, -1)),
      log_file_(std::move(other.log_file_)),
      ended_(std::move(other.ended_)) {}

ChildProcess& ChildProcess::operator=(ChildProcess&& other) noexcept {
  std::swap(pid_, other.pid_);
  std::swap(log_file_, other.log_file_);
  std::swap(ended_, other.ended_);
  return *this;
}

std::optional<std::string> ChildProcess::Ended() {
  // Moved from: -1 would ask for any child.
  if (ended_ || pid_ < 0) return ended_;
  int status = 0;
  if (waitpid(pid_, &status, WNOHANG) == pid_) ended_ = Describe(status);
  return ended_;
}

void ChildProcess::Signal(int signal) {
  if (pid_ > 0 && !Ended()) kill(pid_, signal);
}

bool ChildProcess::WaitUntil(absl::Time deadline) {
  while (!Ended()) {
    if (absl::Now() >= deadline) return false;
    absl::SleepFor(absl::Milliseconds(5));
  }
  return true;
}

std::string Tail(const std::filesystem::path& file, int lines) {
  std::ifstream in(file);
  std::deque<std::string> last;
  for (std::string line; std::getline(in, line);) {
    last.push_back(line);
    if (last.size() > static_cast<size_t>(lines)) last.pop_front();
  }
  return last.empty() ? "" : absl::StrCat(absl::StrJoin(last, "\n"), "\n");
}

}  // namespace lockstep::coordinator
