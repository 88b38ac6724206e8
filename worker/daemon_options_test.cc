// Flags, torchrun's environment and the machine, resolved.
#include "worker/daemon_options.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <map>
#include <string>

namespace lockstep::worker {
namespace {

using testing::ElementsAre;
using testing::HasSubstr;

const Processors kMachine{.cpus = {0, 1, 2, 3, 4, 5, 6, 7},
                          .numa_nodes = {{0, 1, 2, 3}, {4, 5, 6, 7}}};
constexpr int64_t kMemory = 8000;

absl::StatusOr<DaemonOptions> Resolve(DaemonFlags flags,
                                      std::map<std::string, std::string> variables = {}) {
  auto env = [&](const char* name) -> const char* {
    auto found = variables.find(name);
    return found == variables.end() ? nullptr : found->second.c_str();
  };
  return ResolveOptions(flags, env, kMachine, kMemory);
}

TEST(DaemonOptionsTest, AllIsOneDevicePerNumaNode) {
  auto options = Resolve({.coordinator = "127.0.0.1:9"});
  ASSERT_TRUE(options.ok()) << options.status();
  ASSERT_EQ(options->devices.size(), 2u);
  EXPECT_EQ(options->devices[1].device.name, "cpu:1");
  EXPECT_THAT(options->devices[1].device.cpus, ElementsAre(4, 5, 6, 7));
  EXPECT_EQ(options->devices[1].threads, 4);
  EXPECT_EQ(options->devices[1].local_index, 1u);
  EXPECT_EQ(options->devices[0].memory_bytes, kMemory / 2);
  EXPECT_EQ(options->data_interface, "127.0.0.1");
}

TEST(DaemonOptionsTest, ListedDevicesShareTheCoresOut) {
  auto options =
      Resolve({.coordinator = "localhost:9", .devices = "cpu:0,cpu:1,cpu:2", .cpus = "0-2,6-7"});
  ASSERT_TRUE(options.ok()) << options.status();
  ASSERT_EQ(options->devices.size(), 3u);
  EXPECT_THAT(options->devices[0].device.cpus, ElementsAre(0));
  EXPECT_THAT(options->devices[1].device.cpus, ElementsAre(1, 2));
  EXPECT_THAT(options->devices[2].device.cpus, ElementsAre(6, 7));
}

TEST(DaemonOptionsTest, MoreDevicesThanCoresTakeTurns) {
  auto options =
      Resolve({.coordinator = "localhost:9", .devices = "cpu:0,cpu:1,cpu:2,cpu:3", .cpus = "4,5"});
  ASSERT_TRUE(options.ok()) << options.status();
  EXPECT_THAT(options->devices[0].device.cpus, ElementsAre(4));
  EXPECT_THAT(options->devices[1].device.cpus, ElementsAre(4));
  EXPECT_THAT(options->devices[3].device.cpus, ElementsAre(5));
}

TEST(DaemonOptionsTest, TorchrunsEnvironmentNamesCoordinatorDeviceAndIndex) {
  auto options = Resolve({}, {{"MASTER_ADDR", "127.0.0.1"},
                              {"MASTER_PORT", "29500"},
                              {"LOCAL_RANK", "1"},
                              {"LOCAL_WORLD_SIZE", "4"}});
  ASSERT_TRUE(options.ok()) << options.status();
  EXPECT_EQ(options->coordinator, "127.0.0.1:50051");
  ASSERT_EQ(options->devices.size(), 1u);
  EXPECT_EQ(options->devices[0].device.name, "cpu:1");
  EXPECT_THAT(options->devices[0].device.cpus, ElementsAre(2, 3));
  EXPECT_EQ(options->devices[0].local_index, 1u);
  EXPECT_EQ(Resolve({}, {{"MASTER_ADDR", "::1"}, {"LOCKSTEP_PORT", "77"}})->coordinator,
            "[::1]:77");
}

TEST(DaemonOptionsTest, FlagsPrevailOverTheEnvironment) {
  auto options = Resolve(
      {.coordinator = "127.0.0.1:5", .device = "cpu:7", .device_memory_bytes = 5, .local_index = 3},
      {{"MASTER_ADDR", "10.0.0.1"}, {"LOCAL_RANK", "1"}, {"LOCAL_WORLD_SIZE", "4"}});
  ASSERT_TRUE(options.ok()) << options.status();
  EXPECT_EQ(options->coordinator, "127.0.0.1:5");
  EXPECT_EQ(options->devices[0].device.name, "cpu:7");
  EXPECT_EQ(options->devices[0].local_index, 3u);
  EXPECT_EQ(options->devices[0].memory_bytes, 5);
}

TEST(DaemonOptionsTest, MoreThreadsThanProcessorsAreNotPinned) {
  auto options =
      Resolve({.coordinator = "localhost:9", .device = "cpu:0", .cpus = "3", .threads = 2});
  ASSERT_TRUE(options.ok());
  EXPECT_FALSE(options->devices[0].pinned);
  EXPECT_EQ(options->devices[0].threads, 2);
}

TEST(DaemonOptionsTest, ACoordinatorOnAnotherMachineNeedsInsecure) {
  absl::Status refused = Resolve({.coordinator = "192.0.2.1:50051"}).status();
  EXPECT_EQ(refused.code(), absl::StatusCode::kFailedPrecondition);
  EXPECT_THAT(std::string(refused.message()), HasSubstr("--insecure"));
  EXPECT_TRUE(
      Resolve({.coordinator = "192.0.2.1:50051", .data_interface = "192.0.2.2", .insecure = true})
          .ok());
}

TEST(DaemonOptionsTest, RefusalsNameWhatIsWrong) {
  auto message = [](DaemonFlags flags, std::map<std::string, std::string> env = {}) {
    return std::string(Resolve(flags, env).status().message());
  };
  EXPECT_THAT(message({}), HasSubstr("--coordinator"));
  EXPECT_THAT(message({.coordinator = "nowhere"}), HasSubstr("HOST:PORT"));
  EXPECT_THAT(message({.coordinator = "::1:50051"}), HasSubstr("brackets"));
  EXPECT_THAT(message({.coordinator = "[::1]:1", .devices = "cpu:0,cpu:0"}), HasSubstr("twice"));
  EXPECT_THAT(message({.coordinator = "[::1]:1", .devices = "tpu:0"}), HasSubstr("tpu:0"));
  EXPECT_THAT(message({.coordinator = "[::1]:1", .cpus = "3-1"}), HasSubstr("3-1"));
  EXPECT_THAT(message({.coordinator = "[::1]:1", .threads = -1}), HasSubstr("--threads"));
  EXPECT_THAT(message({.coordinator = "[::1]:1", .devices = "all", .device = "cpu:0"}),
              HasSubstr("exclude"));
  EXPECT_THAT(message({.coordinator = "[::1]:1"}, {{"LOCAL_RANK", "two"}}),
              HasSubstr("LOCAL_RANK"));
  EXPECT_THAT(message({.coordinator = "[::1]:1"}, {{"LOCAL_RANK", "2"}, {"LOCAL_WORLD_SIZE", "2"}}),
              HasSubstr("LOCAL_WORLD_SIZE=2"));
}

TEST(DevicesTest, TheMachineHasProcessorsInNumaNodes) {
  Processors processors = ReadProcessors();
  ASSERT_FALSE(processors.cpus.empty());
  size_t in_nodes = 0;
  for (const auto& node : processors.numa_nodes) in_nodes += node.size();
  EXPECT_EQ(in_nodes, processors.cpus.size());
}

TEST(DevicesTest, CpuListsAreReadAndWritten) {
  EXPECT_THAT(*ParseCpuList("0-2,9,4"), ElementsAre(0, 1, 2, 4, 9));
  EXPECT_EQ(FormatCpuList({0, 1, 9}), "0,1,9");
  EXPECT_FALSE(ParseCpuList("").ok());
  EXPECT_FALSE(ParseCpuList("1-").ok());
  EXPECT_FALSE(ParseCpuList("a").ok());
}

}  // namespace
}  // namespace lockstep::worker
