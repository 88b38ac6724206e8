// What the tests of text/ share: the committed tokenizers and expectations of testdata/, and
// temporary model directories.
#ifndef LOCKSTEP_TEXT_TESTING_H_
#define LOCKSTEP_TEXT_TESTING_H_

#include <filesystem>
#include <memory>
#include <string>
#include <vector>

#include "nlohmann/json.hpp"
#include "text/tokenizer.h"

namespace lockstep::text {

// The model directories of testdata/, one per family of tokenizers.
inline const std::vector<std::string> kFamilies = {"byte_level", "llama2_style", "gemma_style",
                                                   "unigram", "word_piece"};

// A file of testdata/; ends the test program when it is missing.
std::string ReadTestFile(const std::string& name);
nlohmann::json ReadTestJson(const std::string& name);

// The tokenizer of testdata/`family`.
std::unique_ptr<Tokenizer> LoadTestTokenizer(const std::string& family);

// A directory that is removed with its content.
class TempDir {
 public:
  TempDir();
  ~TempDir();
  TempDir(const TempDir&) = delete;
  TempDir& operator=(const TempDir&) = delete;

  const std::filesystem::path& path() const { return path_; }

 private:
  std::filesystem::path path_;
};

}  // namespace lockstep::text

#endif  // LOCKSTEP_TEXT_TESTING_H_
