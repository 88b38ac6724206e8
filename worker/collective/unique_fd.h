// A file descriptor that closes itself.
#ifndef LOCKSTEP_WORKER_COLLECTIVE_UNIQUE_FD_H_
#define LOCKSTEP_WORKER_COLLECTIVE_UNIQUE_FD_H_

#include <unistd.h>

#include <utility>

namespace lockstep::worker {

/// Owns one descriptor, or none (-1, as the system calls that make descriptors say it).
class UniqueFd {
 public:
  UniqueFd() = default;
  explicit UniqueFd(int fd) : fd_(fd) {}
  UniqueFd(UniqueFd&& other) noexcept : fd_(std::exchange(other.fd_, -1)) {}
  UniqueFd& operator=(UniqueFd&& other) noexcept {
    if (this != &other) {
      Close();
      fd_ = std::exchange(other.fd_, -1);
    }
    return *this;
  }
  ~UniqueFd() { Close(); }

  int get() const { return fd_; }
  explicit operator bool() const { return fd_ >= 0; }
  void Close() {
    if (fd_ >= 0) ::close(std::exchange(fd_, -1));
  }

 private:
  int fd_ = -1;
};

}  // namespace lockstep::worker

#endif  // LOCKSTEP_WORKER_COLLECTIVE_UNIQUE_FD_H_
