// See tcp_collective.h.
#include "worker/collective/tcp_collective.h"

#include <algorithm>
#include <cstring>
#include <utility>

#include "absl/strings/str_cat.h"
#include "base/status_macros.h"

namespace lockstep::worker {
namespace {

/// Calls visit(piece) for consecutive pieces of `slice`.
void ForEachPiece(Slice slice, absl::FunctionRef<void(Slice)> visit) {
  for (int64_t begin = slice.begin; begin < slice.end; begin += TcpCollective::kPiece) {
    visit({begin, std::min(slice.end, begin + TcpCollective::kPiece)});
  }
}

std::span<const std::byte> Bytes(const float* base, Slice slice) {
  return std::as_bytes(std::span(base + slice.begin, static_cast<size_t>(slice.count())));
}

std::span<std::byte> WritableBytes(float* base, Slice slice) {
  return std::as_writable_bytes(std::span(base + slice.begin, static_cast<size_t>(slice.count())));
}

}  // namespace

TcpCollective::TcpCollective(std::shared_ptr<TcpMesh> mesh) : mesh_(std::move(mesh)) {}

absl::StatusOr<std::span<float>> TcpCollective::Addend(int64_t count) {
  LOCKSTEP_RETURN_IF_ERROR(mesh_->status());
  if (count < 0) {
    return mesh_->Fail(absl::InvalidArgumentError(
        absl::StrCat("an addend of ", count, " floats asked for; legal are 0 and above")));
  }
  pending_count_ = count;
  return addend_.Get(static_cast<size_t>(count));
}

absl::Status TcpCollective::CheckNothingPending() {
  LOCKSTEP_RETURN_IF_ERROR(mesh_->status());
  if (!pending_count_) return absl::OkStatus();
  return mesh_->Fail(absl::InvalidArgumentError(absl::StrCat(
      "an addend of ", *pending_count_, " floats waits for its sum; ask for that first")));
}

absl::Status TcpCollective::TakeAddend(size_t found, int64_t expected) {
  LOCKSTEP_RETURN_IF_ERROR(mesh_->status());
  if (!pending_count_ || static_cast<int64_t>(found) != expected) {
    return mesh_->Fail(absl::InvalidArgumentError(
        pending_count_ ? absl::StrCat("the result has ", found, " floats; expected ", expected)
                       : "a sum was asked for, but no Addend came before"));
  }
  pending_count_.reset();
  return absl::OkStatus();
}

std::vector<Slice> TcpCollective::EqualParts(int64_t count) const {
  std::vector<Slice> parts;
  for (int peer = 0; peer < size(); ++peer) parts.push_back(SliceOf(count, peer, size()));
  return parts;
}

/// Queues the exchange after which this rank can add parts[rank] of all addends.
std::vector<TcpCollective::Piece> TcpCollective::PostAddends(const std::vector<Slice>& parts) {
  Slice mine = parts[rank()];
  float* own = addend_.Get(0).data();
  float* theirs = peer_addends_.Get(static_cast<size_t>(mine.count() * size())).data();
  for (int peer = 0; peer < size(); ++peer) {
    if (peer == rank()) continue;
    ForEachPiece(parts[peer], [&](Slice slice) {
      mesh_->PostSend(peer, TcpChannel::kCollective, Bytes(own, slice));
    });
  }
  std::vector<Piece> pieces;
  ForEachPiece(mine, [&](Slice slice) {
    Piece piece = {.slice = slice, .tickets = {}, .addends = {}};
    for (int peer = 0; peer < size(); ++peer) {
      float* base = peer == rank() ? own : theirs + peer * mine.count() - mine.begin;
      piece.addends.push_back(base + slice.begin);
      piece.tickets.push_back(peer == rank() ? 0
                                             : mesh_->PostReceive(peer, TcpChannel::kCollective,
                                                                  WritableBytes(base, slice)));
    }
    pieces.push_back(std::move(piece));
  });
  return pieces;
}

/// Adds every piece as it comes to out[piece.begin...] and reports it.
absl::Status TcpCollective::SumPieces(const std::vector<Piece>& pieces, float* out,
                                      absl::FunctionRef<void(Slice)> summed) {
  for (const Piece& piece : pieces) {
    LOCKSTEP_RETURN_IF_ERROR(mesh_->RunUntilReceived(TcpChannel::kCollective, piece.tickets));
    SumInOrder(piece.addends, piece.slice.count(), out + piece.slice.begin);
    summed(piece.slice);
  }
  return absl::OkStatus();
}

absl::Status TcpCollective::AllReduceSum(std::span<float> out) {
  LOCKSTEP_RETURN_IF_ERROR(TakeAddend(out.size(), pending_count_.value_or(0)));
  bool flat = size() == 2 || out.size_bytes() * static_cast<size_t>(size()) <= kFlatBytes;
  LOCKSTEP_RETURN_IF_ERROR(flat ? ReduceFlat(out) : ReduceInTwoPhases(out));
  return mesh_->RunUntilDone();
}

absl::Status TcpCollective::ReduceFlat(std::span<float> out) {
  Slice all = {0, static_cast<int64_t>(out.size())};
  std::vector<Piece> pieces = PostAddends(std::vector<Slice>(static_cast<size_t>(size()), all));
  return SumPieces(pieces, out.data(), [](Slice) {});
}

absl::Status TcpCollective::ReduceInTwoPhases(std::span<float> out) {
  std::vector<Slice> parts = EqualParts(static_cast<int64_t>(out.size()));
  std::vector<Piece> pieces = PostAddends(parts);
  auto for_each_peer = [&](absl::FunctionRef<void(int)> visit) {
    for (int peer = 0; peer < size(); ++peer) {
      if (peer != rank()) visit(peer);
    }
  };
  for_each_peer([&](int peer) {
    ForEachPiece(parts[peer], [&](Slice slice) {
      mesh_->PostReceive(peer, TcpChannel::kCollective, WritableBytes(out.data(), slice));
    });
  });
  return SumPieces(pieces, out.data(), [&](Slice slice) {
    for_each_peer([&](int peer) {
      mesh_->PostSend(peer, TcpChannel::kCollective, Bytes(out.data(), slice));
    });
  });
}

absl::Status TcpCollective::ReduceScatterSum(std::span<float> out_slice) {
  std::vector<Slice> parts = EqualParts(pending_count_.value_or(0));
  Slice mine = parts[rank()];
  LOCKSTEP_RETURN_IF_ERROR(TakeAddend(out_slice.size(), mine.count()));
  LOCKSTEP_RETURN_IF_ERROR(
      SumPieces(PostAddends(parts), out_slice.data() - mine.begin, [](Slice) {}));
  return mesh_->RunUntilDone();
}

absl::Status TcpCollective::AllGather(std::span<const std::byte> mine, std::span<std::byte> all) {
  LOCKSTEP_RETURN_IF_ERROR(CheckNothingPending());
  if (all.size() != mine.size() * static_cast<size_t>(size())) {
    return mesh_->Fail(absl::InvalidArgumentError(
        absl::StrCat("all has ", all.size(), " bytes; expected ", size(), " times ", mine.size())));
  }
  for (int peer = 0; peer < size(); ++peer) {
    std::span<std::byte> theirs = all.subspan(peer * mine.size(), mine.size());
    if (peer == rank()) {
      std::memmove(theirs.data(), mine.data(), mine.size());
    } else {
      mesh_->PostSend(peer, TcpChannel::kCollective, mine);
      mesh_->PostReceive(peer, TcpChannel::kCollective, theirs);
    }
  }
  return mesh_->RunUntilDone();
}

absl::Status TcpCollective::Broadcast(std::span<std::byte> data, int root) {
  LOCKSTEP_RETURN_IF_ERROR(CheckRoot(root));
  if (rank() != root) mesh_->PostReceive(root, TcpChannel::kCollective, data);
  for (int peer = 0; peer < size() && rank() == root; ++peer) {
    if (peer != root) mesh_->PostSend(peer, TcpChannel::kCollective, data);
  }
  return mesh_->RunUntilDone();
}

absl::Status TcpCollective::CheckRoot(int root) {
  LOCKSTEP_RETURN_IF_ERROR(CheckNothingPending());
  if (root >= 0 && root < size()) return absl::OkStatus();
  return mesh_->Fail(
      absl::InvalidArgumentError(absl::StrCat("rank ", root, " named in a group of ", size())));
}

absl::Status TcpCollective::CheckPeer(int peer) {
  LOCKSTEP_RETURN_IF_ERROR(mesh_->status());
  if (peer >= 0 && peer < size() && peer != rank()) return absl::OkStatus();
  return mesh_->Fail(absl::InvalidArgumentError(
      absl::StrCat("rank ", peer, " named as a peer of rank ", rank(), " in a group of ", size())));
}

absl::Status TcpCollective::Send(int peer, std::span<const std::byte> data) {
  LOCKSTEP_RETURN_IF_ERROR(CheckPeer(peer));
  mesh_->PostSend(peer, TcpChannel::kPointToPoint, data);
  return mesh_->RunUntilDone();
}

absl::Status TcpCollective::Receive(int peer, std::span<std::byte> data) {
  LOCKSTEP_RETURN_IF_ERROR(CheckPeer(peer));
  mesh_->PostReceive(peer, TcpChannel::kPointToPoint, data);
  return mesh_->RunUntilDone();
}

}  // namespace lockstep::worker
