// CheckGenerateRequest: what is filled in, and what is refused with which words.
#include "coordinator/serve/request_check.h"

#include <limits>
#include <string>

#include "coordinator/serve/field_error.h"
#include "coordinator/serve/testing/byte_tokenizer.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"

namespace lockstep::coordinator {
namespace {

using ::testing::AllOf;
using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::IsEmpty;

constexpr double kNan = std::numeric_limits<double>::quiet_NaN();
constexpr double kInfinity = std::numeric_limits<double>::infinity();

class RequestCheckTest : public ::testing::Test {
 protected:
  static void SetUpTestSuite() { tokenizer_ = MakeByteTokenizer().release(); }
  static void TearDownTestSuite() { delete tokenizer_; }

  RequestCheckTest() {
    model_ = {.name = "bytes", .context_tokens = 100, .vocab_size = kByteVocabulary};
    model_.defaults.eos_token_ids = {kByteEnd};
    SetTokens(request_, {1, 2, 3});
  }

  static void SetTokens(v1::GenerateRequest& request, std::vector<int32_t> ids) {
    request.mutable_tokens()->mutable_ids()->Assign(ids.begin(), ids.end());
  }

  absl::StatusOr<EngineRequest> Check() const {
    return CheckGenerateRequest(request_, model_, *tokenizer_);
  }

  void ExpectRefused(absl::StatusCode code, const ::testing::Matcher<const std::string&>& words) {
    const absl::Status status = Check().status();
    EXPECT_EQ(status.code(), code) << status;
    EXPECT_THAT(std::string(status.message()), words);
  }

  static const text::Tokenizer* tokenizer_;
  ServedModel model_;
  v1::GenerateRequest request_;
};
const text::Tokenizer* RequestCheckTest::tokenizer_ = nullptr;

TEST_F(RequestCheckTest, AbsentFieldsAreNeutralWhereTheModelSaysNothing) {
  const EngineRequest checked = Check().value();
  EXPECT_THAT(checked.prompt, ElementsAre(1, 2, 3));
  EXPECT_EQ(checked.sampling.temperature(), 1.0);
  EXPECT_EQ(checked.sampling.top_p(), 1.0);
  EXPECT_TRUE(checked.sampling.has_top_k());
  EXPECT_EQ(checked.sampling.top_k(), 0);
  EXPECT_FALSE(checked.sampling.has_seed());
  EXPECT_EQ(checked.max_tokens, 97);
  EXPECT_THAT(checked.stop_token_ids, ElementsAre(kByteEnd));
  EXPECT_FALSE(checked.logprobs);
  EXPECT_FALSE(checked.prompt_logprobs);
}

TEST_F(RequestCheckTest, TheModelsDefaultsStandInForAbsentFieldsOnly) {
  model_.defaults.temperature = 0.6;
  model_.defaults.top_p = 0.9;
  model_.defaults.top_k = 50000;
  request_.mutable_sampling()->set_temperature(0.0);
  const EngineRequest checked = Check().value();
  EXPECT_EQ(checked.sampling.temperature(), 0.0);
  EXPECT_EQ(checked.sampling.top_p(), 0.9);
  EXPECT_EQ(checked.sampling.top_k(), kByteVocabulary);
}

TEST_F(RequestCheckTest, IgnoreEosLeavesNoStopTokens) {
  request_.set_ignore_eos(true);
  EXPECT_THAT(Check().value().stop_token_ids, IsEmpty());
}

TEST_F(RequestCheckTest, TextIsTokenizedWithTheModelsSpecialTokens) {
  request_.set_text("ab");
  EXPECT_THAT(Check().value().prompt, ElementsAre(kByteBegin, 'a', 'b'));
  request_.set_text("");
  EXPECT_THAT(Check().value().prompt, ElementsAre(kByteBegin));
}

TEST_F(RequestCheckTest, MaxTokensDefaultsToWhatTheContextHasRoomFor) {
  SetTokens(request_, std::vector<int32_t>(95, 1));
  EXPECT_EQ(Check().value().max_tokens, 5);
}

TEST_F(RequestCheckTest, AcceptsTheEndsOfEveryRange) {
  for (double temperature : {0.0, 100.0}) {
    request_.mutable_sampling()->set_temperature(temperature);
    EXPECT_TRUE(Check().ok()) << temperature;
  }
  request_.mutable_sampling()->set_top_p(1.0);
  request_.mutable_sampling()->set_top_k(kByteVocabulary);
  request_.set_max_tokens(97);
  SetTokens(request_, {0, kByteVocabulary - 1, 7});
  EXPECT_TRUE(Check().ok()) << Check().status();
}

TEST_F(RequestCheckTest, RefusesTemperaturesThatAreNone) {
  for (double value : {-0.001, 100.5, kNan, kInfinity, -kInfinity}) {
    request_.mutable_sampling()->set_temperature(value);
    ExpectRefused(absl::StatusCode::kInvalidArgument,
                  AllOf(HasSubstr("sampling.temperature = "), HasSubstr("[0, 100]")));
  }
}

TEST_F(RequestCheckTest, RefusesTopPOutsideItsRange) {
  for (double value : {0.0, -1.0, 1.0000001, kNan}) {
    request_.mutable_sampling()->set_top_p(value);
    ExpectRefused(absl::StatusCode::kInvalidArgument,
                  AllOf(HasSubstr("sampling.top_p = "), HasSubstr("(0, 1]")));
  }
}

TEST_F(RequestCheckTest, RefusesTopKOutsideItsRange) {
  for (int32_t value : {-1, kByteVocabulary + 1}) {
    request_.mutable_sampling()->set_top_k(value);
    ExpectRefused(absl::StatusCode::kInvalidArgument,
                  AllOf(HasSubstr("sampling.top_k = "), HasSubstr("[0, 258]")));
  }
}

TEST_F(RequestCheckTest, EveryFieldOfTheSamplingIsSetAndNeutral) {
  const EngineRequest checked = Check().value();
  EXPECT_TRUE(checked.sampling.has_min_p());
  EXPECT_EQ(checked.sampling.min_p(), 0.0);
  EXPECT_EQ(checked.sampling.repetition_penalty(), 1.0);
  EXPECT_TRUE(checked.sampling.has_presence_penalty());
  EXPECT_TRUE(checked.sampling.has_frequency_penalty());
  EXPECT_TRUE(checked.sampling.has_min_tokens());
  EXPECT_EQ(checked.choices, 1);
  EXPECT_EQ(checked.priority, 0);
}

TEST_F(RequestCheckTest, ThePenaltiesOfTheModelStandInForAbsentOnes) {
  model_.defaults.repetition_penalty = 1.05;
  model_.defaults.min_p = 0.02;
  EXPECT_EQ(Check()->sampling.repetition_penalty(), 1.05);
  EXPECT_EQ(Check()->sampling.min_p(), 0.02);
}

TEST_F(RequestCheckTest, RefusesPenaltiesOutsideTheirRanges) {
  using Set = void (v1::SamplingParams::*)(double);
  struct Case {
    Set set;
    std::string field;
    std::vector<double> illegal;
    double legal;
  };
  const std::vector<Case> cases = {
      {&v1::SamplingParams::set_min_p, "min_p", {-0.1, 1.1, kNan}, 1.0},
      {&v1::SamplingParams::set_repetition_penalty,
       "repetition_penalty",
       {0.0, -1, 101, kNan},
       100},
      {&v1::SamplingParams::set_presence_penalty, "presence_penalty", {-2.1, 2.1, kNan}, -2},
      {&v1::SamplingParams::set_frequency_penalty, "frequency_penalty", {-2.1, kInfinity, kNan}, 2},
  };
  for (const Case& one : cases) {
    for (const double value : one.illegal) {
      (request_.mutable_sampling()->*one.set)(value);
      ExpectRefused(absl::StatusCode::kInvalidArgument, HasSubstr("sampling." + one.field + " = "));
      EXPECT_EQ(FieldOf(Check().status()), "sampling." + one.field);
    }
    (request_.mutable_sampling()->*one.set)(one.legal);
    EXPECT_TRUE(Check().ok()) << Check().status();
  }
}

TEST_F(RequestCheckTest, RefusesLogitBiasesOfNoTokenOrWithoutBounds) {
  auto& biases = *request_.mutable_sampling()->mutable_logit_bias();
  biases[kByteVocabulary - 1] = -100;
  EXPECT_TRUE(Check().ok());
  biases[3] = static_cast<float>(kNan);
  ExpectRefused(absl::StatusCode::kInvalidArgument, HasSubstr("sampling.logit_bias[3]"));
  biases[3] = 100.5;
  ExpectRefused(absl::StatusCode::kInvalidArgument, HasSubstr("[-100, 100]"));
  biases.erase(3);
  biases[kByteVocabulary] = 1;
  ExpectRefused(absl::StatusCode::kInvalidArgument, HasSubstr("names 258"));
  biases.clear();
  model_.vocab_size = 5000;
  for (int id = 0; id < 1025; ++id) biases[id] = 1;
  ExpectRefused(absl::StatusCode::kInvalidArgument, HasSubstr("1025 entries: at most 1024"));
}

TEST_F(RequestCheckTest, MinTokensMayNotExceedMaxTokens) {
  request_.set_max_tokens(5);
  request_.mutable_sampling()->set_min_tokens(5);
  EXPECT_TRUE(Check().ok());
  for (const int32_t value : {6, -1}) {
    request_.mutable_sampling()->set_min_tokens(value);
    ExpectRefused(absl::StatusCode::kInvalidArgument,
                  AllOf(HasSubstr("sampling.min_tokens = "), HasSubstr("[0, 5]")));
  }
}

TEST_F(RequestCheckTest, StopTokensOfTheRequestStandEvenWhereTheModelsAreIgnored) {
  request_.add_stop_token_ids(7);
  request_.add_stop_token_ids(kByteEnd);
  EXPECT_THAT(Check()->stop_token_ids, ElementsAre(kByteEnd, 7));
  request_.set_ignore_eos(true);
  EXPECT_THAT(Check()->stop_token_ids, ElementsAre(7, kByteEnd));
  request_.add_stop_token_ids(-1);
  ExpectRefused(absl::StatusCode::kInvalidArgument, HasSubstr("stop_token_ids has -1 at index 2"));
  request_.mutable_stop_token_ids()->Resize(65, 1);
  ExpectRefused(absl::StatusCode::kInvalidArgument, HasSubstr("at most 64"));
}

TEST_F(RequestCheckTest, RefusesEmptyAndTooManyStopStrings) {
  request_.add_stop("x");
  EXPECT_TRUE(Check().ok());
  request_.add_stop("");
  ExpectRefused(absl::StatusCode::kInvalidArgument, HasSubstr("stop[1] is empty"));
  request_.clear_stop();
  for (int i = 0; i < 17; ++i) request_.add_stop("x");
  ExpectRefused(absl::StatusCode::kInvalidArgument, HasSubstr("at most 16"));
}

TEST_F(RequestCheckTest, AlternativesImplyLogprobsAndAreAtMostTwenty) {
  request_.set_top_logprobs(3);
  request_.set_prompt_logprobs(true);
  EXPECT_EQ(Check()->logprobs, 3);
  EXPECT_EQ(Check()->prompt_logprobs, 0);
  request_.set_top_logprobs(21);
  ExpectRefused(absl::StatusCode::kInvalidArgument,
                AllOf(HasSubstr("top_logprobs = 21"), HasSubstr("[0, 20]")));
  request_.set_top_logprobs(0);
  request_.set_prompt_top_logprobs(-1);
  ExpectRefused(absl::StatusCode::kInvalidArgument, HasSubstr("prompt_top_logprobs = -1"));
}

TEST_F(RequestCheckTest, ChoicesAreOneToOneHundredAndTwentyEight) {
  request_.set_n(128);
  request_.set_priority(-4);
  EXPECT_EQ(Check()->choices, 128);
  EXPECT_EQ(Check()->priority, -4);
  for (const int32_t n : {0, -1, 129}) {
    request_.set_n(n);
    ExpectRefused(absl::StatusCode::kInvalidArgument, HasSubstr("[1, 128]"));
  }
}

TEST_F(RequestCheckTest, SpecialTokensAreLeftOutOnRequest) {
  request_.set_text("a");
  request_.set_add_special_tokens(false);
  EXPECT_THAT(Check()->prompt, ElementsAre('a'));
}

TEST_F(RequestCheckTest, RefusesMaxTokensBelowOne) {
  for (int32_t value : {0, -5, std::numeric_limits<int32_t>::min()}) {
    request_.set_max_tokens(value);
    ExpectRefused(absl::StatusCode::kInvalidArgument,
                  AllOf(HasSubstr("max_tokens = "), HasSubstr("[1, 97]")));
  }
}

TEST_F(RequestCheckTest, RefusesMoreThanTheContextWithTheNumbers) {
  request_.set_max_tokens(98);
  ExpectRefused(absl::StatusCode::kOutOfRange, AllOf(HasSubstr("98"), HasSubstr("101"),
                                                     HasSubstr("100"), HasSubstr("at most 97")));
  request_.set_max_tokens(std::numeric_limits<int32_t>::max());
  ExpectRefused(absl::StatusCode::kOutOfRange, HasSubstr("2147483647"));
  request_.clear_max_tokens();
  SetTokens(request_, std::vector<int32_t>(100, 1));
  ExpectRefused(absl::StatusCode::kOutOfRange,
                AllOf(HasSubstr("100 tokens"), HasSubstr("at most 99")));
}

TEST_F(RequestCheckTest, RefusesIdsOutsideTheVocabulary) {
  for (int32_t id : {-1, kByteVocabulary, std::numeric_limits<int32_t>::max()}) {
    SetTokens(request_, {1, 2, id});
    ExpectRefused(absl::StatusCode::kInvalidArgument,
                  AllOf(HasSubstr("tokens.ids has " + std::to_string(id)), HasSubstr("index 2"),
                        HasSubstr("[0, 257]")));
  }
}

TEST_F(RequestCheckTest, RefusesTokensThatTheModelHasNoRowsFor) {
  model_.vocab_size = 200;
  request_.set_text("ab");
  ExpectRefused(absl::StatusCode::kInvalidArgument, HasSubstr("text, tokenized, has 256"));
}

TEST_F(RequestCheckTest, RefusesAMissingOrEmptyPrompt) {
  SetTokens(request_, {});
  ExpectRefused(absl::StatusCode::kInvalidArgument, HasSubstr("no tokens"));
  request_.clear_prompt();
  ExpectRefused(absl::StatusCode::kInvalidArgument, HasSubstr("`text` and `tokens`"));
}

TEST_F(RequestCheckTest, RefusesATextThatIsFarTooLongWithoutTokenizingIt) {
  request_.set_text(std::string(25600, 'a'));
  ExpectRefused(absl::StatusCode::kOutOfRange, HasSubstr("25601 tokens"));
  request_.set_text(std::string(25601, 'a'));
  ExpectRefused(absl::StatusCode::kOutOfRange, HasSubstr("25601 bytes"));
}

TEST_F(RequestCheckTest, RefusesTextThatIsNotUtf8) {
  request_.set_text("ab\xff");
  ExpectRefused(absl::StatusCode::kInvalidArgument, AllOf(HasSubstr("text: "), HasSubstr("UTF-8")));
}

}  // namespace
}  // namespace lockstep::coordinator
