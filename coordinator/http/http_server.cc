// The acceptor, its threads, and their end.
#include "coordinator/http/http_server.h"

#include <glog/logging.h>
#include <sys/resource.h>

#include <boost/asio/executor_work_guard.hpp>
#include <boost/asio/io_context.hpp>
#include <boost/asio/ip/tcp.hpp>
#include <boost/asio/post.hpp>
#include <boost/asio/steady_timer.hpp>
#include <boost/asio/strand.hpp>
#include <boost/asio/thread_pool.hpp>
#include <chrono>
#include <thread>
#include <utility>
#include <vector>

#include "absl/status/status.h"
#include "absl/strings/str_cat.h"
#include "absl/time/clock.h"
#include "absl/time/time.h"

namespace lockstep::coordinator {
namespace {

namespace asio = boost::asio;
using asio::ip::tcp;
using boost::system::error_code;

constexpr int kSocketThreads = 2;
constexpr int kHandlerThreads = 2;
constexpr absl::Duration kGrace = absl::Milliseconds(500);
// With no file left for a connection, until one may have become free.
constexpr std::chrono::milliseconds kAcceptPause{50};

void RaiseFileLimit() {
  rlimit limit{};
  if (getrlimit(RLIMIT_NOFILE, &limit) != 0 || limit.rlim_cur == limit.rlim_max) return;
  limit.rlim_cur = limit.rlim_max;
  if (setrlimit(RLIMIT_NOFILE, &limit) != 0) PLOG(WARNING) << "the limit of open files stays";
}

class AsioHttpServer final : public HttpServer {
 public:
  AsioHttpServer(HttpHandler handler, const HttpLimits& limits) {
    context_.handler = std::move(handler);
    context_.limits = limits;
    context_.handlers = &handlers_;
  }

  ~AsioHttpServer() override { Stop(); }

  absl::Status Listen(std::string host, int port) {
    if (host.starts_with('[') && host.ends_with(']')) host = host.substr(1, host.size() - 2);
    error_code error;
    tcp::resolver resolver(io_);
    const auto found = resolver.resolve(host, std::to_string(port), tcp::resolver::passive, error);
    if (!error) Open(found.begin()->endpoint(), error);
    if (!error) return absl::OkStatus();
    return absl::InvalidArgumentError(
        absl::StrCat("cannot listen on ", host, ":", port, " for HTTP: ", error.message(),
                     "; --http takes HOST:PORT, and port 0 chooses a free one"));
  }

  void Run() {
    Accept();
    for (int i = 0; i < kSocketThreads; ++i) threads_.emplace_back([this] { io_.run(); });
  }

  int port() const override { return port_; }

  void Stop() override {
    if (threads_.empty()) return;
    asio::post(acceptor_.get_executor(), [this] {
      error_code ignored;
      acceptor_.close(ignored);
      accept_pause_.cancel();
    });
    const absl::Time deadline = absl::Now() + kGrace;
    while (context_.busy > 0 && absl::Now() < deadline) absl::SleepFor(absl::Milliseconds(5));
    handlers_.join();
    work_.reset();
    io_.stop();
    for (std::thread& thread : threads_) thread.join();
    threads_.clear();
  }

 private:
  void Open(const tcp::endpoint& endpoint, error_code& error) {
    acceptor_.open(endpoint.protocol(), error);
    if (!error) acceptor_.set_option(tcp::acceptor::reuse_address(true), error);
    if (!error) acceptor_.bind(endpoint, error);
    if (!error) acceptor_.listen(asio::socket_base::max_listen_connections, error);
    if (!error) port_ = acceptor_.local_endpoint(error).port();
  }

  void Accept() {
    acceptor_.async_accept(asio::make_strand(io_), [this](error_code error, tcp::socket socket) {
      if (error == asio::error::operation_aborted || !acceptor_.is_open()) return;
      if (error) return AcceptLater(error);
      std::make_shared<HttpSession>(std::move(socket), context_)->Start();
      Accept();
    });
  }

  void AcceptLater(error_code error) {
    LOG(WARNING) << "a connection cannot be taken: " << error.message();
    accept_pause_.expires_after(kAcceptPause);
    accept_pause_.async_wait([this](error_code stopped) {
      if (!stopped) Accept();
    });
  }

  HttpSessionContext context_;
  asio::thread_pool handlers_{kHandlerThreads};
  asio::io_context io_;
  asio::executor_work_guard<asio::io_context::executor_type> work_{io_.get_executor()};
  tcp::acceptor acceptor_{asio::make_strand(io_)};
  asio::steady_timer accept_pause_{acceptor_.get_executor()};
  int port_ = 0;
  std::vector<std::thread> threads_;
};

}  // namespace

absl::StatusOr<std::unique_ptr<HttpServer>> HttpServer::Start(const std::string& host, int port,
                                                              HttpHandler handler,
                                                              const HttpLimits& limits) {
  RaiseFileLimit();
  auto server = std::make_unique<AsioHttpServer>(std::move(handler), limits);
  absl::Status listening = server->Listen(host, port);
  if (!listening.ok()) return listening;
  server->Run();
  return server;
}

}  // namespace lockstep::coordinator
