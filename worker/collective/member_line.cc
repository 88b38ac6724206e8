// See member_line.h.
#include "worker/collective/member_line.h"

#include <algorithm>
#include <utility>

#include "absl/strings/ascii.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_split.h"
#include "base/status_macros.h"

namespace lockstep::worker {
namespace {

constexpr size_t kMaxGroupName = 63;
constexpr size_t kMaxLine = 1024;

bool IsGroupName(std::string_view name) {
  return !name.empty() && name.size() <= kMaxGroupName &&
         std::all_of(name.begin(), name.end(), [](char c) {
           return absl::ascii_isalnum(static_cast<unsigned char>(c)) || c == '.' || c == '_' ||
                  c == '-';
         });
}

MemberFields OwnFields(const GroupMember& member, int rank) {
  return {{"epoch", absl::StrCat(member.epoch)},
          {"group", member.group},
          {"rank", absl::StrCat(rank)},
          {"size", absl::StrCat(member.size)}};
}

}  // namespace

absl::Status ValidateMember(const GroupMember& member) {
  if (member.size < 1 || member.size > kMaxGroupSize) {
    return absl::InvalidArgumentError(
        absl::StrCat("group size ", member.size, " asked for; legal are 1 to ", kMaxGroupSize));
  }
  if (member.rank < 0 || member.rank >= member.size) {
    return absl::InvalidArgumentError(absl::StrCat("rank ", member.rank,
                                                   " asked for in a group of ", member.size,
                                                   "; legal are 0 to ", member.size - 1));
  }
  if (!IsGroupName(member.group)) {
    return absl::InvalidArgumentError(absl::StrCat("group name \"", member.group,
                                                   "\" found; legal are 1 to ", kMaxGroupName,
                                                   " letters, digits, '.', '_' and '-'"));
  }
  return absl::OkStatus();
}

std::string FormatMemberLine(std::string_view kind, const GroupMember& member,
                             const MemberFields& extra) {
  std::string line(kind);
  for (const auto& [key, value] : OwnFields(member, member.rank)) {
    absl::StrAppend(&line, " ", key, "=", value);
  }
  for (const auto& [key, value] : extra) absl::StrAppend(&line, " ", key, "=", value);
  return line;
}

absl::StatusOr<MemberFields> ParseMemberLine(std::string_view kind, std::string_view line,
                                             std::span<const std::string_view> required) {
  std::vector<std::string> words;
  if (line.size() <= kMaxLine) {
    words = absl::StrSplit(absl::string_view(line.data(), line.size()), ' ');
  }
  if (words.empty() || words[0] != kind) {
    return absl::InvalidArgumentError(
        absl::StrCat("a line that starts with \"", absl::string_view(kind.data(), kind.size()),
                     "\" was expected: the ranks' versions differ or this is no rank"));
  }
  MemberFields fields;
  for (size_t i = 1; i < words.size(); ++i) {
    std::pair<std::string, std::string> field = absl::StrSplit(words[i], absl::MaxSplits('=', 1));
    fields.insert(std::move(field));
  }
  for (std::string_view key : required) {
    if (!fields.contains(std::string(key))) {
      return absl::InvalidArgumentError(absl::StrCat(
          "no \"", absl::string_view(key.data(), key.size()), "=\" in a line of kind ", words[0]));
    }
  }
  return fields;
}

absl::Status CheckMember(const MemberFields& fields, const GroupMember& self, int peer) {
  for (const auto& [key, expected] : OwnFields(self, peer)) {
    auto found = fields.find(key);
    std::string value = found == fields.end() ? "nothing" : found->second;
    if (value != expected) {
      return absl::FailedPreconditionError(
          absl::StrCat("rank ", peer, " of group ", self.group, " says ", key, " ", value,
                       " where ", expected, " was expected: stale or misdirected"));
    }
  }
  return absl::OkStatus();
}

absl::StatusOr<std::vector<MemberFields>> ParseAddresses(
    std::string_view kind, const GroupMember& self, std::span<const std::string> addresses,
    std::span<const std::string_view> required) {
  if (addresses.size() != static_cast<size_t>(self.size)) {
    return absl::InvalidArgumentError(absl::StrCat("group ", self.group, " has ", self.size,
                                                   " ranks but ", addresses.size(),
                                                   " addresses were given"));
  }
  std::vector<MemberFields> result;
  for (int rank = 0; rank < self.size; ++rank) {
    absl::StatusOr<MemberFields> fields = ParseMemberLine(kind, addresses[rank], required);
    if (!fields.ok()) {
      return absl::InvalidArgumentError(
          absl::StrCat("address of rank ", rank, ": ", fields.status().message()));
    }
    LOCKSTEP_RETURN_IF_ERROR(CheckMember(*fields, self, rank));
    result.push_back(*std::move(fields));
  }
  return result;
}

}  // namespace lockstep::worker
