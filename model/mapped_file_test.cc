// Preparing pieces of a file: any geometry within it, and errors instead of signals.
#include "model/mapped_file.h"

#include <gtest/gtest.h>

#include "model/safetensors_writer.h"

namespace lockstep::model {
namespace {

namespace fs = std::filesystem;

class MappedFileTest : public testing::Test {
 protected:
  MappedFileTest() : path_(fs::path(testing::TempDir()) / "mapped_file_test") {
    std::string bytes(kBytes, 'a');
    bytes.back() = 'z';
    EXPECT_TRUE(WriteBytes(path_, bytes).ok());
  }
  ~MappedFileTest() override { fs::remove(path_); }

  static constexpr uint64_t kBytes = (1 << 20) + 17;
  fs::path path_;
};

TEST_F(MappedFileTest, PiecesOfAnyGeometryBecomeReadable) {
  auto file = MappedFile::Open(path_).value();
  EXPECT_TRUE(file->Prepare(0, kBytes, kBytes, 1).ok());
  EXPECT_TRUE(file->Prepare(kBytes - 1, 1, 1, 1).ok());
  EXPECT_TRUE(file->Prepare(3, 5, 100, 1000).ok());     // dense: one span
  EXPECT_TRUE(file->Prepare(7, 2, 256 << 10, 4).ok());  // sparse: piece by piece
  EXPECT_TRUE(file->Prepare(kBytes, 0, 1, 1).ok());
  EXPECT_EQ(std::to_integer<char>(file->bytes().back()), 'z');
}

TEST_F(MappedFileTest, ATruncatedFileIsReported) {
  auto file = MappedFile::Open(path_).value();
  fs::resize_file(path_, 1000);
  EXPECT_EQ(file->Prepare(kBytes - 1, 1, 1, 1).code(), absl::StatusCode::kDataLoss);
}

TEST_F(MappedFileTest, AMissingFileIsNotFound) {
  EXPECT_EQ(MappedFile::Open(path_.string() + ".absent").status().code(),
            absl::StatusCode::kNotFound);
}

}  // namespace
}  // namespace lockstep::model
