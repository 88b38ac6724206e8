// The framed, non-blocking connection to one peer; TcpMesh drives one per peer.
#ifndef LOCKSTEP_WORKER_COLLECTIVE_TCP_LINK_H_
#define LOCKSTEP_WORKER_COLLECTIVE_TCP_LINK_H_

#include <array>
#include <cstddef>
#include <cstdint>
#include <deque>
#include <optional>
#include <span>
#include <vector>

#include "absl/status/status.h"
#include "worker/collective/unique_fd.h"

namespace lockstep::worker {

/// Messages of one channel are matched in order; channels do not wait for each other's receives.
enum class TcpChannel : uint8_t { kCollective = 1, kPointToPoint = 2 };
inline constexpr int kNumTcpChannels = 2;

/// Never blocks. Not thread-safe, but for Shutdown, which may be called while others are at work.
class TcpLink {
 public:
  /// A link without a socket does nothing.
  explicit TcpLink(UniqueFd socket);

  int fd() const { return socket_.get(); }
  /// OK while the connection stands; then why it ended.
  const absl::Status& closed() const { return closed_; }
  bool open() const { return socket_ && closed_.ok(); }

  void PostSend(TcpChannel channel, std::span<const std::byte> data);
  uint64_t PostReceive(TcpChannel channel, std::span<std::byte> data);

  bool sending() const { return !outgoing_.empty(); }
  bool receiving() const { return !Inbox(0).posted.empty() || !Inbox(1).posted.empty(); }
  /// Receives of `channel` completed since the start.
  uint64_t received(TcpChannel channel) const { return Inbox(IndexOf(channel)).completed; }

  /// Hand the kernel, or take from it, what it takes or has; whether that was anything.
  bool Push();
  bool Pull();
  /// Ends the connection in both directions, which wakes whoever waits for it.
  void Shutdown();

 private:
  static constexpr size_t kHeaderBytes = 16;

  struct Outgoing {
    std::array<std::byte, kHeaderBytes> header;
    std::span<const std::byte> data;
    size_t sent = 0;  // of header and data together
  };
  struct ChannelInbox {
    std::deque<std::span<std::byte>> posted;
    std::deque<std::vector<std::byte>> early;  // complete, but nobody had asked for them yet
    uint64_t completed = 0;
  };
  /// The frame whose payload is being read.
  struct Incoming {
    int channel;
    std::span<std::byte> rest;
    std::vector<std::byte> owned;  // where it goes if its receive was not posted when it began
    bool posted;
  };

  static int IndexOf(TcpChannel channel) { return static_cast<int>(channel) - 1; }
  const ChannelInbox& Inbox(int channel) const { return inboxes_[channel]; }

  void ConsumeStage();
  void BeginFrame(std::span<const std::byte> header);
  void EndFrame();
  void Deliver(int channel, std::span<const std::byte> message);
  bool FitsPosted(int channel, size_t length);

  UniqueFd socket_;
  absl::Status closed_;
  std::deque<Outgoing> outgoing_;
  std::array<ChannelInbox, kNumTcpChannels> inboxes_;
  std::optional<Incoming> incoming_;
  std::vector<std::byte> stage_;  // read from the kernel, not yet taken apart
  size_t stage_begin_ = 0;
  size_t stage_end_ = 0;
};

}  // namespace lockstep::worker

#endif  // LOCKSTEP_WORKER_COLLECTIVE_TCP_LINK_H_
