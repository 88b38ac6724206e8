// Test data and temporary directories for the tests of text/.
#include "text/testing.h"

#include <cstdlib>
#include <system_error>

#include "gtest/gtest.h"
#include "text/abi.h"

namespace lockstep::text {
namespace {

constexpr char kTestData[] = "text/testdata";

}  // namespace

std::string ReadTestFile(const std::string& name) {
  // StatusOr ends the program with the status when it holds no value.
  return ReadTextFile(std::filesystem::path(kTestData) / name).value();
}

nlohmann::json ReadTestJson(const std::string& name) {
  return nlohmann::json::parse(ReadTestFile(name));
}

std::unique_ptr<Tokenizer> LoadTestTokenizer(const std::string& family) {
  return Tokenizer::Load(std::filesystem::path(kTestData) / family).value();
}

TempDir::TempDir() {
  std::string pattern = ::testing::TempDir() + "/text_XXXXXX";
  path_ = mkdtemp(pattern.data());
}

TempDir::~TempDir() {
  std::error_code ignored;
  std::filesystem::remove_all(path_, ignored);
}

}  // namespace lockstep::text
