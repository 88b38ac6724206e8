// What flags and files make of a model, and what is refused before a port is opened.
#include "coordinator/model_set_up.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <filesystem>
#include <fstream>

#include "model/model_examples.h"

namespace lockstep::coordinator {
namespace {

using ::testing::AllOf;
using ::testing::HasSubstr;

/// A directory with SmallLlamaConfig's config.json and nothing else.
class ModelSetUpTest : public ::testing::Test {
 protected:
  ModelSetUpTest() {
    Write("config.json", model::SmallLlamaConfig());
    flags_.model = directory_.string();
    flags_.load_format = "dummy";
    flags_.dtype = "bf16";
  }
  ~ModelSetUpTest() override { std::filesystem::remove_all(directory_); }

  static std::filesystem::path MakeDirectory() {
    std::string path = std::filesystem::path(::testing::TempDir()) / "modelXXXXXX";
    return mkdtemp(path.data());
  }
  void Write(const std::string& file, const std::string& text) {
    std::ofstream(directory_ / file) << text;
  }
  std::string Refusal() {
    absl::Status status = SetUpModel(flags_).status();
    EXPECT_FALSE(status.ok());
    return std::string(status.message());
  }

  const std::filesystem::path directory_ = MakeDirectory();
  ModelFlags flags_;
};

TEST_F(ModelSetUpTest, DummyWeightsNeedConfigJsonAlone) {
  flags_.tp = 2;
  flags_.pp = 2;
  flags_.max_model_len = 100;
  flags_.dummy_seed = 9;
  absl::StatusOr<ModelSetUp> set_up = SetUpModel(flags_);
  ASSERT_TRUE(set_up.ok()) << set_up.status();
  EXPECT_EQ(set_up->cluster.plan.ranks.size(), 4);
  EXPECT_EQ(set_up->cluster.plan.context_tokens, 100);
  EXPECT_EQ(set_up->cluster.model.directory(), directory_.string());
  EXPECT_EQ(set_up->cluster.model.config_json(), model::SmallLlamaConfig());
  EXPECT_EQ(set_up->cluster.model.load_format(), v1::LOAD_FORMAT_DUMMY);
  EXPECT_EQ(set_up->cluster.model.dummy_seed(), 9);
  EXPECT_EQ(set_up->cluster.model.dtype(), "bf16");
  EXPECT_EQ(set_up->served.name, directory_.filename().string());
  EXPECT_EQ(set_up->served.architecture, "LlamaForCausalLM");
  EXPECT_EQ(set_up->served.context_tokens, 100);
}

TEST_F(ModelSetUpTest, WorkersMaySeeTheModelElsewhere) {
  flags_.workers_model_dir = "/mnt/models/small";
  EXPECT_EQ(SetUpModel(flags_)->cluster.model.directory(), "/mnt/models/small");
}

TEST_F(ModelSetUpTest, RealWeightsNeedATokenizerOrTheFlagThatDoesWithout) {
  flags_.load_format = "safetensors";
  EXPECT_THAT(Refusal(), AllOf(HasSubstr("tokenizer.json"), HasSubstr("--skip-tokenizer-init")));
  flags_.skip_tokenizer_init = true;
  EXPECT_TRUE(SetUpModel(flags_).ok());
}

TEST_F(ModelSetUpTest, IllegalPlansAreRefusedWithTheLegalSizes) {
  flags_.tp = 3;
  EXPECT_THAT(Refusal(), AllOf(HasSubstr("TP 3"), HasSubstr("1, 2, 4, 8")));
}

TEST_F(ModelSetUpTest, FlagsOutOfRangeAreRefusedByName) {
  flags_.dtype = "fp16";
  EXPECT_THAT(Refusal(), HasSubstr("--dtype is \"fp16\", but must be bf16 or fp32"));
  flags_.dtype = "fp32";
  flags_.load_format = "gguf";
  EXPECT_THAT(Refusal(), HasSubstr("--load-format is \"gguf\""));
  flags_.load_format = "dummy";
  flags_.max_num_seqs = 0;
  EXPECT_THAT(Refusal(), HasSubstr("--max-num-seqs is 0"));
  flags_.model.clear();
  EXPECT_THAT(Refusal(), HasSubstr("--model is missing"));
}

TEST_F(ModelSetUpTest, ErrorsInFilesNameTheFile) {
  Write("config.json", "{\"architectures\": [");
  EXPECT_THAT(Refusal(), HasSubstr("config.json"));
  Write("config.json", model::SmallLlamaConfig());
  Write("generation_config.json", "[]");
  EXPECT_THAT(Refusal(), HasSubstr("generation_config.json"));
}

}  // namespace
}  // namespace lockstep::coordinator
