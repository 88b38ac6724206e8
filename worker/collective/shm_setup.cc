// MakeShmSetup: makes this rank's segment, and once all addresses are known maps those of the
// peers.
//
// Names. A segment has a name in /dev/shm from the moment when its address can be published until
// its last peer has mapped it: whoever maps last drops the name. A setup that fails or is destroyed
// drops its own, and the names of peers that it finds dead; what a whole group that was killed in
// between leaves behind is removed by the next setup of the same user.
#include <atomic>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "base/status_macros.h"
#include "worker/collective/collective.h"
#include "worker/collective/member_line.h"
#include "worker/collective/shm_collective.h"
#include "worker/collective/shm_group.h"
#include "worker/collective/shm_layout.h"
#include "worker/collective/shm_segment.h"

namespace lockstep::worker {
namespace {

constexpr std::string_view kAddressKind = "lockstep-shm/1";
/// A group that adds little still broadcasts and gathers: not below 64 KiB.
constexpr size_t kMinBufferBytes = 64 * 1024;
/// Beyond any memory; keeps the arithmetic of sizes from overflowing.
constexpr int64_t kMaxAddendCapacity = int64_t{1} << 44;

size_t BufferBytes(int64_t addend_capacity) {
  size_t bytes = std::max(kMinBufferBytes, static_cast<size_t>(addend_capacity) * sizeof(float));
  return (bytes + kPageBytes - 1) / kPageBytes * kPageBytes;
}

class ShmSetup final : public CollectiveSetup {
 public:
  ShmSetup(std::string domain, int64_t addend_capacity, std::unique_ptr<ShmGroup> group)
      : domain_(std::move(domain)), addend_capacity_(addend_capacity), group_(std::move(group)) {
    const GroupMember& self = group_->member();
    address_ = FormatMemberLine(kAddressKind, self,
                                {{"domain", domain_},
                                 {"segment", group_->segment(self.rank).name()},
                                 {"addend_capacity", absl::StrCat(addend_capacity)}});
  }

  std::string address() const override { return address_; }

  absl::StatusOr<std::unique_ptr<Collective>> Connect(std::span<const std::string> addresses,
                                                      absl::Time deadline) override {
    ShmGroup& group = *group_;
    if (connected_) return absl::FailedPreconditionError("Connect was called twice");
    connected_ = true;
    absl::Status status = MapPeers(addresses);
    if (status.ok()) status = WaitUntilMapped(deadline);
    if (!status.ok()) {
      group.segment(group.member().rank).Unlink();
      status = group.Fail(std::move(status));
      group.Close();
      return status;
    }
    return std::make_unique<ShmCollective>(group_, addend_capacity_);
  }

  void Abort(std::string_view reason) override { group_->Abort(reason); }

 private:
  absl::Status MapPeers(std::span<const std::string> addresses);
  absl::Status CheckFields(const MemberFields& fields, int peer) const;
  absl::Status MapPeer(const std::string& name, int peer);
  absl::Status WaitUntilMapped(absl::Time deadline);
  absl::Status MissingRanks() const;

  std::string domain_;
  int64_t addend_capacity_;
  std::shared_ptr<ShmGroup> group_;
  std::string address_;
  bool connected_ = false;
};

absl::Status ShmSetup::MapPeers(std::span<const std::string> addresses) {
  constexpr std::string_view kRequired[] = {"domain", "segment", "addend_capacity"};
  const GroupMember& self = group_->member();
  LOCKSTEP_ASSIGN_OR_RETURN(std::vector<MemberFields> ranks,
                            ParseAddresses(kAddressKind, self, addresses, kRequired));
  for (int peer = 0; peer < self.size; ++peer) {
    LOCKSTEP_RETURN_IF_ERROR(CheckFields(ranks[peer], peer));
  }
  for (int peer = 0; peer < self.size; ++peer) {
    LOCKSTEP_RETURN_IF_ERROR(group_->status());
    if (peer != self.rank) LOCKSTEP_RETURN_IF_ERROR(MapPeer(ranks[peer].at("segment"), peer));
  }
  return absl::OkStatus();
}

absl::Status ShmSetup::CheckFields(const MemberFields& fields, int peer) const {
  if (fields.at("domain") != domain_) {
    return absl::FailedPreconditionError(absl::StrCat(
        "rank ", peer, " of group ", group_->member().group, " does not share /dev/shm with rank ",
        group_->member().rank, "; only ranks of one node can, others need TCP"));
  }
  if (fields.at("addend_capacity") != absl::StrCat(addend_capacity_)) {
    return absl::FailedPreconditionError(
        absl::StrCat("rank ", peer, " was made for addends of up to ", fields.at("addend_capacity"),
                     " floats, rank ", group_->member().rank, " for ", addend_capacity_));
  }
  return absl::OkStatus();
}

absl::Status ShmSetup::MapPeer(const std::string& name, int peer) {
  const GroupMember& self = group_->member();
  absl::StatusOr<ShmSegment> segment =
      ShmSegment::Open(name, ShmView::SegmentBytes(self.size, group_->buffer_bytes()));
  if (absl::IsNotFound(segment.status())) {
    return absl::UnavailableError(absl::StrCat("rank ", peer, " of group ", self.group,
                                               " is gone: its segment ", name,
                                               " has been removed"));
  }
  LOCKSTEP_RETURN_IF_ERROR(segment.status());
  ShmHeader& header = ShmView(segment->data(), self.size, group_->buffer_bytes()).header();
  if (header.magic != kShmMagic || header.epoch != self.epoch ||
      header.rank != static_cast<uint64_t>(peer)) {
    return absl::FailedPreconditionError(
        absl::StrCat("segment ", name, " is not that of rank ", peer, " in epoch ", self.epoch));
  }
  group_->AddPeer(peer, *std::move(segment));
  RankSet others = SetOfAll(self.size) & ~SetOf(peer);
  RankSet mapped = header.mapped_by.fetch_or(SetOf(self.rank)) | SetOf(self.rank);
  if (mapped == others) group_->segment(peer).Unlink();
  group_->Wake(peer);
  return absl::OkStatus();
}

absl::Status ShmSetup::WaitUntilMapped(absl::Time deadline) {
  std::atomic<uint64_t>& mapped_by = group_->own().header().mapped_by;
  absl::Status status =
      group_->Wait([&] { return mapped_by.load() == group_->peers(); }, group_->peers(), deadline);
  if (absl::IsDeadlineExceeded(status)) return MissingRanks();
  // A group of one has no last rank to map this segment, and that rank may not have come to it yet.
  group_->segment(group_->member().rank).Unlink();
  return status;
}

absl::Status ShmSetup::MissingRanks() const {
  RankSet missing = group_->peers() & ~group_->own().header().mapped_by.load();
  std::vector<int> ranks;
  for (int rank = 0; rank < group_->member().size; ++rank) {
    if (missing & SetOf(rank)) ranks.push_back(rank);
  }
  return absl::DeadlineExceededError(
      absl::StrCat("group ", group_->member().group, " of ", group_->member().size,
                   " ranks did not form: rank ", absl::StrJoin(ranks, ", "), " did not come"));
}

}  // namespace

absl::StatusOr<std::unique_ptr<CollectiveSetup>> MakeShmSetup(const GroupMember& member,
                                                              int64_t addend_capacity) {
  LOCKSTEP_RETURN_IF_ERROR(ValidateMember(member));
  if (addend_capacity < 0 || addend_capacity > kMaxAddendCapacity) {
    return absl::InvalidArgumentError(absl::StrCat("addends of up to ", addend_capacity,
                                                   " floats asked for; legal are 0 to ",
                                                   kMaxAddendCapacity));
  }
  ShmSegment::RemoveOrphans();
  LOCKSTEP_ASSIGN_OR_RETURN(std::string domain, ShmDomain());
  size_t buffer_bytes = BufferBytes(addend_capacity);
  LOCKSTEP_ASSIGN_OR_RETURN(ShmSegment segment,
                            ShmSegment::Create(ShmView::SegmentBytes(member.size, buffer_bytes)));
  ShmHeader& header = ShmView(segment.data(), member.size, buffer_bytes).header();
  header.magic = kShmMagic;
  header.epoch = member.epoch;
  header.rank = static_cast<uint64_t>(member.rank);
  header.size = static_cast<uint64_t>(member.size);
  header.buffer_bytes = buffer_bytes;
  LOCKSTEP_RETURN_IF_ERROR(segment.Publish());
  return std::make_unique<ShmSetup>(
      std::move(domain), addend_capacity,
      std::make_unique<ShmGroup>(member, std::move(segment), buffer_bytes));
}

}  // namespace lockstep::worker
