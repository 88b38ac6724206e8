// Directories are found by path, or by name in a cache laid out as huggingface_hub does.
#include "model/model_directory.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <sys/stat.h>

#include <cstdlib>
#include <fstream>

namespace lockstep::model {
namespace {

namespace fs = std::filesystem;
using testing::HasSubstr;

class ModelDirectoryTest : public testing::Test {
 protected:
  ModelDirectoryTest() : root_(fs::path(testing::TempDir()) / "model_directory_test") {
    fs::remove_all(root_);
    fs::create_directories(root_ / "hub");
    for (const char* name : {"HF_HUB_CACHE", "HUGGINGFACE_HUB_CACHE", "XDG_CACHE_HOME"}) {
      unsetenv(name);
    }
    setenv("HF_HOME", root_.c_str(), 1);
  }
  ~ModelDirectoryTest() override { fs::remove_all(root_); }

  /// A repository with one file, linked from its snapshot to its blobs as in the real cache.
  fs::path MakeRepository(const fs::path& cache, const std::string& name) {
    fs::path repository = cache / name;
    fs::create_directories(repository / "blobs");
    fs::create_directories(repository / "refs");
    fs::create_directories(repository / "snapshots" / "abc123");
    std::ofstream(repository / "blobs" / "f00") << "{}";
    std::ofstream(repository / "refs" / "main") << "abc123\n";
    fs::create_symlink("../../blobs/f00", repository / "snapshots" / "abc123" / "config.json");
    return repository;
  }

  fs::path root_;
};

TEST_F(ModelDirectoryTest, ADirectoryIsTakenAsItIs) {
  EXPECT_EQ(ResolveModelDirectory(root_.string()).value(), root_);
}

TEST_F(ModelDirectoryTest, ANameIsFoundInTheCacheAndItsLinksAreFollowed) {
  fs::path repository = MakeRepository(root_ / "hub", "models--org--name");
  fs::path directory = ResolveModelDirectory("org/name").value();
  EXPECT_EQ(directory, repository / "snapshots" / "abc123");
  EXPECT_EQ(ReadTextFile(directory / "config.json").value(), "{}");
}

TEST_F(ModelDirectoryTest, HubCacheComesBeforeHome) {
  MakeRepository(root_ / "elsewhere", "models--org--name");
  setenv("HF_HUB_CACHE", (root_ / "elsewhere").c_str(), 1);
  EXPECT_TRUE(ResolveModelDirectory("org/name").ok());
  unsetenv("HF_HUB_CACHE");
  EXPECT_FALSE(ResolveModelDirectory("org/name").ok());
}

TEST_F(ModelDirectoryTest, WhatIsNotThereIsRefusedWithWhereWasLooked) {
  absl::Status status = ResolveModelDirectory("org/absent").status();
  EXPECT_EQ(status.code(), absl::StatusCode::kNotFound);
  EXPECT_THAT(std::string(status.message()),
              HasSubstr((root_ / "hub" / "models--org--absent").string()));
  EXPECT_EQ(ResolveModelDirectory("/no/such/path").status().code(), absl::StatusCode::kNotFound);
  EXPECT_EQ(ResolveModelDirectory("").status().code(), absl::StatusCode::kInvalidArgument);
}

TEST_F(ModelDirectoryTest, ARevisionCannotLeadOutOfTheCache) {
  fs::path repository = MakeRepository(root_ / "hub", "models--org--name");
  for (const char* revision : {"../../..", "..", "/etc", "", "missing"}) {
    std::ofstream(repository / "refs" / "main") << revision;
    absl::Status status = ResolveModelDirectory("org/name").status();
    EXPECT_EQ(status.code(), absl::StatusCode::kNotFound) << revision;
    EXPECT_THAT(std::string(status.message()), HasSubstr("refs/main")) << revision;
  }
}

TEST_F(ModelDirectoryTest, AFileInPlaceOfTheDirectoryIsRefused) {
  std::ofstream(root_ / "model.gguf") << "x";
  absl::Status status = ResolveModelDirectory((root_ / "model.gguf").string()).status();
  EXPECT_EQ(status.code(), absl::StatusCode::kInvalidArgument);
  EXPECT_THAT(std::string(status.message()), HasSubstr("is a file"));
}

TEST_F(ModelDirectoryTest, OnlyRegularFilesAreRead) {
  EXPECT_EQ(ReadTextFile(root_ / "absent").status().code(), absl::StatusCode::kNotFound);
  EXPECT_EQ(ReadTextFile(root_).status().code(), absl::StatusCode::kInvalidArgument);
  ASSERT_EQ(mkfifo((root_ / "pipe").c_str(), 0600), 0);
  EXPECT_EQ(ReadTextFile(root_ / "pipe").status().code(), absl::StatusCode::kInvalidArgument);
}

}  // namespace
}  // namespace lockstep::model
