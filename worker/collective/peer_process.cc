// See peer_process.h.
#include "worker/collective/peer_process.h"

#include <fcntl.h>
#include <gtest/gtest.h>
#include <poll.h>
#include <signal.h>
#include <spawn.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cstdlib>
#include <filesystem>
#include <utility>

#include "absl/strings/str_cat.h"
#include "absl/time/clock.h"

namespace lockstep::worker {
namespace {

constexpr absl::Duration kPatience = absl::Seconds(30);

/// Beside the test's own binary, where Bazel puts what a test names as data.
std::string PeerBinary() {
  return std::filesystem::read_symlink("/proc/self/exe").parent_path() / "collective_peer";
}

std::pair<UniqueFd, UniqueFd> MakePipe() {
  int fds[2];
  EXPECT_EQ(pipe2(fds, O_CLOEXEC), 0);
  return {UniqueFd(fds[0]), UniqueFd(fds[1])};
}

}  // namespace

PeerProcess::PeerProcess(const std::vector<std::string>& flags,
                         const std::vector<std::string>& prefix) {
  std::vector<std::string> words = prefix;
  words.push_back(PeerBinary());
  words.insert(words.end(), flags.begin(), flags.end());
  std::vector<char*> arguments;
  for (std::string& word : words) arguments.push_back(word.data());
  arguments.push_back(nullptr);
  auto [child_stdin, own_stdin] = MakePipe();
  auto [own_stdout, child_stdout] = MakePipe();
  posix_spawn_file_actions_t actions;
  posix_spawn_file_actions_init(&actions);
  posix_spawn_file_actions_adddup2(&actions, child_stdin.get(), STDIN_FILENO);
  posix_spawn_file_actions_adddup2(&actions, child_stdout.get(), STDOUT_FILENO);
  EXPECT_EQ(posix_spawnp(&pid_, arguments[0], &actions, nullptr, arguments.data(), environ), 0);
  posix_spawn_file_actions_destroy(&actions);
  stdin_ = std::move(own_stdin);
  stdout_ = std::move(own_stdout);
}

PeerProcess::PeerProcess(PeerProcess&& other) noexcept
    : pid_(std::exchange(other.pid_, 0)),
      stdin_(std::move(other.stdin_)),
      stdout_(std::move(other.stdout_)) {}

PeerProcess::~PeerProcess() { Kill(); }

std::string PeerProcess::ReadLine() {
  absl::Time deadline = absl::Now() + kPatience;
  std::string line;
  while (true) {
    pollfd wait = {.fd = stdout_.get(), .events = POLLIN, .revents = 0};
    int64_t left_ms = absl::ToInt64Milliseconds(deadline - absl::Now());
    if (left_ms <= 0 || poll(&wait, 1, static_cast<int>(left_ms)) <= 0) {
      ADD_FAILURE() << "nothing from the peer within " << kPatience << " after \"" << line << "\"";
      return line;
    }
    char c;
    if (read(stdout_.get(), &c, 1) != 1 || c == '\n') return line;
    line.push_back(c);
  }
}

void PeerProcess::WriteLines(const std::vector<std::string>& lines) {
  for (const std::string& line : lines) {
    std::string text = line + "\n";
    EXPECT_EQ(write(stdin_.get(), text.data(), text.size()), static_cast<ssize_t>(text.size()));
  }
}

void PeerProcess::Kill() {
  if (pid_ == 0) return;
  kill(pid_, SIGKILL);
  waitpid(std::exchange(pid_, 0), nullptr, 0);
}

void PeerProcess::Stop() {
  kill(pid_, SIGSTOP);
  int status = 0;
  waitpid(pid_, &status, WUNTRACED);
  EXPECT_TRUE(WIFSTOPPED(status));
}

std::vector<std::string> PeerFlags(Transport transport, int rank, int size,
                                   const std::string& scenario) {
  return {absl::StrCat("--transport=", Name(transport)), absl::StrCat("--rank=", rank),
          absl::StrCat("--size=", size), absl::StrCat("--scenario=", scenario)};
}

void ConnectPeers(std::vector<PeerProcess>& peers) {
  std::vector<std::string> addresses;
  for (PeerProcess& peer : peers) addresses.push_back(peer.ReadLine());
  for (PeerProcess& peer : peers) peer.WriteLines(addresses);
  for (PeerProcess& peer : peers) EXPECT_EQ(peer.ReadLine(), "connected");
}

}  // namespace lockstep::worker
