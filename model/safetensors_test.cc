// Slices of real files on disk: one file, shards with an index, and files that lie or change.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cstring>
#include <nlohmann/json.hpp>

#include "model/safetensors_writer.h"
#include "model/weight_source.h"

namespace lockstep::model {
namespace {

namespace fs = std::filesystem;
using testing::AllOf;
using testing::HasSubstr;

constexpr int64_t kRows = 6;
constexpr int64_t kCols = 10;

/// [kRows, kCols] of 16-bit elements, element (r, c) being 100 r + c.
TensorToWrite Numbered(const std::string& name, const std::string& dtype = "BF16") {
  std::string data;
  for (int64_t r = 0; r < kRows; ++r) {
    for (int64_t c = 0; c < kCols; ++c) {
      uint16_t value = static_cast<uint16_t>(100 * r + c);
      data.append(reinterpret_cast<const char*>(&value), sizeof(value));
    }
  }
  return {name, dtype, {kRows, kCols}, data};
}

class SafetensorsTest : public testing::Test {
 protected:
  SafetensorsTest() : directory_(fs::path(testing::TempDir()) / "safetensors_test") {
    fs::remove_all(directory_);
    fs::create_directories(directory_);
  }
  ~SafetensorsTest() override { fs::remove_all(directory_); }

  void Write(const std::string& file, const std::string& bytes) const {
    ASSERT_TRUE(WriteBytes(directory_ / file, bytes).ok());
  }
  void WriteModel(const std::vector<TensorToWrite>& tensors) const {
    Write("model.safetensors", SerializeSafetensors(tensors));
  }
  void WriteIndex(const nlohmann::json& weight_map) const {
    Write("model.safetensors.index.json", nlohmann::json({{"weight_map", weight_map}}).dump());
  }
  absl::StatusOr<TensorRows> ReadRow(const WeightSource& source, const std::string& name) {
    return source.Rows(name, {kRows, kCols}, 0, 1, 0, kCols, scratch_);
  }
  void ExpectOpenRefused(absl::StatusCode code,
                         const testing::Matcher<std::string>& message) const {
    absl::Status status = OpenSafetensors(directory_).status();
    EXPECT_EQ(status.code(), code) << status;
    EXPECT_THAT(std::string(status.message()), message);
  }

  fs::path directory_;
  std::vector<std::byte> scratch_;
};

uint16_t Element(const TensorRows& rows, int64_t r, int64_t c) {
  uint16_t value;
  std::memcpy(&value, rows.data + r * rows.stride_bytes + c * 2, sizeof(value));
  return value;
}

TEST_F(SafetensorsTest, EveryRectangleIsReadWhereItLies) {
  // An odd number of bytes before it leaves the tensor unaligned.
  WriteModel({{"odd", "U8", {3}, "xyz"}, Numbered("w")});
  auto source = OpenSafetensors(directory_).value();
  for (int64_t row : {0, 1, 5}) {
    for (int64_t col : {0, 3, 9}) {
      TensorRows rows =
          source->Rows("w", {kRows, kCols}, row, kRows - row, col, kCols - col, scratch_).value();
      EXPECT_EQ(rows.dtype, DType::kBF16);
      ASSERT_EQ(rows.rows, kRows - row);
      ASSERT_EQ(rows.cols, kCols - col);
      for (int64_t r = 0; r < rows.rows; ++r) {
        for (int64_t c = 0; c < rows.cols; ++c) {
          ASSERT_EQ(Element(rows, r, c), 100 * (row + r) + col + c);
        }
      }
    }
  }
}

TEST_F(SafetensorsTest, AOneDimensionalTensorCountsAsOneColumn) {
  WriteModel({{"norm", "F32", {4}, std::string(16, '\0')}});
  auto source = OpenSafetensors(directory_).value();
  TensorRows rows = source->Rows("norm", {4, 1}, 1, 2, 0, 1, scratch_).value();
  EXPECT_EQ(rows.dtype, DType::kF32);
  EXPECT_EQ(rows.stride_bytes, 4);
  EXPECT_FALSE(source->Rows("norm", {2, 2}, 0, 1, 0, 1, scratch_).ok());
}

TEST_F(SafetensorsTest, AMissingTensorIsNamedWithItsNearNames) {
  WriteModel({Numbered("model.layers.1.mlp.up_proj.weight")});
  auto source = OpenSafetensors(directory_).value();
  absl::Status status = ReadRow(*source, "model.layers.0.mlp.up_proj.weight").status();
  EXPECT_EQ(status.code(), absl::StatusCode::kNotFound);
  EXPECT_THAT(std::string(status.message()),
              AllOf(HasSubstr("no tensor model.layers.0.mlp.up_proj.weight"),
                    HasSubstr("near names: model.layers.1.mlp.up_proj.weight")));
}

TEST_F(SafetensorsTest, AnotherShapeOrDtypeIsRefusedWithBoth) {
  WriteModel({Numbered("w"),
              Numbered("ints", "I16"),
              {"fp8", "F8_E4M3", {kRows, kCols}, std::string(kRows * kCols, 'q')}});
  auto source = OpenSafetensors(directory_).value();
  absl::Status shape = source->Rows("w", {kCols, kRows}, 0, 1, 0, 1, scratch_).status();
  EXPECT_THAT(std::string(shape.message()),
              AllOf(HasSubstr("[6, 10]"), HasSubstr("config.json makes it [10, 6]")));
  EXPECT_THAT(std::string(ReadRow(*source, "ints").status().message()), HasSubstr("I16"));
  EXPECT_THAT(std::string(ReadRow(*source, "fp8").status().message()),
              AllOf(HasSubstr("F8_E4M3"), HasSubstr("BF16, F16 or F32")));
}

TEST_F(SafetensorsTest, RectanglesOutsideTheTensorAreRefused) {
  WriteModel({Numbered("w")});
  auto source = OpenSafetensors(directory_).value();
  EXPECT_FALSE(source->Rows("w", {kRows, kCols}, 0, kRows + 1, 0, kCols, scratch_).ok());
  EXPECT_FALSE(source->Rows("w", {kRows, kCols}, INT64_MAX, 1, 0, kCols, scratch_).ok());
  EXPECT_FALSE(source->Rows("w", {kRows, kCols}, 0, 1, 5, INT64_MAX, scratch_).ok());
  EXPECT_FALSE(source->Rows("w", {kRows, kCols}, -1, 1, 0, 1, scratch_).ok());
}

TEST_F(SafetensorsTest, ShardsAreFoundThroughTheIndex) {
  Write("model-1.safetensors", SerializeSafetensors({Numbered("a"), Numbered("extra")}));
  Write("model-2.safetensors", SerializeSafetensors({Numbered("b")}));
  WriteIndex({{"a", "model-1.safetensors"}, {"b", "model-2.safetensors"}});
  auto source = OpenSafetensors(directory_).value();
  EXPECT_TRUE(ReadRow(*source, "a").ok());
  EXPECT_TRUE(ReadRow(*source, "b").ok());
  EXPECT_EQ(ReadRow(*source, "extra").status().code(), absl::StatusCode::kNotFound);
}

TEST_F(SafetensorsTest, AnIndexThatLiesIsRefused) {
  Write("model-1.safetensors", SerializeSafetensors({Numbered("a")}));
  WriteIndex({{"a", "model-1.safetensors"}, {"b", "model-2.safetensors"}});
  ExpectOpenRefused(absl::StatusCode::kNotFound,
                    AllOf(HasSubstr("model-2.safetensors"), HasSubstr("missing")));
  WriteIndex({{"b", "model-1.safetensors"}});
  ExpectOpenRefused(absl::StatusCode::kInvalidArgument, HasSubstr("does not hold it"));
  for (const char* file : {"../model-1.safetensors", "/etc/passwd", "", "..", "model.bin"}) {
    WriteIndex({{"a", file}});
    ExpectOpenRefused(absl::StatusCode::kInvalidArgument, HasSubstr("no .safetensors file name"));
  }
  WriteIndex({{"a", 7}});
  ExpectOpenRefused(absl::StatusCode::kInvalidArgument, HasSubstr("weight_map"));
  Write("model.safetensors.index.json", "{}");
  ExpectOpenRefused(absl::StatusCode::kInvalidArgument, HasSubstr("weight_map: missing"));
}

TEST_F(SafetensorsTest, OtherFormatsAreRefusedByName) {
  ExpectOpenRefused(absl::StatusCode::kNotFound, HasSubstr("model.safetensors"));
  Write("model.gguf", "GGUF");
  ExpectOpenRefused(absl::StatusCode::kUnimplemented, HasSubstr("GGUF"));
  fs::remove(directory_ / "model.gguf");
  Write("pytorch_model.bin", "x");
  ExpectOpenRefused(absl::StatusCode::kUnimplemented, HasSubstr("pickled"));
}

TEST_F(SafetensorsTest, DamagedFilesAreRefusedWithTheirPath) {
  std::string bytes = SerializeSafetensors({Numbered("w")});
  Write("model.safetensors", bytes.substr(0, bytes.size() - 1));
  ExpectOpenRefused(absl::StatusCode::kDataLoss,
                    AllOf(HasSubstr("model.safetensors"), HasSubstr("truncated")));
  Write("model.safetensors", "");
  ExpectOpenRefused(absl::StatusCode::kDataLoss, HasSubstr("empty"));
  fs::remove(directory_ / "model.safetensors");
  fs::create_directory(directory_ / "model.safetensors");
  ExpectOpenRefused(absl::StatusCode::kInvalidArgument, HasSubstr("not a regular file"));
}

TEST_F(SafetensorsTest, AFileTruncatedAfterOpeningIsAnErrorNotASignal) {
  WriteModel({{"big", "U8", {1 << 20}, std::string(1 << 20, 'b')}, Numbered("w")});
  auto source = OpenSafetensors(directory_).value();
  fs::resize_file(directory_ / "model.safetensors", 4096);
  absl::Status status = ReadRow(*source, "w").status();
  EXPECT_EQ(status.code(), absl::StatusCode::kDataLoss);
  EXPECT_THAT(std::string(status.message()), HasSubstr("changed while it was read"));
}

TEST_F(SafetensorsTest, AFileRewrittenAfterOpeningIsAnError) {
  WriteModel({Numbered("w")});
  auto source = OpenSafetensors(directory_).value();
  auto modified = fs::last_write_time(directory_ / "model.safetensors");
  fs::last_write_time(directory_ / "model.safetensors", modified + std::chrono::seconds(1));
  EXPECT_EQ(ReadRow(*source, "w").status().code(), absl::StatusCode::kDataLoss);
}

}  // namespace
}  // namespace lockstep::model
