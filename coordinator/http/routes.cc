// The table of paths, and a function for each.
#include "coordinator/http/routes.h"

#include <algorithm>
#include <utility>
#include <vector>

#include "absl/random/random.h"
#include "absl/strings/ascii.h"
#include "absl/strings/escaping.h"
#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "absl/strings/str_join.h"
#include "absl/time/clock.h"
#include "base/status_macros.h"
#include "base/version.h"
#include "coordinator/http/api_error.h"
#include "coordinator/http/generation.h"
#include "coordinator/http/json_body.h"
#include "coordinator/http/openai_request.h"
#include "coordinator/serve/chat_prompt.h"
#include "coordinator/serve/field_error.h"
#include "coordinator/serve/request_check.h"

namespace lockstep::coordinator {
namespace {

constexpr char kModelsPrefix[] = "/v1/models/";

HttpResponse JsonResponse(const OrderedJson& body) { return {.body = Dump(body)}; }

/// "%2F" as "/"; nullopt for what is no such encoding.
std::optional<std::string> PercentDecode(std::string_view text) {
  std::string decoded;
  for (size_t i = 0; i < text.size(); ++i) {
    if (text[i] != '%') {
      decoded += text[i];
      continue;
    }
    if (i + 2 >= text.size() || !absl::ascii_isxdigit(text[i + 1]) ||
        !absl::ascii_isxdigit(text[i + 2])) {
      return std::nullopt;
    }
    decoded += absl::HexStringToBytes(std::string(text.substr(i + 1, 2)));
    i += 2;
  }
  return decoded;
}

/// A browser's form cannot claim to be JSON, so that no foreign page can have one sent.
bool IsJson(std::string_view content_type) {
  const std::string_view type = content_type.substr(0, content_type.find(';'));
  return absl::EqualsIgnoreCase(absl::StripAsciiWhitespace({type.data(), type.size()}),
                                "application/json");
}

}  // namespace

const Routes::Route Routes::kRoutes[] = {
    {"POST", "/v1/completions", &Routes::Completions},
    {"POST", "/v1/chat/completions", &Routes::Chat},
    {"GET", "/v1/models", &Routes::Models},
    {"POST", "/tokenize", &Routes::Tokenize},
    {"POST", "/detokenize", &Routes::Detokenize},
    {"GET", "/health", &Routes::Health},
    {"GET", "/version", &Routes::Version},
};

Routes::Routes(const ServingContext& context, NotServing not_serving)
    : context_(context),
      not_serving_(std::move(not_serving)),
      started_(absl::ToUnixSeconds(absl::Now())),
      process_(absl::Uniform<uint64_t>(absl::BitGen())) {}

HttpAnswer Routes::Answer(const HttpRequest& request) const {
  const std::string_view path = request.path;
  if (request.method == "GET" && path.starts_with(kModelsPrefix)) {
    absl::StatusOr<HttpAnswer> answer = Model(path.substr(sizeof(kModelsPrefix) - 1));
    return answer.ok() ? *std::move(answer) : ErrorResponse(answer.status());
  }
  const Route* route = std::find_if(std::begin(kRoutes), std::end(kRoutes),
                                    [&](const Route& r) { return request.path == r.path; });
  if (route == std::end(kRoutes)) {
    const std::string paths = absl::StrJoin(
        kRoutes, ", ", [](std::string* out, const Route& r) { absl::StrAppend(out, r.path); });
    return HttpErrorResponse(404, absl::StrCat("no such path; there are ", paths));
  }
  if (request.method != route->method) {
    HttpResponse refusal = HttpErrorResponse(
        405, absl::StrCat(route->path, " takes ", route->method, ", not ", request.method));
    refusal.head.headers.emplace_back("Allow", route->method);
    return refusal;
  }
  if (request.method == "POST" && !IsJson(request.content_type)) {
    return HttpErrorResponse(415, "Content-Type must be application/json");
  }
  absl::StatusOr<HttpAnswer> answer = (this->*route->call)(request);
  return answer.ok() ? *std::move(answer) : ErrorResponse(answer.status());
}

absl::StatusOr<HttpAnswer> Routes::Completions(const HttpRequest& request) const {
  LOCKSTEP_ASSIGN_OR_RETURN(const nlohmann::json body, ParseJsonObject(request.body));
  LOCKSTEP_ASSIGN_OR_RETURN(const CompletionCall call, ParseCompletionCall(body));
  LOCKSTEP_RETURN_IF_ERROR(CheckModel(call.model));
  LOCKSTEP_RETURN_IF_ERROR(CheckServing());
  LOCKSTEP_ASSIGN_OR_RETURN(std::shared_ptr<PendingResponse> generation,
                            Generation::Start(call.generations, ResponseKind::kCompletion,
                                              call.response, NewIdentity("cmpl-"), context_));
  return HttpAnswer(std::move(generation));
}

absl::StatusOr<HttpAnswer> Routes::Chat(const HttpRequest& request) const {
  LOCKSTEP_ASSIGN_OR_RETURN(const nlohmann::json body, ParseJsonObject(request.body));
  LOCKSTEP_ASSIGN_OR_RETURN(const ChatCall call, ParseChatCall(body));
  LOCKSTEP_RETURN_IF_ERROR(CheckModel(call.model));
  LOCKSTEP_RETURN_IF_ERROR(CheckServing());
  LOCKSTEP_ASSIGN_OR_RETURN(const v1::GenerateRequest rendered,
                            RenderChat(call.chat, context_.chat_template));
  LOCKSTEP_ASSIGN_OR_RETURN(std::shared_ptr<PendingResponse> generation,
                            Generation::Start({rendered}, ResponseKind::kChat, call.response,
                                              NewIdentity("chatcmpl-"), context_));
  return HttpAnswer(std::move(generation));
}

absl::StatusOr<HttpAnswer> Routes::Tokenize(const HttpRequest& request) const {
  LOCKSTEP_ASSIGN_OR_RETURN(const nlohmann::json body, ParseJsonObject(request.body));
  LOCKSTEP_ASSIGN_OR_RETURN(const TokenizeCall call, ParseTokenizeCall(body));
  LOCKSTEP_RETURN_IF_ERROR(CheckModel(call.model));
  std::string text = call.prompt.value_or("");
  if (!call.prompt) {
    LOCKSTEP_ASSIGN_OR_RETURN(const v1::GenerateRequest rendered,
                              RenderChat(call.chat, context_.chat_template));
    text = rendered.text();
  }
  LOCKSTEP_RETURN_IF_ERROR(CheckTextBytes(text, context_.model.context_tokens));
  const bool add_special_tokens = call.add_special_tokens.value_or(call.prompt.has_value());
  LOCKSTEP_ASSIGN_OR_RETURN(const std::vector<int32_t> ids,
                            context_.tokenizer.Encode(text, add_special_tokens));
  return JsonResponse(
      {{"count", ids.size()}, {"max_model_len", context_.model.context_tokens}, {"tokens", ids}});
}

absl::StatusOr<HttpAnswer> Routes::Detokenize(const HttpRequest& request) const {
  LOCKSTEP_ASSIGN_OR_RETURN(const nlohmann::json body, ParseJsonObject(request.body));
  LOCKSTEP_ASSIGN_OR_RETURN(const DetokenizeCall call, ParseDetokenizeCall(body));
  LOCKSTEP_RETURN_IF_ERROR(CheckModel(call.model));
  LOCKSTEP_RETURN_IF_ERROR(CheckTokenIds(call.tokens, context_.model.vocab_size, "tokens"));
  LOCKSTEP_ASSIGN_OR_RETURN(const std::string text,
                            context_.tokenizer.Decode(call.tokens, /*skip_special_tokens=*/false));
  return JsonResponse({{"prompt", text}});
}

absl::StatusOr<HttpAnswer> Routes::Models(const HttpRequest& /*request*/) const {
  OrderedJson models = OrderedJson::array({ModelObject(context_.model.name)});
  for (const std::string& alias : context_.model.aliases) models.push_back(ModelObject(alias));
  return JsonResponse({{"object", "list"}, {"data", std::move(models)}});
}

absl::StatusOr<HttpAnswer> Routes::Model(std::string_view name) const {
  const std::optional<std::string> decoded = PercentDecode(name);
  if (!decoded) return absl::InvalidArgumentError("the model's name is not percent-encoded");
  LOCKSTEP_RETURN_IF_ERROR(CheckModel(*decoded));
  return JsonResponse(ModelObject(*decoded));
}

absl::StatusOr<HttpAnswer> Routes::Health(const HttpRequest& /*request*/) const {
  LOCKSTEP_RETURN_IF_ERROR(CheckServing());
  return HttpResponse();
}

absl::StatusOr<HttpAnswer> Routes::Version(const HttpRequest& /*request*/) const {
  return JsonResponse({{"version", kVersion}});
}

absl::Status Routes::CheckModel(std::string_view name) const {
  const ServedModel& model = context_.model;
  if (name.empty() || name == model.name ||
      std::find(model.aliases.begin(), model.aliases.end(), name) != model.aliases.end()) {
    return absl::OkStatus();
  }
  return FieldError(absl::StatusCode::kNotFound, "model",
                    absl::StrCat("the model \"", std::string(name.substr(0, 200)),
                                 "\" is not served here; \"", model.name, "\" is"));
}

absl::Status Routes::CheckServing() const {
  const std::optional<std::string> reason = not_serving_();
  if (!reason) return absl::OkStatus();
  return absl::UnavailableError(absl::StrCat("not serving: ", *reason));
}

OrderedJson Routes::ModelObject(const std::string& name) const {
  return {{"id", name},
          {"object", "model"},
          {"created", started_},
          {"owned_by", "lockstep"},
          {"root", context_.model.name},
          {"max_model_len", context_.model.context_tokens}};
}

ResponseIdentity Routes::NewIdentity(std::string_view prefix) const {
  return {.id = absl::StrFormat("%s%016x%08x", std::string(prefix), process_, ++responses_),
          .created = absl::ToUnixSeconds(absl::Now()),
          .model = context_.model.name};
}

}  // namespace lockstep::coordinator
