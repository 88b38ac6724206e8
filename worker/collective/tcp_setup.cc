// MakeTcpSetup: listens at once, and once all addresses are known connects every pair of ranks.
#include <sys/eventfd.h>

#include <cerrno>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "absl/synchronization/mutex.h"
#include "base/status_macros.h"
#include "worker/collective/collective.h"
#include "worker/collective/failure_latch.h"
#include "worker/collective/member_line.h"
#include "worker/collective/random_nonce.h"
#include "worker/collective/tcp_collective.h"
#include "worker/collective/tcp_mesh.h"
#include "worker/collective/tcp_rendezvous.h"
#include "worker/collective/tcp_socket.h"
#include "worker/collective/unique_fd.h"

namespace lockstep::worker {
namespace {

constexpr std::string_view kAddressKind = "lockstep-tcp/1";

absl::StatusOr<UniqueFd> MakeWakeFd() {
  UniqueFd fd(eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK));
  if (!fd) return absl::ErrnoToStatus(errno, "cannot make an eventfd");
  return fd;
}

absl::StatusOr<std::vector<TcpEndpoint>> ParseEndpoints(const GroupMember& self,
                                                        std::span<const std::string> addresses) {
  constexpr std::string_view kRequired[] = {"address", "port", "secret"};
  LOCKSTEP_ASSIGN_OR_RETURN(std::vector<MemberFields> ranks,
                            ParseAddresses(kAddressKind, self, addresses, kRequired));
  std::vector<TcpEndpoint> endpoints;
  for (const MemberFields& fields : ranks) {
    uint32_t port = 0;
    if (!absl::SimpleAtoi(fields.at("port"), &port) || port == 0 || port > 65535) {
      return absl::InvalidArgumentError(absl::StrCat("address of rank ", fields.at("rank"),
                                                     ": port ", fields.at("port"),
                                                     "; legal are 1 to 65535"));
    }
    endpoints.push_back({fields.at("address"), static_cast<uint16_t>(port), fields.at("secret")});
  }
  return endpoints;
}

class TcpSetup final : public CollectiveSetup {
 public:
  TcpSetup(const GroupMember& member, TcpEndpoint endpoint, UniqueFd listener, UniqueFd wake,
           UniqueFd mesh_wake)
      : member_(member),
        endpoint_(std::move(endpoint)),
        listener_(std::move(listener)),
        wake_(std::move(wake)),
        mesh_wake_(std::move(mesh_wake)) {}

  std::string address() const override {
    return FormatMemberLine(kAddressKind, member_,
                            {{"address", endpoint_.address},
                             {"port", absl::StrCat(endpoint_.port)},
                             {"secret", endpoint_.secret}});
  }

  absl::StatusOr<std::unique_ptr<Collective>> Connect(std::span<const std::string> addresses,
                                                      absl::Time deadline) override {
    if (!listener_) return absl::FailedPreconditionError("Connect was called twice");
    absl::StatusOr<std::unique_ptr<Collective>> collective = Join(addresses, deadline);
    listener_.Close();
    if (!collective.ok()) return failure_.Raise(collective.status());
    return collective;
  }

  void Abort(std::string_view reason) override {
    absl::MutexLock lock(&mutex_);
    failure_.RaiseAborted(reason);
    eventfd_write(wake_.get(), 1);
    if (mesh_ != nullptr) mesh_->Abort(reason);
  }

 private:
  absl::StatusOr<std::unique_ptr<Collective>> Join(std::span<const std::string> addresses,
                                                   absl::Time deadline) {
    LOCKSTEP_ASSIGN_OR_RETURN(std::vector<TcpEndpoint> endpoints,
                              ParseEndpoints(member_, addresses));
    TcpRendezvous rendezvous(member_, std::move(endpoints), listener_, wake_, failure_);
    LOCKSTEP_ASSIGN_OR_RETURN(std::vector<UniqueFd> sockets, rendezvous.Run(deadline));
    absl::MutexLock lock(&mutex_);
    LOCKSTEP_RETURN_IF_ERROR(failure_.status());
    mesh_ = std::make_shared<TcpMesh>(member_, std::move(sockets), std::move(mesh_wake_));
    return std::make_unique<TcpCollective>(mesh_);
  }

  GroupMember member_;
  TcpEndpoint endpoint_;
  UniqueFd listener_;
  UniqueFd wake_;
  UniqueFd mesh_wake_;
  FailureLatch failure_;
  absl::Mutex mutex_;
  std::shared_ptr<TcpMesh> mesh_ ABSL_GUARDED_BY(mutex_);
};

}  // namespace

absl::StatusOr<std::unique_ptr<CollectiveSetup>> MakeTcpSetup(
    const GroupMember& member, const std::string& interface_address) {
  LOCKSTEP_RETURN_IF_ERROR(ValidateMember(member));
  LOCKSTEP_ASSIGN_OR_RETURN(UniqueFd listener, ListenTcp(interface_address));
  LOCKSTEP_ASSIGN_OR_RETURN(uint16_t port, PortOf(listener));
  LOCKSTEP_ASSIGN_OR_RETURN(UniqueFd wake, MakeWakeFd());
  LOCKSTEP_ASSIGN_OR_RETURN(UniqueFd mesh_wake, MakeWakeFd());
  return std::make_unique<TcpSetup>(member, TcpEndpoint{interface_address, port, RandomNonce()},
                                    std::move(listener), std::move(wake), std::move(mesh_wake));
}

}  // namespace lockstep::worker
