// Bounds of what is parsed, and fields that are taken, mistyped or unknown.
#include "coordinator/http/json_body.h"

#include "coordinator/serve/field_error.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"

namespace lockstep::coordinator {
namespace {

using ::testing::AllOf;
using ::testing::ElementsAre;
using ::testing::HasSubstr;
using Json = nlohmann::json;

std::string Refusal(const std::string& body) {
  const absl::Status status = ParseJsonObject(body).status();
  EXPECT_EQ(status.code(), absl::StatusCode::kInvalidArgument) << body.substr(0, 100);
  std::string message(status.message());
  return message;
}

TEST(ParseJsonObjectTest, ReadsAnObject) {
  const Json object = ParseJsonObject(R"({"a": [1, 2.5, "x", null, {"b": true}]})").value();
  EXPECT_EQ(object, Json::parse(R"({"a": [1, 2.5, "x", null, {"b": true}]})"));
}

TEST(ParseJsonObjectTest, RefusesWhatIsMalformedWithThePlace) {
  EXPECT_THAT(Refusal(R"({"a": })"), HasSubstr("column 7"));
  for (const std::string body :
       {"", "{", "nul", "{} x", "{\"a\": \"\xff\"}", R"({"a": "\ud800"})"}) {
    EXPECT_THAT(Refusal(body), HasSubstr("malformed JSON")) << body;
  }
}

TEST(ParseJsonObjectTest, RefusesWhatIsNoObject) {
  EXPECT_THAT(Refusal("[1]"), HasSubstr("type array"));
  EXPECT_THAT(Refusal("null"), HasSubstr("type null"));
}

TEST(ParseJsonObjectTest, NestingEndsAt64) {
  auto nested = [](int depth) {
    return "{\"a\":" + std::string(depth, '[') + std::string(depth, ']') + "}";
  };
  EXPECT_TRUE(ParseJsonObject(nested(63)).ok());
  EXPECT_THAT(Refusal(nested(64)), HasSubstr("deeper than 64"));
  EXPECT_THAT(Refusal(std::string(1 << 20, '[')), HasSubstr("deeper than 64"));
}

TEST(ParseJsonObjectTest, ValuesEndAtTwoMillion) {
  std::string body = "{\"a\":[1";
  for (int i = 0; i < 2'000'000; ++i) body += ",1";
  EXPECT_THAT(Refusal(body + "]}"), HasSubstr("more than 2000000 values"));
}

class FieldReaderTest : public ::testing::Test {
 protected:
  absl::Status Finish() const { return fields_.Finish(); }

  const Json object_ =
      Json::parse(R"({"flag": true, "whole": 5, "same": 5.0, "half": 0.5, "text": "x",
                                       "ids": [1, 2], "none": null, "large": 3000000000,
                                       "seed": 18446744073709551615, "negative": -1})");
  FieldReader fields_{object_};
};

TEST_F(FieldReaderTest, TakesEveryType) {
  EXPECT_EQ(fields_.Bool("flag"), true);
  EXPECT_EQ(fields_.Int32("whole"), 5);
  EXPECT_EQ(fields_.Int32("same"), 5);
  EXPECT_EQ(fields_.Number("half"), 0.5);
  EXPECT_EQ(fields_.Number("large"), 3e9);
  EXPECT_EQ(fields_.String("text"), "x");
  EXPECT_THAT(*fields_.Int32s("ids"), ElementsAre(1, 2));
  EXPECT_EQ(fields_.Seed("seed"), UINT64_MAX);
  EXPECT_EQ(fields_.Seed("negative"), UINT64_MAX);
  EXPECT_TRUE(Finish().ok()) << Finish();
}

TEST_F(FieldReaderTest, NullAndAbsentAreTheSame) {
  EXPECT_EQ(fields_.Int32("none"), std::nullopt);
  EXPECT_EQ(fields_.Int32("missing"), std::nullopt);
  EXPECT_TRUE(fields_.BoolOr("none", true));
}

TEST_F(FieldReaderTest, TheFirstErrorIsKeptWithItsField) {
  fields_.Int32("large");
  fields_.Bool("text");
  EXPECT_EQ(FieldOf(Finish()), "large");
  EXPECT_THAT(std::string(Finish().message()),
              AllOf(HasSubstr("32 bits"), HasSubstr("3000000000")));
}

TEST_F(FieldReaderTest, OtherTypesAreRefused) {
  for (const std::string name : {"whole", "text", "half"}) {
    FieldReader fields(object_);
    fields.Bool(name);
    EXPECT_EQ(FieldOf(fields.Finish()), name);
  }
  for (const std::string name : {"half", "text", "flag", "ids"}) {
    FieldReader fields(object_);
    fields.Int32(name);
    fields.Seed(name);
    EXPECT_EQ(FieldOf(fields.Finish()), name);
  }
}

TEST_F(FieldReaderTest, AFieldThatNobodyAskedForIsRefusedWithTheNearestName) {
  const Json object = {{"temprature", 1}};
  FieldReader fields(object, "outer.");
  fields.Number("temperature");
  EXPECT_EQ(FieldOf(fields.Finish()), "outer.temprature");
  EXPECT_THAT(std::string(fields.Finish().message()),
              AllOf(HasSubstr("not supported"), HasSubstr("meant to be temperature")));
}

}  // namespace
}  // namespace lockstep::coordinator
