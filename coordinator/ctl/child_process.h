// Child processes of `coordinatorctl up`: started in a session of their own with their output in a
// file, ended when their parent ends, however it does.
#ifndef LOCKSTEP_COORDINATOR_CTL_CHILD_PROCESS_H_
#define LOCKSTEP_COORDINATOR_CTL_CHILD_PROCESS_H_

#include <sys/types.h>

#include <filesystem>
#include <optional>
#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "absl/time/time.h"

namespace lockstep::coordinator {

/// One child. Move-only; the destructor kills and reaps a child that still runs. Not thread-safe.
class ChildProcess {
 public:
  /// Runs `arguments` (arguments[0] is the program's path) with stdout and stderr appended to
  /// `log_file`. The child has its own session, so that a Ctrl-C on the terminal does not reach it
  /// and the kernel's autogroups keep its compute apart, and it is killed when this process dies.
  static absl::StatusOr<ChildProcess> Start(const std::vector<std::string>& arguments,
                                            const std::filesystem::path& log_file);
  ~ChildProcess();
  ChildProcess(ChildProcess&& other) noexcept;
  ChildProcess& operator=(ChildProcess&& other) noexcept;

  pid_t pid() const { return pid_; }
  const std::filesystem::path& log_file() const { return log_file_; }

  /// How the child ended ("exit status 1", "signal 9 (Killed)"), or nullopt while it runs.
  std::optional<std::string> Ended();
  /// Sends `signal` if it still runs.
  void Signal(int signal);
  /// Waits for the end, at most until `deadline`; false if it still runs then.
  bool WaitUntil(absl::Time deadline);

 private:
  ChildProcess(pid_t pid, std::filesystem::path log_file)
      : pid_(pid), log_file_(std::move(log_file)) {}

  pid_t pid_ = -1;
  std::filesystem::path log_file_;
  std::optional<std::string> ended_;
};

/// The last `lines` lines of a text file, or an empty string.
std::string Tail(const std::filesystem::path& file, int lines);

}  // namespace lockstep::coordinator

#endif  // LOCKSTEP_COORDINATOR_CTL_CHILD_PROCESS_H_
