// Ranks of different nodes, over TCP sockets of ours.
//
// Overview. Up to kFlatBytes of all addends, and always between two ranks, everybody sends its
// addend to everybody and adds them all; above, rank r receives and adds slice r and sends the sum
// to everybody. Both add in rank order by the same function as ShmCollective, so that the bits are
// the same. Large messages travel in pieces, so that adding one overlaps with receiving the next.
//
// Lifetime. Shares its TcpMesh, and with it the sockets, with the setup that made it; destruction
// closes the connections. Addends and scratch are private memory that grows as needed.
#ifndef LOCKSTEP_WORKER_COLLECTIVE_TCP_COLLECTIVE_H_
#define LOCKSTEP_WORKER_COLLECTIVE_TCP_COLLECTIVE_H_

#include <cstdint>
#include <memory>
#include <optional>
#include <span>
#include <string_view>
#include <vector>

#include "absl/functional/function_ref.h"
#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "worker/collective/aligned_floats.h"
#include "worker/collective/collective.h"
#include "worker/collective/sum.h"
#include "worker/collective/tcp_mesh.h"

namespace lockstep::worker {

/// See Collective.
class TcpCollective final : public Collective {
 public:
  /// Up to this many bytes of all addends together every rank adds everything itself.
  static constexpr size_t kFlatBytes = 128 * 1024;
  /// Floats of a piece.
  static constexpr int64_t kPiece = 64 * 1024;

  explicit TcpCollective(std::shared_ptr<TcpMesh> mesh);
  ~TcpCollective() override { mesh_->Abort("the communicator was closed"); }

  int rank() const override { return mesh_->member().rank; }
  int size() const override { return mesh_->member().size; }
  std::string_view kind() const override { return "tcp"; }
  absl::StatusOr<std::span<float>> Addend(int64_t count) override;
  absl::Status AllReduceSum(std::span<float> out) override;
  absl::Status ReduceScatterSum(std::span<float> out_slice) override;
  absl::Status AllGather(std::span<const std::byte> mine, std::span<std::byte> all) override;
  absl::Status Broadcast(std::span<std::byte> data, int root) override;
  absl::Status Send(int peer, std::span<const std::byte> data) override;
  absl::Status Receive(int peer, std::span<std::byte> data) override;
  void Abort(std::string_view reason) override { mesh_->Abort(reason); }
  int64_t wait_ns() const override { return mesh_->wait_ns(); }

 private:
  /// One piece of this rank's part of a sum: when its addends have come, and where they lie.
  struct Piece {
    Slice slice;
    std::vector<uint64_t> tickets;      // by rank
    std::vector<const float*> addends;  // by rank
  };

  absl::Status CheckPeer(int peer);
  absl::Status CheckNothingPending();
  absl::Status CheckRoot(int root);
  absl::Status TakeAddend(size_t found, int64_t expected);
  std::vector<Slice> EqualParts(int64_t count) const;
  std::vector<Piece> PostAddends(const std::vector<Slice>& parts);
  absl::Status SumPieces(const std::vector<Piece>& pieces, float* out,
                         absl::FunctionRef<void(Slice)> summed);
  absl::Status ReduceFlat(std::span<float> out);
  absl::Status ReduceInTwoPhases(std::span<float> out);

  std::shared_ptr<TcpMesh> mesh_;
  AlignedFloats addend_;
  AlignedFloats peer_addends_;
  /// Of the Addend whose sum has not been asked for yet.
  std::optional<int64_t> pending_count_;
};

}  // namespace lockstep::worker

#endif  // LOCKSTEP_WORKER_COLLECTIVE_TCP_COLLECTIVE_H_
