// Both ways of writing config.json are read; whatever cannot be right is refused by its key, and
// nothing in the text can crash the process.
#include "model/config.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <nlohmann/json.hpp>

#include "model/model_examples.h"

namespace lockstep::model {
namespace {

using nlohmann::json;
using testing::AllOf;
using testing::HasSubstr;

/// The small model's config.json with one key set to the JSON text `value`, or removed.
std::string With(const std::string& key, const std::string& value) {
  json config = json::parse(SmallLlamaConfig());
  config[key] = json::parse(value);
  return config.dump();
}
std::string Without(const std::string& key) {
  json config = json::parse(SmallLlamaConfig());
  config.erase(key);
  return config.dump();
}

void ExpectRefused(const std::string& config, absl::StatusCode code,
                   const testing::Matcher<std::string>& message) {
  absl::Status status = ParseDecoderSpec(config).status();
  EXPECT_EQ(status.code(), code) << status << "\n" << config;
  EXPECT_THAT(std::string(status.message()), message);
}

TEST(ConfigTest, OlderKeysAreRead) {
  DecoderSpec spec = ParseDecoderSpec(Llama70bConfig()).value();
  EXPECT_EQ(spec.architecture, "LlamaForCausalLM");
  EXPECT_EQ(spec.num_layers, 80);
  EXPECT_EQ(spec.attention.num_heads, 64);
  EXPECT_EQ(spec.attention.kv_heads, 8);
  EXPECT_EQ(spec.attention.head_dim, 128);
  EXPECT_EQ(spec.attention.group(), 8);
  EXPECT_EQ(spec.mlp.intermediate_size, 28672);
  EXPECT_EQ(spec.max_position, 131072);
  EXPECT_FLOAT_EQ(spec.norm_eps, 1e-5f);
  EXPECT_FALSE(spec.tie_embeddings);
  EXPECT_EQ(spec.file_dtype, DType::kBF16);
  const RopeSpec& rope = spec.attention.rope;
  EXPECT_EQ(rope, (RopeSpec{500000.0, RopeScaling::kLlama3, 8.0, 1.0, 4.0, 8192}));
}

TEST(ConfigTest, KeysOfTransformers5AreRead) {
  DecoderSpec spec = ParseDecoderSpec(Llama1bConfig()).value();
  EXPECT_TRUE(spec.tie_embeddings);
  EXPECT_EQ(spec.attention.head_dim, 64);
  EXPECT_EQ(spec.attention.rope, (RopeSpec{500000.0, RopeScaling::kLlama3, 32.0, 1.0, 4.0, 8192}));
  EXPECT_EQ(ParseDecoderSpec(SmallLlamaConfig())->file_dtype, DType::kF32);
}

TEST(ConfigTest, HeadSizeAndKvHeadsHaveTheirDefaults) {
  DecoderSpec spec = ParseDecoderSpec(Without("num_key_value_heads")).value();
  EXPECT_EQ(spec.attention.kv_heads, 8);
  json config = json::parse(Without("head_dim"));
  config["hidden_size"] = 512;
  EXPECT_EQ(ParseDecoderSpec(config.dump())->attention.head_dim, 64);
  EXPECT_EQ(ParseDecoderSpec(With("head_dim", "null"))->attention.head_dim, 32);
}

TEST(ConfigTest, AHeadSizeApartFromTheHiddenSizeIsKept) {
  DecoderSpec spec = ParseDecoderSpec(With("head_dim", "128")).value();
  EXPECT_EQ(FullShape(spec, WeightRole::kQuery).rows, 1024);
  EXPECT_EQ(FullShape(spec, WeightRole::kAttentionOutput).cols, 1024);
}

TEST(ConfigTest, RopeMayBePlainLinearOrInBothPlacesIfTheyAgree) {
  json config = json::parse(Without("rope_parameters"));
  config["rope_theta"] = 20000;
  EXPECT_EQ(ParseDecoderSpec(config.dump())->attention.rope.theta, 20000);
  config["rope_scaling"] = {{"type", "linear"}, {"factor", 2}};
  DecoderSpec linear = ParseDecoderSpec(config.dump()).value();
  EXPECT_EQ(linear.attention.rope.scaling, RopeScaling::kLinear);
  config["rope_parameters"] = {{"rope_type", "linear"}, {"factor", 2.0}, {"rope_theta", 20000.0}};
  EXPECT_EQ(ParseDecoderSpec(config.dump())->attention.rope, linear.attention.rope);
  config["rope_parameters"]["factor"] = 4;
  ExpectRefused(config.dump(), absl::StatusCode::kInvalidArgument,
                HasSubstr("rope_scaling: contradicts rope_parameters"));
  config["rope_theta"] = 10000;
  ExpectRefused(config.dump(), absl::StatusCode::kInvalidArgument, HasSubstr("rope_theta"));
}

TEST(ConfigTest, ImpossibleValuesAreRefusedByTheirKey) {
  for (const char* key :
       {"hidden_size", "intermediate_size", "num_hidden_layers", "vocab_size",
        "num_attention_heads", "num_key_value_heads", "head_dim", "max_position_embeddings"}) {
    for (const char* value : {"0", "-1", "1e300", "99999999999999999999", "9223372036854775807",
                              "-9223372036854775808", "2.5", "\"8\"", "[8]", "{}", "true"}) {
      ExpectRefused(With(key, value), absl::StatusCode::kInvalidArgument, HasSubstr(key));
    }
  }
  for (const char* value : {"0", "-1e-5", "2", "\"1e-5\"", "[]"}) {
    ExpectRefused(With("rms_norm_eps", value), absl::StatusCode::kInvalidArgument,
                  HasSubstr("rms_norm_eps"));
  }
  for (const char* value : {"0", "-1", "1e300", "\"10000\""}) {
    ExpectRefused(With("rope_theta", value), absl::StatusCode::kInvalidArgument,
                  HasSubstr("rope_theta"));
  }
  ExpectRefused(With("tie_word_embeddings", "1"), absl::StatusCode::kInvalidArgument,
                HasSubstr("tie_word_embeddings"));
}

TEST(ConfigTest, MissingKeysAreNamed) {
  for (const char* key : {"hidden_size", "intermediate_size", "num_hidden_layers", "vocab_size",
                          "num_attention_heads", "max_position_embeddings"}) {
    ExpectRefused(Without(key), absl::StatusCode::kInvalidArgument,
                  AllOf(HasSubstr(key), HasSubstr("missing")));
  }
}

TEST(ConfigTest, NotANumberIsRefusedNearItsKey) {
  std::string config = SmallLlamaConfig();
  size_t at = config.find("1e-05");
  for (const char* value : {"NaN", "Infinity", "1e999"}) {
    ExpectRefused(std::string(config).replace(at, 5, value), absl::StatusCode::kInvalidArgument,
                  HasSubstr("not well-formed JSON"));
  }
}

TEST(ConfigTest, HeadsMustBeGroupedEvenly) {
  ExpectRefused(With("num_key_value_heads", "3"), absl::StatusCode::kInvalidArgument,
                AllOf(HasSubstr("num_key_value_heads: is 3"), HasSubstr("heads 8")));
  ExpectRefused(With("head_dim", "33"), absl::StatusCode::kInvalidArgument,
                AllOf(HasSubstr("head_dim"), HasSubstr("even")));
  json config = json::parse(Without("head_dim"));
  config["hidden_size"] = 250;
  ExpectRefused(config.dump(), absl::StatusCode::kInvalidArgument, HasSubstr("hidden_size 250"));
}

TEST(ConfigTest, WhatIsNotSupportedIsRefusedByItsName) {
  auto refused = [](const std::string& key, const std::string& value, const std::string& name) {
    ExpectRefused(With(key, value), absl::StatusCode::kUnimplemented,
                  AllOf(HasSubstr(key), HasSubstr(name), HasSubstr("known: ")));
  };
  refused("architectures", R"(["MambaForCausalLM"])", "MambaForCausalLM");
  for (const char* method : {"awq", "gptq", "fp8", "bitsandbytes", "compressed-tensors"}) {
    refused("quantization_config", json({{"quant_method", method}}).dump(), method);
  }
  refused("quantization_config", "{}", "without a quant_method");
  refused("attention_bias", "true", "true");
  refused("mlp_bias", "true", "true");
  refused("hidden_act", R"("gelu")", "gelu");
  refused("dtype", R"("float8_e4m3fn")", "float8_e4m3fn");
  json rope = {{"rope_type", "yarn"}, {"factor", 4.0}};
  ExpectRefused(With("rope_parameters", rope.dump()), absl::StatusCode::kUnimplemented,
                AllOf(HasSubstr("yarn"), HasSubstr("default, linear, llama3")));
}

TEST(ConfigTest, TheArchitectureMayBeNamedByModelTypeAlone) {
  EXPECT_EQ(ParseDecoderSpec(Without("architectures"))->architecture, "LlamaForCausalLM");
  json config = json::parse(Without("architectures"));
  config["model_type"] = "mamba";
  ExpectRefused(config.dump(), absl::StatusCode::kUnimplemented, HasSubstr("mamba"));
  config.erase("model_type");
  ExpectRefused(config.dump(), absl::StatusCode::kInvalidArgument,
                HasSubstr("architectures: missing; known: LlamaForCausalLM"));
  ExpectRefused(With("architectures", "[]"), absl::StatusCode::kInvalidArgument,
                HasSubstr("architectures"));
}

TEST(ConfigTest, Llama3ScalingNeedsItsNumbersInOrder) {
  json rope = json::parse(Llama1bConfig())["rope_parameters"];
  rope["high_freq_factor"] = 1.0;
  ExpectRefused(With("rope_parameters", rope.dump()), absl::StatusCode::kInvalidArgument,
                HasSubstr("must exceed low_freq_factor"));
  rope.erase("original_max_position_embeddings");
  rope["high_freq_factor"] = 4.0;
  ExpectRefused(With("rope_parameters", rope.dump()), absl::StatusCode::kInvalidArgument,
                HasSubstr("original_max_position_embeddings: missing"));
}

TEST(ConfigTest, TextThatIsNoJsonObjectIsRefused) {
  for (const char* text : {"", "[]", "null", "{", "{\"a\": 1, \"a\": 2}", "\xff\xfe", "{}}", "7"}) {
    ExpectRefused(text, absl::StatusCode::kInvalidArgument, HasSubstr("config.json"));
  }
  std::string deep = std::string(100000, '[');
  ExpectRefused("{\"a\":" + deep, absl::StatusCode::kInvalidArgument, HasSubstr("nested deeper"));
}

TEST(ConfigTest, EveryCutAndEveryFlippedByteGivesAnErrorOrAValidDescription) {
  const std::string config = json::parse(Llama1bConfig()).dump();
  int refused = 0;
  for (size_t length = 0; length < config.size(); ++length) {
    EXPECT_FALSE(ParseDecoderSpec(config.substr(0, length)).ok()) << length;
  }
  for (size_t at = 0; at < config.size(); ++at) {
    for (int flip : {0x01, 0x02, 0x10, 0x20, 0x80, 0xff}) {
      std::string damaged = config;
      damaged[at] = static_cast<char>(damaged[at] ^ flip);
      absl::StatusOr<DecoderSpec> spec = ParseDecoderSpec(damaged);
      if (!spec.ok()) {
        ++refused;
        EXPECT_FALSE(spec.status().message().empty());
        continue;
      }
      EXPECT_GT(spec->attention.group(), 0);
      EXPECT_EQ(spec->attention.num_heads % spec->attention.kv_heads, 0);
    }
  }
  EXPECT_GT(refused, 1000);
}

}  // namespace
}  // namespace lockstep::model
