// The one line of text by which a rank introduces itself: its address in the rendezvous and its
// greeting on a socket. Words of "key=value" behind a first word that names kind and version.
#ifndef LOCKSTEP_WORKER_COLLECTIVE_MEMBER_LINE_H_
#define LOCKSTEP_WORKER_COLLECTIVE_MEMBER_LINE_H_

#include <map>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "worker/collective/collective.h"

namespace lockstep::worker {

using MemberFields = std::map<std::string, std::string>;

/// The largest group: peers are kept as bits of one word.
inline constexpr int kMaxGroupSize = 64;

/// Refuses (InvalidArgument) a member whose rank, size or group name cannot be.
absl::Status ValidateMember(const GroupMember& member);

/// "KIND epoch=3 group=tp0 rank=1 size=4 ..." with `extra` at the end; values hold no spaces.
std::string FormatMemberLine(std::string_view kind, const GroupMember& member,
                             const MemberFields& extra);

/// The fields of a line made by FormatMemberLine with the same `kind`, all of `required` present;
/// InvalidArgument if it is not one.
absl::StatusOr<MemberFields> ParseMemberLine(std::string_view kind, std::string_view line,
                                             std::span<const std::string_view> required);

/// FailedPrecondition unless `fields` are those of rank `peer` in the epoch and group of `self`.
absl::Status CheckMember(const MemberFields& fields, const GroupMember& self, int peer);

/// The fields of every rank's address, checked to be of the epoch and group of `self`, in rank
/// order.
absl::StatusOr<std::vector<MemberFields>> ParseAddresses(
    std::string_view kind, const GroupMember& self, std::span<const std::string> addresses,
    std::span<const std::string_view> required);

}  // namespace lockstep::worker

#endif  // LOCKSTEP_WORKER_COLLECTIVE_MEMBER_LINE_H_
