// What the ranks of a group do together: one interface over shared memory (ranks of a node), TCP
// (ranks of different nodes), NCCL (GPUs) and the trivial group of one.
#ifndef LOCKSTEP_WORKER_COLLECTIVE_COLLECTIVE_H_
#define LOCKSTEP_WORKER_COLLECTIVE_COLLECTIVE_H_

#include <cstddef>
#include <cstdint>
#include <memory>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/time/time.h"

namespace lockstep::worker {

/// A communicator of `size()` ranks for one epoch. All ranks call the same operations in the same
/// order with the same sizes; every call blocks until its result is there. One thread at a time
/// operates; Abort may come from any other thread. Once an operation has failed or Abort was
/// called, every later operation fails with the first error; make a new communicator (new epoch).
/// Errors: Unavailable when a peer is gone (named), Aborted after Abort (with its reason).
class Collective {
 public:
  virtual ~Collective() = default;

  virtual int rank() const = 0;
  virtual int size() const = 0;
  /// For `status` and metrics: "shm", "tcp", "nccl" or "solo".
  virtual std::string_view kind() const = 0;

  /// Where this rank writes its addend to the next AllReduceSum: `count` floats, 64-byte aligned,
  /// in memory that the peers read. Valid, with undefined contents, until that AllReduceSum
  /// returns. Blocks at most until the peers have read what lay there before. Until the sum has
  /// been asked for, of the other operations only Send and Receive may come between.
  virtual absl::StatusOr<std::span<float>> Addend(int64_t count) = 0;
  /// out[i] = addend of rank 0 [i] + addend of rank 1 [i] + ..., added in rank order in fp32, so
  /// that all ranks get the same bits. out: [count] of the last Addend, not overlapping it.
  virtual absl::Status AllReduceSum(std::span<float> out) = 0;
  /// As AllReduceSum, but rank r receives only its own slice: floats [count * r / size, count *
  /// (r + 1) / size) of the sum.
  virtual absl::Status ReduceScatterSum(std::span<float> out_slice) = 0;
  /// all = concatenation in rank order of every rank's `mine`; all.size() == mine.size() * size().
  virtual absl::Status AllGather(std::span<const std::byte> mine, std::span<std::byte> all) = 0;
  /// Every rank's `data` becomes that of `root`.
  virtual absl::Status Broadcast(std::span<std::byte> data, int root) = 0;
  /// Point to point, matched in order per pair of ranks and direction. Send returns when `data` may
  /// be reused, perhaps before the peer has received it.
  virtual absl::Status Send(int peer, std::span<const std::byte> data) = 0;
  virtual absl::Status Receive(int peer, std::span<std::byte> data) = 0;

  /// Makes the operation under way and all later ones fail within 10 ms with Aborted and `reason`,
  /// whatever state the peers are in. Idempotent, thread-safe.
  virtual void Abort(std::string_view reason) = 0;

  /// Nanoseconds that this rank has spent waiting for peers since it was made. Thread-safe.
  virtual int64_t wait_ns() const = 0;
};

/// A communicator in the making. May be destroyed before or after the Collective that it made. The
/// rendezvous is three steps: every rank makes one and publishes its address(); somebody (the
/// coordinator) hands all addresses to all; every rank Connects.
class CollectiveSetup {
 public:
  virtual ~CollectiveSetup() = default;
  /// What the peers need to reach this rank, opaque to whoever carries it.
  virtual std::string address() const = 0;
  /// addresses[r] is rank r's address(). Blocks until the group stands, `deadline` passes
  /// (DeadlineExceeded, naming the ranks that are missing) or Abort is called.
  virtual absl::StatusOr<std::unique_ptr<Collective>> Connect(
      std::span<const std::string> addresses, absl::Time deadline) = 0;
  /// Makes a Connect under way fail with Aborted, and aborts the Collective that Connect has made,
  /// so that an Abort which races with the end of Connect is not lost. Thread-safe, idempotent.
  virtual void Abort(std::string_view reason) = 0;
};

/// Who this rank is in a group to be made.
struct GroupMember {
  uint64_t epoch = 0;
  std::string group;  // unique within the epoch, e.g. "tp0" or "pp1"
  int rank = 0;
  int size = 1;
};

/// Ranks that share /dev/shm. `addend_capacity` is the largest count that Addend will be asked for;
/// the rank takes eight bytes of /dev/shm for each, and 128 KiB for each peer. ResourceExhausted if
/// /dev/shm is too small, with what was asked and what is free.
absl::StatusOr<std::unique_ptr<CollectiveSetup>> MakeShmSetup(const GroupMember& member,
                                                              int64_t addend_capacity);
/// Ranks anywhere, over TCP. Listens at once on `interface_address` ("10.0.0.1", "127.0.0.1",
/// "::1"), any port.
absl::StatusOr<std::unique_ptr<CollectiveSetup>> MakeTcpSetup(const GroupMember& member,
                                                              const std::string& interface_address);
/// The group of one.
std::unique_ptr<Collective> MakeSoloCollective();

/// Identifies the shared-memory domain that this process lives in: a nonce kept in /dev/shm, made
/// by the first to ask. Two processes share memory if and only if they read the same nonce.
absl::StatusOr<std::string> ShmDomain();

}  // namespace lockstep::worker

#endif  // LOCKSTEP_WORKER_COLLECTIVE_COLLECTIVE_H_
