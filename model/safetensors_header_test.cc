// No header, however damaged, does more than give an error or a description that tiles the file.
#include "model/safetensors_header.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>

#include "model/safetensors_writer.h"

namespace lockstep::model {
namespace {

using testing::HasSubstr;

absl::StatusOr<SafetensorsIndex> Parse(const std::string& file) {
  return ParseSafetensorsHeader(std::as_bytes(std::span(file.data(), file.size())), "f");
}

std::string WithHeader(const std::string& header, size_t data_bytes) {
  std::string length;
  for (int i = 0; i < 8; ++i) {
    length.push_back(static_cast<char>((header.size() >> (8 * i)) & 0xff));
  }
  return length + header + std::string(data_bytes, 'x');
}

void ExpectRefused(const std::string& file, absl::StatusCode code, const std::string& words) {
  absl::Status status = Parse(file).status();
  EXPECT_EQ(status.code(), code) << status;
  EXPECT_THAT(std::string(status.message()), HasSubstr(words));
}

std::string Example() {
  return SerializeSafetensors({{"a", "BF16", {2, 3}, std::string(12, 'a')},
                               {"empty", "F32", {0, 7}, ""},
                               {"scalar", "F32", {}, std::string(4, 's')},
                               {"norm", "F16", {5}, std::string(10, 'n')}});
}

/// What every accepted header must satisfy.
void ExpectTiles(const SafetensorsIndex& index, size_t file_bytes, const std::string& file) {
  uint64_t sum = 0;
  for (const auto& [name, entry] : index) {
    ASSERT_LE(entry.begin, entry.end);
    ASSERT_LE(entry.end, file_bytes) << file;
    sum += entry.end - entry.begin;
  }
  EXPECT_LE(sum, file_bytes);
}

TEST(SafetensorsHeaderTest, DescribesEachTensor) {
  std::string file = Example();
  SafetensorsIndex index = Parse(file).value();
  ASSERT_EQ(index.size(), 4u);
  EXPECT_EQ(index["a"].dtype, "BF16");
  EXPECT_EQ(index["a"].shape, (std::vector<int64_t>{2, 3}));
  EXPECT_EQ(file.substr(index["a"].begin, 12), std::string(12, 'a'));
  EXPECT_EQ(file.substr(index["norm"].begin), std::string(10, 'n'));
  EXPECT_EQ(index["norm"].end, file.size());
}

TEST(SafetensorsHeaderTest, MetadataAndPaddingAreLeftAside) {
  std::string header =
      R"({"__metadata__":{"format":"pt"},"a":{"dtype":"U8","shape":[3],"data_offsets":[0,3]}}   )";
  EXPECT_EQ(Parse(WithHeader(header, 3))->size(), 1u);
}

TEST(SafetensorsHeaderTest, EveryTruncationIsAnError) {
  std::string file = Example();
  for (size_t length = 0; length < file.size(); ++length) {
    absl::Status status = Parse(file.substr(0, length)).status();
    EXPECT_EQ(status.code(), absl::StatusCode::kDataLoss) << length << " " << status;
  }
  EXPECT_FALSE(Parse(file + "x").ok());
}

TEST(SafetensorsHeaderTest, EverySingleByteCorruptionIsAnErrorOrStillTilesTheFile) {
  const std::string file = Example();
  size_t header_end = SafetensorsHeaderEnd(std::as_bytes(std::span(file.data(), file.size())));
  int refused = 0, accepted = 0;
  for (size_t at = 0; at < header_end; ++at) {
    for (int value = 0; value < 256; ++value) {
      std::string damaged = file;
      damaged[at] = static_cast<char>(value);
      absl::StatusOr<SafetensorsIndex> index = Parse(damaged);
      if (index.ok()) {
        ++accepted;
        ExpectTiles(*index, damaged.size(), damaged);
      } else {
        ++refused;
        EXPECT_THAT(std::string(index.status().message()), HasSubstr("f"));
      }
    }
  }
  EXPECT_GT(refused, accepted);
}

TEST(SafetensorsHeaderTest, HeaderLengthsBeyondFileOrFormatAreRefused) {
  std::string file = Example();
  std::string longer = file;
  longer[2] = 1;
  ExpectRefused(longer, absl::StatusCode::kDataLoss, "truncated");
  std::string absurd = file;
  absurd[7] = '\xff';
  ExpectRefused(absurd, absl::StatusCode::kInvalidArgument, "the limit is 100000000");
}

TEST(SafetensorsHeaderTest, OffsetsMustTileTheFile) {
  auto two = [](const char* first, const char* second) {
    return std::string(R"({"a":{"dtype":"U8","shape":[4],"data_offsets":)") + first +
           R"(},"b":{"dtype":"U8","shape":[4],"data_offsets":)" + second + "}}";
  };
  EXPECT_TRUE(Parse(WithHeader(two("[0,4]", "[4,8]"), 8)).ok());
  ExpectRefused(WithHeader(two("[0,4]", "[3,7]"), 7), absl::StatusCode::kInvalidArgument, "inside");
  ExpectRefused(WithHeader(two("[0,4]", "[0,4]"), 4), absl::StatusCode::kInvalidArgument, "inside");
  ExpectRefused(WithHeader(two("[0,4]", "[5,9]"), 9), absl::StatusCode::kInvalidArgument, "gap");
  ExpectRefused(WithHeader(two("[1,5]", "[5,9]"), 9), absl::StatusCode::kInvalidArgument, "gap");
  ExpectRefused(WithHeader(two("[0,4]", "[4,8]"), 9), absl::StatusCode::kDataLoss,
                "after its last");
  ExpectRefused(WithHeader(two("[0,4]", "[4,8]"), 7), absl::StatusCode::kDataLoss, "truncated");
  ExpectRefused(WithHeader(two("[4,0]", "[4,8]"), 8), absl::StatusCode::kInvalidArgument,
                "ascending");
}

TEST(SafetensorsHeaderTest, EntriesThatContradictThemselvesAreRefusedByTensor) {
  auto one = [](const std::string& entry, size_t bytes) {
    return WithHeader("{\"weight\":" + entry + "}", bytes);
  };
  auto refused = [&](const std::string& entry, const std::string& words) {
    ExpectRefused(one(entry, 8), absl::StatusCode::kInvalidArgument, "tensor weight");
    ExpectRefused(one(entry, 8), absl::StatusCode::kInvalidArgument, words);
  };
  refused(R"({"dtype":"F32","shape":[3],"data_offsets":[0,8]})", "dtype and shape make 12");
  refused(R"({"dtype":"F31","shape":[2],"data_offsets":[0,8]})", "F31 is not known");
  refused(R"({"shape":[2],"data_offsets":[0,8]})", "dtype: missing");
  refused(R"({"dtype":"F32","data_offsets":[0,8]})", "shape");
  refused(R"({"dtype":"F32","shape":[-2],"data_offsets":[0,8]})", "shape");
  refused(R"({"dtype":"F32","shape":[2.0],"data_offsets":[0,8]})", "shape");
  refused(R"({"dtype":"F32","shape":2,"data_offsets":[0,8]})", "shape");
  refused(R"({"dtype":"F32","shape":[2],"data_offsets":[0]})", "data_offsets");
  refused(R"({"dtype":"F32","shape":[2],"data_offsets":["0",8]})", "data_offsets");
  refused(R"({"dtype":"F4","shape":[3],"data_offsets":[0,8]})", "within a byte");
  refused(R"({"dtype":"F64","shape":[281474976710656,281474976710656],"data_offsets":[0,8]})",
          "overflows 64 bits");
  refused(R"({"dtype":"F32","shape":[99999999999999999999],"data_offsets":[0,8]})", "shape");
  refused("7", "not described by an object");
}

TEST(SafetensorsHeaderTest, ANameThatStandsTwiceIsRefused) {
  std::string header = R"({"a":{"dtype":"U8","shape":[1],"data_offsets":[0,1]},)"
                       R"("a":{"dtype":"U8","shape":[1],"data_offsets":[1,2]}})";
  ExpectRefused(WithHeader(header, 2), absl::StatusCode::kInvalidArgument, "stands twice");
}

}  // namespace
}  // namespace lockstep::model
