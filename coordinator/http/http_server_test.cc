// The server over real sockets, with small limits and handlers that need no model.
#include "coordinator/http/http_server.h"

#include <boost/asio/connect.hpp>
#include <boost/asio/io_context.hpp>
#include <boost/asio/ip/tcp.hpp>
#include <boost/asio/read.hpp>
#include <boost/asio/write.hpp>
#include <memory>
#include <string>
#include <utility>

#include "absl/synchronization/mutex.h"
#include "absl/time/time.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"

namespace lockstep::coordinator {
namespace {

namespace asio = boost::asio;
using asio::ip::tcp;
using ::testing::EndsWith;
using ::testing::HasSubstr;
using ::testing::Not;
using ::testing::StartsWith;

constexpr absl::Duration kPatience = absl::Seconds(20);

/// Parts that the test hands in one by one.
class ScriptedResponse final : public PendingResponse {
 public:
  void OnReady(std::function<void()> wake) override {
    absl::MutexLock lock(&mutex_);
    wake_ = std::move(wake);
  }
  std::optional<ResponsePart> Next() override {
    absl::MutexLock lock(&mutex_);
    if (parts_.empty()) return std::nullopt;
    ResponsePart part = std::move(parts_.front());
    parts_.erase(parts_.begin());
    return part;
  }
  void Close() override {
    absl::MutexLock lock(&mutex_);
    wake_ = nullptr;
    closed_ = true;
  }
  void Add(ResponsePart part) {
    absl::MutexLock lock(&mutex_);
    parts_.push_back(std::move(part));
    if (wake_) wake_();
  }
  bool WaitUntilClosed() {
    absl::MutexLock lock(&mutex_);
    return mutex_.AwaitWithTimeout(absl::Condition(&closed_), kPatience);
  }

 private:
  absl::Mutex mutex_;
  std::function<void()> wake_ ABSL_GUARDED_BY(mutex_);
  std::vector<ResponsePart> parts_ ABSL_GUARDED_BY(mutex_);
  bool closed_ ABSL_GUARDED_BY(mutex_) = false;
};

class HttpServerTest : public ::testing::Test {
 protected:
  void Start(const HttpLimits& limits = {}) {
    server_ =
        HttpServer::Start(
            "127.0.0.1", 0, [this](const HttpRequest& request) { return Answer(request); }, limits)
            .value();
  }

  HttpAnswer Answer(const HttpRequest& request) {
    if (request.path == "/stream") return std::static_pointer_cast<PendingResponse>(stream_);
    return HttpResponse{.body = request.method + " " + request.path + " " + request.body};
  }

  tcp::socket Connect() {
    tcp::socket socket(io_);
    socket.connect({asio::ip::make_address("127.0.0.1"), static_cast<uint16_t>(server_->port())});
    return socket;
  }

  /// Sends, and reads until the server closes.
  std::string Exchange(const std::string& request) {
    tcp::socket socket = Connect();
    boost::system::error_code error;
    asio::write(socket, asio::buffer(request), error);
    return ReadAll(socket);
  }

  static std::string ReadAll(tcp::socket& socket) {
    std::string text;
    boost::system::error_code end;
    asio::read(socket, asio::dynamic_buffer(text), end);
    return text;
  }

  static std::string ReadBytes(tcp::socket& socket, size_t count) {
    std::string text(count, '\0');
    asio::read(socket, asio::buffer(text));
    return text;
  }

  asio::io_context io_;
  const std::shared_ptr<ScriptedResponse> stream_ = std::make_shared<ScriptedResponse>();
  // Last: its threads use the above.
  std::unique_ptr<HttpServer> server_;
};

const std::string kLast = "GET /a?b=c HTTP/1.1\r\nConnection: close\r\n\r\n";

TEST_F(HttpServerTest, AnswersWithLengthAndKeepsTheConnection) {
  Start();
  const std::string answers = Exchange("POST /x HTTP/1.1\r\nContent-Length: 3\r\n\r\nabc" + kLast);
  EXPECT_THAT(answers, StartsWith("HTTP/1.1 200 OK\r\n"));
  EXPECT_THAT(answers, HasSubstr("Content-Length: 11\r\n"));
  EXPECT_THAT(answers, HasSubstr("POST /x abcHTTP/1.1 200 OK"));
  EXPECT_THAT(answers, EndsWith("GET /a "));
}

TEST_F(HttpServerTest, PartsBecomeChunksAsTheyCome) {
  Start();
  tcp::socket socket = Connect();
  asio::write(socket,
              asio::buffer(std::string("GET /stream HTTP/1.1\r\nConnection: close\r\n\r\n")));
  stream_->Add({.head = HttpHead{.content_type = "text/plain"}});
  stream_->Add({.body = "hello"});
  stream_->Add({.body = "end", .last = true});
  const std::string answer = ReadAll(socket);
  EXPECT_THAT(answer, HasSubstr("Transfer-Encoding: chunked\r\n"));
  EXPECT_THAT(answer, EndsWith("\r\n\r\n5\r\nhello\r\n3\r\nend\r\n0\r\n\r\n"));
  EXPECT_TRUE(stream_->WaitUntilClosed());
}

TEST_F(HttpServerTest, AnOldClientGetsAStreamUntilTheConnectionCloses) {
  Start();
  stream_->Add({.head = HttpHead{}, .body = "hello"});
  stream_->Add({.body = "end", .last = true});
  const std::string answer = Exchange("GET /stream HTTP/1.0\r\n\r\n");
  EXPECT_THAT(answer, Not(HasSubstr("chunked")));
  EXPECT_THAT(answer, EndsWith("\r\n\r\nhelloend"));
}

TEST_F(HttpServerTest, AClientThatLeavesClosesTheResponse) {
  Start();
  {
    tcp::socket socket = Connect();
    asio::write(socket, asio::buffer(std::string("GET /stream HTTP/1.1\r\n\r\n")));
    stream_->Add({.head = HttpHead{}, .body = "hello"});
    EXPECT_THAT(ReadBytes(socket, 12), StartsWith("HTTP/1.1 200"));
  }
  EXPECT_TRUE(stream_->WaitUntilClosed());
}

TEST_F(HttpServerTest, ALargeBodyIsExpectedOrRefused) {
  Start({.body_bytes = 10});
  EXPECT_THAT(Exchange("POST /x HTTP/1.1\r\nExpect: 100-continue\r\nContent-Length: 2\r\n"
                       "Connection: close\r\n\r\nab"),
              StartsWith("HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 200 OK"));
  EXPECT_THAT(Exchange("POST /x HTTP/1.1\r\nContent-Length: 11\r\n\r\nabcdefghijk"),
              StartsWith("HTTP/1.1 413 "));
  EXPECT_THAT(
      Exchange("POST /x HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\nb\r\nabcdefghijk\r\n"),
      StartsWith("HTTP/1.1 413 "));
}

TEST_F(HttpServerTest, AllBodiesTogetherAreBounded) {
  Start({.all_bodies_bytes = 10});
  tcp::socket socket = Connect();
  asio::write(socket,
              asio::buffer(std::string("POST /x HTTP/1.1\r\nContent-Length: 8\r\n"
                                       "Connection: close\r\nExpect: 100-continue\r\n\r\n")));
  EXPECT_THAT(ReadBytes(socket, 25), StartsWith("HTTP/1.1 100"));
  EXPECT_THAT(Exchange("POST /x HTTP/1.1\r\nContent-Length: 8\r\n\r\nabcdefgh"),
              StartsWith("HTTP/1.1 503 "));
  asio::write(socket, asio::buffer(std::string("abcdefgh")));
  EXPECT_THAT(ReadAll(socket), EndsWith("abcdefgh"));
  // What the first held is free again.
  EXPECT_THAT(
      Exchange("POST /x HTTP/1.1\r\nConnection: close\r\nContent-Length: 8\r\n\r\nabcdefgh"),
      StartsWith("HTTP/1.1 200 "));
}

TEST_F(HttpServerTest, SlowRequestsAndIdleConnectionsEnd) {
  Start({.idle = std::chrono::milliseconds(50),
         .header = std::chrono::milliseconds(50),
         .body = std::chrono::milliseconds(50)});
  EXPECT_THAT(Exchange("GET / HT"), StartsWith("HTTP/1.1 408 "));
  EXPECT_THAT(Exchange("POST / HTTP/1.1\r\nContent-Length: 5\r\n\r\nab"),
              StartsWith("HTTP/1.1 408 "));
  EXPECT_EQ(Exchange(""), "");
}

TEST_F(HttpServerTest, WhatIsNoHttpIsRefused) {
  Start({.header_bytes = 1000});
  EXPECT_THAT(Exchange("nonsense\r\n\r\n"), StartsWith("HTTP/1.1 400 "));
  EXPECT_THAT(Exchange("GET / HTTP/1.1\r\nX: " + std::string(2000, 'a')),
              StartsWith("HTTP/1.1 431 "));
}

TEST_F(HttpServerTest, ConnectionsBeyondTheLimitAreTurnedAway) {
  Start({.connections = 1});
  tcp::socket first = Connect();
  asio::write(first, asio::buffer(std::string("GET /a HTTP/1.1\r\n\r\n")));
  EXPECT_THAT(ReadBytes(first, 12), StartsWith("HTTP/1.1 200"));
  EXPECT_THAT(Exchange(kLast), StartsWith("HTTP/1.1 503 "));
}

TEST_F(HttpServerTest, StopEndsWhatIsUnderWay) {
  Start();
  tcp::socket socket = Connect();
  asio::write(socket, asio::buffer(std::string("GET /stream HTTP/1.1\r\n\r\n")));
  stream_->Add({.head = HttpHead{}, .body = "hello"});
  EXPECT_THAT(ReadBytes(socket, 12), StartsWith("HTTP/1.1 200"));
  server_.reset();
  ReadAll(socket);
}

TEST_F(HttpServerTest, AnAddressThatCannotBeHadIsRefusedWithTheFlag) {
  Start();
  const auto second = HttpServer::Start("127.0.0.1", server_->port(), {});
  EXPECT_EQ(second.status().code(), absl::StatusCode::kInvalidArgument);
  EXPECT_THAT(std::string(second.status().message()), HasSubstr("--http"));
  EXPECT_FALSE(HttpServer::Start("no.such.host.invalid", 0, {}).ok());
}

}  // namespace
}  // namespace lockstep::coordinator
