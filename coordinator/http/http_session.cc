// Read, answer, write, again: each step starts the next from its completion.
#include "coordinator/http/http_session.h"

#include <boost/asio/bind_executor.hpp>
#include <boost/asio/post.hpp>
#include <boost/asio/read.hpp>
#include <boost/asio/write.hpp>
#include <boost/beast/http/error.hpp>
#include <boost/beast/http/read.hpp>
#include <boost/beast/http/write.hpp>
#include <sstream>
#include <utility>

#include "absl/strings/str_cat.h"
#include "base/version.h"
#include "coordinator/http/api_error.h"

namespace lockstep::coordinator {
namespace {

namespace asio = boost::asio;
namespace http = boost::beast::http;
using boost::system::error_code;

constexpr char kContinue[] = "HTTP/1.1 100 Continue\r\n\r\n";
constexpr std::chrono::milliseconds kLinger{2000};

enum class Framing { kLength, kChunked, kUntilClose };

std::string HeadText(const HttpHead& head, bool keep_alive, Framing framing, size_t body_bytes) {
  http::response_header<> fields;
  fields.version(11);
  fields.result(static_cast<unsigned>(head.status));
  fields.set(http::field::server, absl::StrCat("lockstep/", kVersion));
  fields.set(http::field::content_type, head.content_type);
  for (const auto& [name, value] : head.headers) fields.set(name, value);
  if (!keep_alive) fields.set(http::field::connection, "close");
  if (framing == Framing::kLength) {
    fields.set(http::field::content_length, std::to_string(body_bytes));
  } else if (framing == Framing::kChunked) {
    fields.set(http::field::transfer_encoding, "chunked");
  }
  std::ostringstream text;
  text << fields;
  return text.str();
}

std::string ToStdString(boost::beast::string_view text) { return {text.data(), text.size()}; }

}  // namespace

HttpSession::HttpSession(asio::ip::tcp::socket socket, HttpSessionContext& context)
    : socket_(std::move(socket)), context_(context), timer_(socket_.get_executor()) {
  ++context_.connections;
}

HttpSession::~HttpSession() {
  ReleaseBody();
  SetBusy(false);
  --context_.connections;
}

void HttpSession::Start() {
  asio::post(socket_.get_executor(), [self = shared_from_this()] {
    error_code ignored;
    self->socket_.set_option(asio::ip::tcp::no_delay(true), ignored);
    self->socket_.non_blocking(true, ignored);
    if (self->context_.connections > self->context_.limits.connections) {
      return self->RefuseAndClose(503, "too many connections; try again later");
    }
    self->AwaitRequest();
  });
}

void HttpSession::AwaitRequest() {
  if (buffer_.size() > 0) return ReadHeader();
  Arm(context_.limits.idle, &HttpSession::Abort);
  socket_.async_wait(asio::ip::tcp::socket::wait_read,
                     [self = shared_from_this()](ErrorCode error) {
                       if (error) return self->Abort();
                       self->ReadHeader();
                     });
}

void HttpSession::ReadHeader() {
  parser_.emplace();
  parser_->header_limit(context_.limits.header_bytes);
  parser_->body_limit(static_cast<uint64_t>(context_.limits.body_bytes));
  Arm(context_.limits.header, &HttpSession::OnReadTimeout);
  http::async_read_header(
      socket_, buffer_, *parser_,
      [self = shared_from_this()](ErrorCode error, size_t /*bytes*/) { self->OnHeader(error); });
}

void HttpSession::OnHeader(ErrorCode error) {
  if (error) return OnReadError(error);
  if (!ReserveBody())
    return RefuseAndClose(503, "too many large requests at once; try again later");
  Arm(context_.limits.body, &HttpSession::OnReadTimeout);
  const auto expect = parser_->get()[http::field::expect];
  if (!boost::beast::iequals(expect, "100-continue")) return ReadBody();
  asio::async_write(socket_, asio::buffer(kContinue, sizeof(kContinue) - 1),
                    [self = shared_from_this()](ErrorCode failed, size_t /*bytes*/) {
                      if (failed) return self->Abort();
                      self->ReadBody();
                    });
}

void HttpSession::ReadBody() {
  http::async_read(
      socket_, buffer_, *parser_,
      [self = shared_from_this()](ErrorCode error, size_t /*bytes*/) { self->OnBody(error); });
}

void HttpSession::OnBody(ErrorCode error) {
  if (error) return OnReadError(error);
  Disarm();
  HandleRequest();
}

bool HttpSession::ReserveBody() {
  const auto length = parser_->content_length();
  if (!length && !parser_->chunked()) return true;
  reserved_bytes_ =
      length ? static_cast<int64_t>(*length) : static_cast<int64_t>(context_.limits.body_bytes);
  return (context_.body_bytes += reserved_bytes_) <= context_.limits.all_bodies_bytes;
}

void HttpSession::ReleaseBody() { context_.body_bytes -= std::exchange(reserved_bytes_, 0); }

void HttpSession::OnReadError(ErrorCode error) {
  if (closed_) return;
  if (timed_out_) return RefuseAndClose(408, "the request did not come in time");
  if (error == http::error::body_limit) {
    return RefuseAndClose(413,
                          absl::StrCat("the body exceeds ", context_.limits.body_bytes, " bytes"));
  }
  if (error == http::error::header_limit || error == http::error::buffer_overflow) {
    return RefuseAndClose(
        431, absl::StrCat("the header exceeds ", context_.limits.header_bytes, " bytes"));
  }
  const bool client_left =
      error == http::error::end_of_stream || error == http::error::partial_message ||
      error.category() != http::make_error_code(http::error::bad_method).category();
  if (client_left) return Abort();
  RefuseAndClose(400, absl::StrCat("malformed HTTP: ", error.message()));
}

void HttpSession::HandleRequest() {
  http::request<http::string_body> message = parser_->release();
  parser_.reset();
  keep_alive_ = message.keep_alive();
  http_1_0_ = message.version() < 11;
  HttpRequest request{.method = ToStdString(message.method_string()),
                      .path = ToStdString(message.target().substr(0, message.target().find('?'))),
                      .content_type = ToStdString(message[http::field::content_type]),
                      .body = std::move(message.body())};
  SetBusy(true);
  WatchClient();
  asio::post(*context_.handlers, [self = shared_from_this(), request = std::move(request)] {
    HttpAnswer answer = self->context_.handler(request);
    asio::post(self->socket_.get_executor(),
               [self, answer = std::move(answer)]() mutable { self->OnAnswer(std::move(answer)); });
  });
}

void HttpSession::OnAnswer(HttpAnswer answer) {
  ReleaseBody();
  if (auto* response = std::get_if<HttpResponse>(&answer)) {
    if (!closed_) WriteWhole(*response);
    return;
  }
  auto pending = std::get<std::shared_ptr<PendingResponse>>(std::move(answer));
  if (closed_) return pending->Close();
  pending_ = std::move(pending);
  pending_->OnReady([weak = weak_from_this()] {
    const std::shared_ptr<HttpSession> self = weak.lock();
    if (self == nullptr) return;
    asio::post(self->socket_.get_executor(), [self] { self->Pump(); });
  });
  Pump();
}

void HttpSession::WatchClient() {
  const uint64_t round = ++watch_round_;
  socket_.async_wait(
      asio::ip::tcp::socket::wait_read, [self = shared_from_this(), round](ErrorCode error) {
        if (error || self->closed_ || round != self->watch_round_) return;
        char byte = 0;
        ErrorCode found;
        self->socket_.receive(asio::buffer(&byte, 1), asio::socket_base::message_peek, found);
        if (found == asio::error::would_block) return self->WatchClient();
        // With bytes there the next request has come early; it waits its turn.
        if (found) self->Abort();
      });
}

void HttpSession::Pump() {
  if (writing_ || closed_ || pending_ == nullptr) return;
  std::optional<ResponsePart> part = pending_->Next();
  if (!part) return;
  if (part->head && part->last) {
    return WriteWhole({.head = *std::move(part->head), .body = std::move(part->body)});
  }
  WritePart(*std::move(part));
}

void HttpSession::WriteWhole(const HttpResponse& response) {
  out_ = HeadText(response.head, keep_alive_, Framing::kLength, response.body.size());
  out_ += response.body;
  Write(/*last=*/true);
}

void HttpSession::WritePart(ResponsePart part) {
  out_.clear();
  if (part.head) {
    chunked_ = !http_1_0_;
    keep_alive_ = keep_alive_ && chunked_;
    out_ =
        HeadText(*part.head, keep_alive_, chunked_ ? Framing::kChunked : Framing::kUntilClose, 0);
  }
  if (!chunked_) {
    out_ += part.body;
  } else {
    // An empty chunk would end the body.
    if (!part.body.empty()) {
      absl::StrAppend(&out_, absl::Hex(part.body.size()), "\r\n", part.body, "\r\n");
    }
    if (part.last) out_ += "0\r\n\r\n";
  }
  Write(part.last);
}

void HttpSession::Write(bool last) {
  writing_ = true;
  Arm(context_.limits.write, &HttpSession::Abort);
  asio::async_write(socket_, asio::buffer(out_),
                    [self = shared_from_this(), last](ErrorCode error, size_t /*bytes*/) {
                      self->OnWritten(error, last);
                    });
}

void HttpSession::OnWritten(ErrorCode error, bool last) {
  if (closed_) return;
  Disarm();
  writing_ = false;
  if (error) return Abort();
  if (last) return FinishResponse();
  Pump();
}

void HttpSession::FinishResponse() {
  if (pending_ != nullptr) std::exchange(pending_, nullptr)->Close();
  out_ = std::string();
  SetBusy(false);
  ++watch_round_;
  error_code ignored;
  socket_.cancel(ignored);
  if (!keep_alive_) return Linger();
  AwaitRequest();
}

void HttpSession::RefuseAndClose(int status, const std::string& message) {
  keep_alive_ = false;
  ReleaseBody();
  WriteWhole(HttpErrorResponse(status, message));
}

void HttpSession::Linger() {
  error_code ignored;
  socket_.shutdown(asio::ip::tcp::socket::shutdown_send, ignored);
  Arm(kLinger, &HttpSession::Abort);
  buffer_.clear();
  Drain();
}

void HttpSession::Drain() {
  constexpr size_t kPiece = 64 << 10;
  socket_.async_read_some(buffer_.prepare(kPiece),
                          [self = shared_from_this()](ErrorCode error, size_t /*bytes*/) {
                            if (error) return self->Abort();
                            self->Drain();
                          });
}

void HttpSession::Abort() {
  if (std::exchange(closed_, true)) return;
  ++timer_round_;
  timer_.cancel();
  error_code ignored;
  socket_.close(ignored);
  SetBusy(false);
  if (pending_ != nullptr) std::exchange(pending_, nullptr)->Close();
}

void HttpSession::Arm(std::chrono::milliseconds timeout, void (HttpSession::*on_timeout)()) {
  const uint64_t round = ++timer_round_;
  timer_.expires_after(timeout);
  timer_.async_wait([self = shared_from_this(), round, on_timeout](ErrorCode error) {
    if (error || round != self->timer_round_ || self->closed_) return;
    (self.get()->*on_timeout)();
  });
}

void HttpSession::Disarm() {
  ++timer_round_;
  timer_.cancel();
}

void HttpSession::SetBusy(bool busy) {
  if (std::exchange(busy_, busy) != busy) context_.busy += busy ? 1 : -1;
}

void HttpSession::OnReadTimeout() {
  timed_out_ = true;
  error_code ignored;
  socket_.cancel(ignored);
}

}  // namespace lockstep::coordinator
