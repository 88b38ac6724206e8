// InferenceService over gRPC, in process, with the real engine and tokenizer on a fake group.
#include "coordinator/serve/inference_service.h"

#include <grpcpp/generic/generic_stub.h>
#include <grpcpp/grpcpp.h>

#include <functional>
#include <memory>
#include <random>
#include <string>
#include <thread>
#include <vector>

#include "absl/time/clock.h"
#include "coordinator/engine/group_engine.h"
#include "coordinator/engine/testing/fake_model.h"
#include "coordinator/engine/testing/fake_rank_group.h"
#include "coordinator/serve/testing/byte_tokenizer.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"

namespace lockstep::coordinator {
namespace {

using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::IsEmpty;

constexpr absl::Duration kPatience = absl::Seconds(30);

// All messages of one call.
struct Answer {
  std::vector<v1::GenerateResponse> messages;
  grpc::Status status;

  std::vector<int32_t> tokens() const {
    std::vector<int32_t> tokens;
    for (const auto& m : messages) {
      tokens.insert(tokens.end(), m.token_ids().begin(), m.token_ids().end());
    }
    return tokens;
  }
  std::string text() const {
    std::string text;
    for (const auto& m : messages) text += m.text();
    return text;
  }
  const v1::Finish& finish() const { return messages.back().finish(); }
};

class InferenceServiceTest : public ::testing::Test {
 protected:
  InferenceServiceTest() {
    model_ = {.name = "bytes",
              .architecture = "FakeForCausalLM",
              .context_tokens = 1024,
              .vocab_size = kByteVocabulary};
    model_.defaults.eos_token_ids = {kByteEnd};
    service_ = std::make_unique<InferenceService>(
        ServingContext{.model = model_, .tokenizer = *tokenizer_, .engine = engine_});
    grpc::ServerBuilder builder;
    builder.RegisterService(service_.get());
    server_ = builder.BuildAndStart();
    stub_ = v1::InferenceService::NewStub(server_->InProcessChannel(grpc::ChannelArguments()));
  }

  ~InferenceServiceTest() override {
    server_->Shutdown(std::chrono::system_clock::now());
    server_->Wait();
    if (group_ != nullptr) {
      EXPECT_THAT(group_->violations(), IsEmpty());
    }
  }

  void Form(uint64_t epoch = 1, int64_t kv_blocks = 512) {
    group_ = std::make_shared<FakeRankGroup>(GroupLimits{.epoch = epoch,
                                                         .pp_size = 1,
                                                         .kv_blocks = kv_blocks,
                                                         .max_batch_tokens = 128,
                                                         .max_sequences = 32,
                                                         .context_tokens = 1024},
                                             fake_model_, engine_);
    engine_.OnGroupFormed(group_);
  }

  v1::GenerateRequest Request(const std::string& text, int32_t max_tokens, uint64_t seed = 7) {
    v1::GenerateRequest request;
    request.set_text(text);
    request.set_max_tokens(max_tokens);
    request.mutable_sampling()->set_seed(seed);
    return request;
  }

  Answer Generate(const v1::GenerateRequest& request) {
    grpc::ClientContext context;
    return ReadAll(*stub_->Generate(&context, request));
  }

  Answer ReadAll(grpc::ClientReader<v1::GenerateResponse>& reader) {
    Answer answer;
    v1::GenerateResponse message;
    while (reader.Read(&message)) answer.messages.push_back(message);
    answer.status = reader.Finish();
    return answer;
  }

  std::vector<int32_t> Expected(const v1::GenerateRequest& request) {
    const std::vector<int32_t> prompt = tokenizer_->Encode(request.text(), true).value();
    const std::vector<int32_t> stops =
        request.ignore_eos() ? std::vector<int32_t>{} : std::vector<int32_t>{kByteEnd};
    return fake_model_.Generate(prompt, request.sampling().seed(), request.max_tokens(), stops);
  }

  // True once `condition` holds; false if it does not come to hold.
  static bool Eventually(const std::function<bool()>& condition) {
    const absl::Time deadline = absl::Now() + kPatience;
    while (!condition()) {
      if (absl::Now() > deadline) return false;
      std::this_thread::yield();
    }
    return true;
  }

  bool NothingLeft() {
    return Eventually([this] {
      const EngineStats stats = engine_.Stats();
      return stats.running_requests == 0 && stats.waiting_requests == 0 &&
             stats.kv_blocks_used == 0;
    });
  }

  const std::unique_ptr<text::Tokenizer> tokenizer_ = MakeByteTokenizer();
  const FakeModel fake_model_{.vocab_size = kByteVocabulary};
  GroupEngine engine_{EngineOptions{.max_queue = 40}};
  std::shared_ptr<FakeRankGroup> group_;
  ServedModel model_;
  std::unique_ptr<InferenceService> service_;
  std::unique_ptr<grpc::Server> server_;
  std::unique_ptr<v1::InferenceService::Stub> stub_;
};

TEST_F(InferenceServiceTest, GenerateStreamsTokensTheirTextAndUsage) {
  Form();
  group_->RunInBackground();
  const v1::GenerateRequest request = Request("once upon a time", 40);
  const Answer answer = Generate(request);
  ASSERT_TRUE(answer.status.ok()) << answer.status.error_message();
  EXPECT_EQ(answer.tokens(), Expected(request));
  EXPECT_EQ(answer.text(), tokenizer_->Decode(answer.tokens(), true).value());
  EXPECT_EQ(answer.finish().reason(), v1::FINISH_REASON_LENGTH);
  EXPECT_EQ(answer.finish().prompt_tokens(), 17);
  EXPECT_EQ(answer.finish().completion_tokens(), 40);
  EXPECT_EQ(answer.finish().seed(), 7u);
  EXPECT_GE(answer.finish().first_token_us(), answer.finish().queue_us());
  EXPECT_GE(answer.finish().total_us(), answer.finish().first_token_us());
  for (size_t i = 0; i + 1 < answer.messages.size(); ++i) {
    EXPECT_FALSE(answer.messages[i].has_finish());
  }
}

TEST_F(InferenceServiceTest, TheEndTokenIsAmongTheIdsAndNotInTheText) {
  Form();
  group_->RunInBackground();
  v1::GenerateRequest request = Request("x", 1000);
  while (Expected(request).back() != kByteEnd) {
    request.mutable_sampling()->set_seed(request.sampling().seed() + 1);
  }
  request.set_skip_special_tokens(false);
  const Answer answer = Generate(request);
  ASSERT_TRUE(answer.status.ok()) << answer.status.error_message();
  std::vector<int32_t> tokens = answer.tokens();
  EXPECT_EQ(answer.finish().reason(), v1::FINISH_REASON_STOP);
  ASSERT_EQ(tokens, Expected(request));
  tokens.pop_back();
  EXPECT_EQ(answer.text(), tokenizer_->Decode(tokens, false).value());
}

TEST_F(InferenceServiceTest, SpecialTokensAreTextOnlyWhenAskedFor) {
  Form();
  group_->RunInBackground();
  v1::GenerateRequest request = Request("special", 900);
  request.set_ignore_eos(true);
  EXPECT_THAT(Generate(request).text(), ::testing::Not(HasSubstr("<end>")));
  request.set_skip_special_tokens(false);
  const Answer answer = Generate(request);
  EXPECT_THAT(answer.text(), HasSubstr("<end>"));
  EXPECT_EQ(answer.text(), tokenizer_->Decode(answer.tokens(), false).value());
}

TEST_F(InferenceServiceTest, PromptLogprobsComeInOneMessageBeforeAnyToken) {
  Form();
  group_->RunInBackground();
  v1::GenerateRequest request = Request(std::string(300, 'q'), 5);
  request.set_logprobs(true);
  request.set_prompt_logprobs(true);
  const Answer answer = Generate(request);
  ASSERT_TRUE(answer.status.ok()) << answer.status.error_message();
  const std::vector<int32_t> prompt = tokenizer_->Encode(request.text(), true).value();
  const auto& first = answer.messages.front().prompt_logprobs();
  EXPECT_EQ(std::vector<float>(first.begin(), first.end()), fake_model_.PromptLogProbs(prompt));
  for (size_t i = 0; i < answer.messages.size(); ++i) {
    EXPECT_EQ(answer.messages[i].logprobs_size(), answer.messages[i].token_ids_size());
    if (i > 0) {
      EXPECT_THAT(answer.messages[i].prompt_logprobs(), IsEmpty());
    }
  }
}

TEST_F(InferenceServiceTest, ASlowReaderGetsAllTokensInFewerMessagesAndHoldsUpNobody) {
  Form();
  group_->RunInBackground();
  const v1::GenerateRequest slow = Request("slow", 800);
  grpc::ClientContext context;
  auto reader = stub_->Generate(&context, slow);
  // The other runs to its end, and so does the slow one inside the engine, unread.
  EXPECT_TRUE(Generate(Request("quick", 30)).status.ok());
  ASSERT_TRUE(NothingLeft());
  const Answer answer = ReadAll(*reader);
  ASSERT_TRUE(answer.status.ok());
  EXPECT_EQ(answer.tokens(), Expected(slow));
  EXPECT_EQ(answer.text(), tokenizer_->Decode(answer.tokens(), true).value());
  EXPECT_LT(answer.messages.size(), answer.tokens().size() / 4);
}

TEST_F(InferenceServiceTest, CancellingTheCallEndsTheWorkAndFreesTheBlocks) {
  Form();
  grpc::ClientContext context;
  auto reader = stub_->Generate(&context, Request("cancel me", 1000));
  ASSERT_TRUE(Eventually([this] { return group_->Step(); }));
  v1::GenerateResponse message;
  ASSERT_TRUE(reader->Read(&message));
  EXPECT_GT(engine_.Stats().kv_blocks_used, 0);
  context.TryCancel();
  EXPECT_TRUE(NothingLeft());
  while (reader->Read(&message)) {
  }
  EXPECT_EQ(reader->Finish().error_code(), grpc::StatusCode::CANCELLED);
  // At most what was outstanding is still computed.
  const int64_t steps = group_->steps();
  group_->RunUntilIdle();
  EXPECT_LE(group_->steps(), steps + 2);
}

TEST_F(InferenceServiceTest, ADeadlineEndsACallThatWaitsForAGroup) {
  grpc::ClientContext context;
  context.set_deadline(std::chrono::system_clock::now() + std::chrono::milliseconds(30));
  const Answer answer = ReadAll(*stub_->Generate(&context, Request("too late", 10)));
  EXPECT_EQ(answer.status.error_code(), grpc::StatusCode::DEADLINE_EXCEEDED);
  EXPECT_TRUE(NothingLeft());
}

TEST_F(InferenceServiceTest, ALostGroupIsAPauseForTheClient) {
  Form(1);
  const v1::GenerateRequest request = Request("pause", 50);
  Answer answer;
  std::thread client([&] { answer = Generate(request); });
  ASSERT_TRUE(Eventually([this] { return group_->Step(); }));
  for (int step = 0; step < 10; ++step) group_->Step();
  group_->Lose();
  EXPECT_THAT(group_->violations(), IsEmpty());
  Form(2);
  group_->RunInBackground();
  client.join();
  ASSERT_TRUE(answer.status.ok()) << answer.status.error_message();
  EXPECT_EQ(answer.tokens(), Expected(request));
}

TEST_F(InferenceServiceTest, RefusalsKeepTheirCodeAndWords) {
  Form(1, /*kv_blocks=*/4);
  v1::GenerateRequest request = Request("x", 10);
  request.mutable_sampling()->set_top_p(0.0);
  Answer answer = Generate(request);
  EXPECT_EQ(answer.status.error_code(), grpc::StatusCode::INVALID_ARGUMENT);
  EXPECT_THAT(answer.status.error_message(), HasSubstr("sampling.top_p = 0"));
  answer = Generate(Request("x", 5000));
  EXPECT_EQ(answer.status.error_code(), grpc::StatusCode::OUT_OF_RANGE);
  answer = Generate(Request("x", 500));
  EXPECT_EQ(answer.status.error_code(), grpc::StatusCode::OUT_OF_RANGE);
  EXPECT_THAT(answer.status.error_message(), HasSubstr("key-value pool"));
  EXPECT_TRUE(NothingLeft());
}

TEST_F(InferenceServiceTest, AFullQueueRefusesAtOnce) {
  std::vector<std::unique_ptr<grpc::ClientContext>> contexts;
  std::vector<std::unique_ptr<grpc::ClientReader<v1::GenerateResponse>>> readers;
  for (int i = 0; i < 40; ++i) {
    contexts.push_back(std::make_unique<grpc::ClientContext>());
    readers.push_back(stub_->Generate(contexts.back().get(), Request("wait", 5)));
  }
  ASSERT_TRUE(Eventually([this] { return engine_.Stats().waiting_requests == 40; }));
  EXPECT_EQ(Generate(Request("one more", 5)).status.error_code(),
            grpc::StatusCode::RESOURCE_EXHAUSTED);
  for (auto& context : contexts) context->TryCancel();
  for (auto& reader : readers) reader->Finish();
  EXPECT_TRUE(NothingLeft());
}

TEST_F(InferenceServiceTest, ConcurrentStreamsAndCancelsMixNothingUp) {
  Form(1, /*kv_blocks=*/80);
  group_->RunInBackground();
  std::vector<std::thread> clients;
  for (int i = 0; i < 8; ++i) {
    clients.emplace_back([this, i] {
      std::mt19937_64 random(i);
      for (int round = 0; round < 25; ++round) {
        const v1::GenerateRequest request =
            Request(std::string(random() % 100, 'a'), 1 + random() % 60, random());
        grpc::ClientContext context;
        auto reader = stub_->Generate(&context, request);
        const bool cancel = random() % 3 == 0;
        if (cancel) context.TryCancel();
        const Answer answer = ReadAll(*reader);
        if (answer.status.ok()) {
          EXPECT_EQ(answer.tokens(), Expected(request));
        } else {
          EXPECT_TRUE(cancel) << answer.status.error_message();
        }
      }
    });
  }
  for (std::thread& client : clients) client.join();
  EXPECT_TRUE(NothingLeft());
}

// Sends bytes as they are, past the client library's own checks.
grpc::Status CallRaw(grpc::Server& server, const std::string& method, const std::string& request) {
  grpc::GenericStub stub(server.InProcessChannel(grpc::ChannelArguments()));
  grpc::ClientContext context;
  grpc::CompletionQueue queue;
  grpc::Slice slice(request);
  auto call = stub.PrepareCall(&context, "/lockstep.v1.InferenceService/" + method, &queue);
  void* tag = nullptr;
  bool ok = false;
  auto wait = [&] { return queue.Next(&tag, &ok); };
  call->StartCall(nullptr);
  wait();
  call->WriteLast(grpc::ByteBuffer(&slice, 1), grpc::WriteOptions(), nullptr);
  wait();
  grpc::Status status;
  call->Finish(&status, nullptr);
  wait();
  return status;
}

TEST_F(InferenceServiceTest, BytesThatAreNoRequestGetOneClearAnswer) {
  // Field 1, a string: cut short, and one that is not UTF-8.
  const std::vector<std::string> wrong = {std::string("\x0a\x05"
                                                      "ab",
                                                      4),
                                          std::string("\x0a\x02\xff\xfe", 4)};
  for (const std::string& request : wrong) {
    for (const std::string method : {"Generate", "Tokenize"}) {
      const grpc::Status status = CallRaw(*server_, method, request);
      EXPECT_EQ(status.error_code(), grpc::StatusCode::INVALID_ARGUMENT) << method;
      EXPECT_THAT(status.error_message(), HasSubstr("UTF-8")) << method;
    }
  }
  EXPECT_TRUE(NothingLeft());
}

TEST_F(InferenceServiceTest, TokenizeAndDetokenizeAreInverse) {
  v1::TokenizeRequest request;
  request.set_text("zwölf");
  v1::TokenizeResponse tokens;
  grpc::ClientContext context;
  ASSERT_TRUE(stub_->Tokenize(&context, request, &tokens).ok());
  EXPECT_THAT(tokens.token_ids(), ElementsAre(kByteBegin, 'z', 'w', 0xc3, 0xb6, 'l', 'f'));
  v1::DetokenizeRequest back;
  *back.mutable_token_ids() = tokens.token_ids();
  v1::DetokenizeResponse text;
  grpc::ClientContext second;
  ASSERT_TRUE(stub_->Detokenize(&second, back, &text).ok());
  EXPECT_EQ(text.text(), "zwölf");
  back.set_skip_special_tokens(false);
  grpc::ClientContext third;
  ASSERT_TRUE(stub_->Detokenize(&third, back, &text).ok());
  EXPECT_EQ(text.text(), "<begin>zwölf");
}

TEST_F(InferenceServiceTest, DetokenizeRefusesWhatIsNoTokenId) {
  v1::DetokenizeRequest request;
  request.add_token_ids(-3);
  v1::DetokenizeResponse response;
  grpc::ClientContext context;
  const grpc::Status status = stub_->Detokenize(&context, request, &response);
  EXPECT_EQ(status.error_code(), grpc::StatusCode::INVALID_ARGUMENT);
  EXPECT_THAT(status.error_message(), HasSubstr("token_ids has -3 at index 0"));
}

TEST_F(InferenceServiceTest, GetModelSaysWhatIsServed) {
  v1::GetModelResponse response;
  grpc::ClientContext context;
  ASSERT_TRUE(stub_->GetModel(&context, v1::GetModelRequest(), &response).ok());
  EXPECT_EQ(response.name(), "bytes");
  EXPECT_EQ(response.architecture(), "FakeForCausalLM");
  EXPECT_EQ(response.context_tokens(), 1024);
  EXPECT_EQ(response.vocab_size(), kByteVocabulary);
  EXPECT_THAT(response.eos_token_ids(), ElementsAre(kByteEnd));
}

}  // namespace
}  // namespace lockstep::coordinator
