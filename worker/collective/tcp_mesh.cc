// See tcp_mesh.h.
#include "worker/collective/tcp_mesh.h"

#include <poll.h>
#include <sched.h>
#include <sys/eventfd.h>

#include <algorithm>
#include <chrono>
#include <utility>

#include "absl/strings/str_cat.h"

namespace lockstep::worker {
namespace {

/// How long to look again and again before sleeping in poll, in nanoseconds; shrinks when in vain.
/// Every look yields the processor, so that it costs others little.
constexpr int64_t kMaxSpinNs = 50'000;
constexpr int64_t kMinSpinNs = 5'000;

int64_t NowNs() { return std::chrono::steady_clock::now().time_since_epoch().count(); }

}  // namespace

TcpMesh::TcpMesh(const GroupMember& member, std::vector<UniqueFd> sockets, UniqueFd wake)
    : member_(member), wake_(std::move(wake)), spin_ns_(kMaxSpinNs) {
  for (UniqueFd& socket : sockets) links_.emplace_back(std::move(socket));
}

void TcpMesh::PostSend(int peer, TcpChannel channel, std::span<const std::byte> data) {
  links_[peer].PostSend(channel, data);
}

uint64_t TcpMesh::PostReceive(int peer, TcpChannel channel, std::span<std::byte> data) {
  return links_[peer].PostReceive(channel, data);
}

absl::Status TcpMesh::RunUntilDone() {
  return RunUntil([&] {
    return std::ranges::none_of(
        links_, [](const TcpLink& link) { return link.sending() || link.receiving(); });
  });
}

absl::Status TcpMesh::RunUntilReceived(TcpChannel channel, std::span<const uint64_t> tickets) {
  return RunUntil([&] {
    for (int peer = 0; peer < member_.size; ++peer) {
      if (peer != member_.rank && links_[peer].received(channel) < tickets[peer]) return false;
    }
    return true;
  });
}

absl::Status TcpMesh::RunUntil(absl::FunctionRef<bool()> done) {
  int64_t waiting_since = 0;  // 0 while bytes move
  bool slept = false;
  auto end_wait = [&] {
    if (waiting_since == 0) return;
    wait_ns_.fetch_add(NowNs() - waiting_since, std::memory_order_relaxed);
    spin_ns_ = slept ? std::max(kMinSpinNs, spin_ns_ / 2) : std::min(kMaxSpinNs, spin_ns_ * 2);
    waiting_since = 0;
    slept = false;
  };
  while (!failure_.raised()) {
    bool progress = Progress();
    if (progress) end_wait();
    if (done()) return status();
    if (absl::Status links = CheckLinks(); !links.ok()) return Fail(std::move(links));
    if (progress) continue;
    if (waiting_since == 0) waiting_since = NowNs();
    slept = NowNs() - waiting_since >= spin_ns_;
    if (slept) {
      Poll();
    } else {
      sched_yield();
    }
  }
  end_wait();
  return status();
}

bool TcpMesh::Progress() {
  bool any = false;
  for (TcpLink& link : links_) {
    any |= link.Push();
    any |= link.Pull();
  }
  return any;
}

absl::Status TcpMesh::CheckLinks() {
  // The failure of this rank's own Abort comes first, not the closed connections that it caused.
  if (failure_.raised()) return failure_.status();
  for (int peer = 0; peer < member_.size; ++peer) {
    const TcpLink& link = links_[peer];
    if (link.closed().ok()) continue;
    bool broken = !absl::IsUnavailable(link.closed());
    if (!broken && !link.sending() && !link.receiving()) continue;
    return absl::Status(link.closed().code(),
                        absl::StrCat("rank ", peer, " of group ", member_.group,
                                     broken ? ": " : " is gone: ", link.closed().message()));
  }
  return absl::OkStatus();
}

void TcpMesh::Poll() {
  std::vector<pollfd> waits = {{.fd = wake_.get(), .events = POLLIN, .revents = 0}};
  for (const TcpLink& link : links_) {
    if (!link.open()) continue;
    short events = static_cast<short>(POLLIN | (link.sending() ? POLLOUT : 0));
    waits.push_back({.fd = link.fd(), .events = events, .revents = 0});
  }
  poll(waits.data(), waits.size(), /*timeout=*/-1);
}

void TcpMesh::Abort(std::string_view reason) {
  failure_.RaiseAborted(reason);
  eventfd_write(wake_.get(), 1);
  for (TcpLink& link : links_) link.Shutdown();
}

}  // namespace lockstep::worker
