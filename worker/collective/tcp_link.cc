// See tcp_link.h.
#include "worker/collective/tcp_link.h"

#include <sys/socket.h>
#include <sys/uio.h>

#include <algorithm>
#include <cerrno>
#include <cstring>
#include <utility>

#include "absl/strings/str_cat.h"

namespace lockstep::worker {
namespace {

constexpr size_t kStageBytes = 64 * 1024;
/// From here on a payload is read to where it goes, below by way of the stage, which saves calls.
constexpr size_t kDirectBytes = 16 * 1024;
/// No message of ours comes near; a larger length means that the stream is out of step.
constexpr uint64_t kMaxMessageBytes = uint64_t{1} << 36;

}  // namespace

TcpLink::TcpLink(UniqueFd socket) : socket_(std::move(socket)), stage_(socket_ ? kStageBytes : 0) {}

void TcpLink::PostSend(TcpChannel channel, std::span<const std::byte> data) {
  Outgoing& message = outgoing_.emplace_back();
  message.header.fill(std::byte{0});
  message.header[0] = static_cast<std::byte>(channel);
  uint64_t length = data.size();
  for (size_t i = 0; i < 8; ++i) message.header[8 + i] = static_cast<std::byte>(length >> (8 * i));
  message.data = data;
}

uint64_t TcpLink::PostReceive(TcpChannel channel, std::span<std::byte> data) {
  int index = IndexOf(channel);
  ChannelInbox& inbox = inboxes_[index];
  inbox.posted.push_back(data);
  uint64_t ticket = inbox.completed + inbox.posted.size();
  if (!inbox.early.empty()) {
    std::vector<std::byte> message = std::move(inbox.early.front());
    inbox.early.pop_front();
    Deliver(index, message);
  }
  return ticket;
}

bool TcpLink::Push() {
  bool any = false;
  while (open() && !outgoing_.empty()) {
    Outgoing& message = outgoing_.front();
    size_t header_sent = std::min(message.sent, kHeaderBytes);
    std::span<const std::byte> data = message.data.subspan(message.sent - header_sent);
    iovec parts[2] = {{message.header.data() + header_sent, kHeaderBytes - header_sent},
                      {const_cast<std::byte*>(data.data()), data.size()}};
    msghdr header = {};
    header.msg_iov = parts;
    header.msg_iovlen = 2;
    ssize_t sent = sendmsg(socket_.get(), &header, MSG_NOSIGNAL | MSG_DONTWAIT);
    if (sent < 0 && errno == EINTR) continue;
    if (sent < 0) {
      if (errno != EAGAIN) closed_ = absl::UnavailableError(std::strerror(errno));
      return any;
    }
    any = true;
    message.sent += static_cast<size_t>(sent);
    if (message.sent == kHeaderBytes + message.data.size()) outgoing_.pop_front();
  }
  return any;
}

bool TcpLink::Pull() {
  bool any = false;
  while (open()) {
    // While a large payload is under way, everything in the stage has been consumed.
    bool direct = incoming_ && incoming_->rest.size() >= kDirectBytes;
    std::span<std::byte> room = direct ? incoming_->rest : std::span(stage_).subspan(stage_end_);
    ssize_t count = recv(socket_.get(), room.data(), room.size(), MSG_DONTWAIT);
    if (count < 0 && errno == EINTR) continue;
    if (count <= 0) {
      if (count == 0) closed_ = absl::UnavailableError("it closed the connection");
      if (count < 0 && errno != EAGAIN) closed_ = absl::UnavailableError(std::strerror(errno));
      return any;
    }
    any = true;
    if (direct) {
      incoming_->rest = incoming_->rest.subspan(static_cast<size_t>(count));
      if (incoming_->rest.empty()) EndFrame();
    } else {
      stage_end_ += static_cast<size_t>(count);
      ConsumeStage();
    }
    if (static_cast<size_t>(count) < room.size()) return any;
  }
  return any;
}

void TcpLink::ConsumeStage() {
  while (open() && stage_begin_ < stage_end_) {
    std::span<const std::byte> bytes =
        std::span(stage_).subspan(stage_begin_, stage_end_ - stage_begin_);
    if (!incoming_) {
      if (bytes.size() < kHeaderBytes) break;
      stage_begin_ += kHeaderBytes;
      BeginFrame(bytes.first(kHeaderBytes));
    } else {
      size_t count = std::min(bytes.size(), incoming_->rest.size());
      std::memcpy(incoming_->rest.data(), bytes.data(), count);
      stage_begin_ += count;
      incoming_->rest = incoming_->rest.subspan(count);
    }
    if (incoming_ && incoming_->rest.empty()) EndFrame();
  }
  std::memmove(stage_.data(), stage_.data() + stage_begin_, stage_end_ - stage_begin_);
  stage_end_ -= std::exchange(stage_begin_, 0);
}

void TcpLink::BeginFrame(std::span<const std::byte> header) {
  int channel = static_cast<int>(header[0]) - 1;
  uint64_t length = 0;
  for (size_t i = 0; i < 8; ++i) length |= static_cast<uint64_t>(header[8 + i]) << (8 * i);
  if (channel < 0 || channel >= kNumTcpChannels || length > kMaxMessageBytes) {
    closed_ = absl::InvalidArgumentError("it sent what is no frame");
    return;
  }
  const ChannelInbox& inbox = inboxes_[channel];
  Incoming incoming = {
      .channel = channel, .rest = {}, .owned = {}, .posted = !inbox.posted.empty()};
  if (incoming.posted) {
    if (!FitsPosted(channel, length)) return;
    incoming.rest = inbox.posted.front();
  } else {
    incoming.owned.resize(length);
    incoming.rest = incoming.owned;
  }
  incoming_ = std::move(incoming);
}

void TcpLink::EndFrame() {
  Incoming incoming = *std::exchange(incoming_, std::nullopt);
  ChannelInbox& inbox = inboxes_[incoming.channel];
  if (incoming.posted) {
    inbox.posted.pop_front();
    ++inbox.completed;
  } else if (!inbox.posted.empty()) {
    Deliver(incoming.channel, incoming.owned);
  } else {
    inbox.early.push_back(std::move(incoming.owned));
  }
}

void TcpLink::Deliver(int channel, std::span<const std::byte> message) {
  if (!FitsPosted(channel, message.size())) return;
  ChannelInbox& inbox = inboxes_[channel];
  std::ranges::copy(message, inbox.posted.front().begin());
  inbox.posted.pop_front();
  ++inbox.completed;
}

bool TcpLink::FitsPosted(int channel, size_t length) {
  size_t expected = inboxes_[channel].posted.front().size();
  if (length == expected) return true;
  closed_ =
      absl::InvalidArgumentError(absl::StrCat("it sent ", length, " bytes where ", expected,
                                              " were expected: the ranks' operations differ"));
  return false;
}

void TcpLink::Shutdown() {
  if (socket_) shutdown(socket_.get(), SHUT_RDWR);
}

}  // namespace lockstep::worker
