// coordinatord: takes prompts from clients and leads the workers that dial in.
#include <signal.h>

#include <filesystem>
#include <fstream>
#include <iostream>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "absl/flags/flag.h"
#include "absl/status/status.h"
#include "absl/strings/str_cat.h"
#include "base/flags_main.h"
#include "base/status_macros.h"
#include "coordinator/listen_address.h"
#include "coordinator/model_set_up.h"
#include "coordinator/server.h"

ABSL_FLAG(std::string, model, "",
          "directory of a Hugging Face model, or org/name in the local Hugging Face cache");
ABSL_FLAG(std::string, workers_model_dir, "",
          "the model's directory as the workers see it, where that differs from --model");
ABSL_FLAG(std::string, listen, "127.0.0.1:50051",
          "HOST:PORT to listen on for clients, workers and coordinatorctl; port 0 chooses one");
ABSL_FLAG(
    std::string, http, "",
    "HOST:PORT to listen on for HTTP, in the form of OpenAI's API; port 0 chooses one (default: "
    "no HTTP)");
ABSL_FLAG(std::string, port_file, "",
          "file to write the port to, once it listens, and a line with that of HTTP, if any");
ABSL_FLAG(std::vector<std::string>, served_model_name, {},
          "names, with commas between them, that requests may use for the model; answers give the "
          "first (default: the directory's or the organisation's name)");
ABSL_FLAG(bool, insecure, false,
          "listen in plain text, without authentication, on addresses that others can reach");
ABSL_FLAG(int, tp, 1,
          "ranks that split every weight matrix, inside a node (also --tensor-parallel-size)");
ABSL_FLAG(int, pp, 1, "stages that split the layers (also --pipeline-parallel-size)");
ABSL_FLAG(
    int, replicas, 1,
    "groups of tp x pp ranks, each with all of the model, that requests are spread over (also "
    "--data-parallel-size)");
ABSL_FLAG(bool, allow_cross_node_tp, false, "let a TP group stretch over nodes");
ABSL_FLAG(std::string, dtype, "bf16", "arithmetic and key-value cache: bf16 or fp32");
ABSL_FLAG(std::string, load_format, "safetensors",
          "safetensors, or dummy: seeded random weights, with config.json as the only file");
ABSL_FLAG(bool, skip_tokenizer_init, false,
          "serve a model without tokenizer.json: token ids in and out, no text");
ABSL_FLAG(std::optional<uint64_t>, seed, std::nullopt,
          "of the seeds that requests without one get (default: drawn anew at every start)");
ABSL_FLAG(uint64_t, dummy_seed, 0, "seed of --load-format=dummy");
ABSL_FLAG(int64_t, max_model_len, 0,
          "longest prompt and continuation together, in tokens; 0: the model's own limit");
ABSL_FLAG(int64_t, max_num_seqs, 32, "most requests that run at once");
ABSL_FLAG(int64_t, max_num_batched_tokens, 2048, "most tokens in one step");
ABSL_FLAG(int64_t, max_queue, 1024, "most requests that wait at once; more are refused");
ABSL_FLAG(
    int, max_batches_in_flight, 0,
    "most steps that are computed or queued at once; 0: one more than there are stages, which "
    "is also the most; 1 shows what overlapping them is worth");
ABSL_FLAG(bool, enable_prefix_caching, true,
          "keep the key-value blocks of prompts for requests that begin alike; "
          "--noenable-prefix-caching computes every prompt anew");
ABSL_FLAG(double, memory_fraction, 0.9,
          "share of a worker's memory that weights, activations and key-value cache may take (also "
          "--gpu-memory-utilization)");

namespace lockstep::coordinator {
namespace {

constexpr int kMostReplicas = 1024;

ModelFlags ModelFlagsAsGiven() {
  return {
      .model = absl::GetFlag(FLAGS_model),
      .served_model_names = absl::GetFlag(FLAGS_served_model_name),
      .workers_model_dir = absl::GetFlag(FLAGS_workers_model_dir),
      .load_format = absl::GetFlag(FLAGS_load_format),
      .skip_tokenizer_init = absl::GetFlag(FLAGS_skip_tokenizer_init),
      .dummy_seed = absl::GetFlag(FLAGS_dummy_seed),
      .dtype = absl::GetFlag(FLAGS_dtype),
      .tp = absl::GetFlag(FLAGS_tp),
      .pp = absl::GetFlag(FLAGS_pp),
      .allow_cross_node_tp = absl::GetFlag(FLAGS_allow_cross_node_tp),
      .memory_fraction = absl::GetFlag(FLAGS_memory_fraction),
      .max_model_len = absl::GetFlag(FLAGS_max_model_len),
      .max_num_seqs = absl::GetFlag(FLAGS_max_num_seqs),
      .max_num_batched_tokens = absl::GetFlag(FLAGS_max_num_batched_tokens),
  };
}

absl::StatusOr<int> ReplicasAsGiven() {
  const int replicas = absl::GetFlag(FLAGS_replicas);
  if (replicas >= 1 && replicas <= kMostReplicas) return replicas;
  return absl::InvalidArgumentError(
      absl::StrCat("--replicas is ", replicas, ", but must be 1 to ", kMostReplicas));
}

absl::StatusOr<EngineOptions> EngineOptionsAsGiven() {
  EngineOptions options{.max_queue = absl::GetFlag(FLAGS_max_queue),
                        .enable_prefix_caching = absl::GetFlag(FLAGS_enable_prefix_caching)};
  if (options.max_queue < 1) {
    return absl::InvalidArgumentError(
        absl::StrCat("--max-queue is ", options.max_queue, ", but must be at least 1"));
  }
  const int in_flight = absl::GetFlag(FLAGS_max_batches_in_flight);
  if (in_flight < 0) {
    return absl::InvalidArgumentError(
        absl::StrCat("--max-batches-in-flight is ", in_flight, ", but must not be negative"));
  }
  if (in_flight > 0) options.max_outstanding_batches = in_flight;
  return options;
}

absl::StatusOr<ListenAddress> AllowedAddress(const std::string& value, const std::string& flag) {
  LOCKSTEP_ASSIGN_OR_RETURN(ListenAddress address, ParseListenAddress(value, flag));
  if (!address.is_loopback && !absl::GetFlag(FLAGS_insecure)) {
    return absl::FailedPreconditionError(absl::StrCat(
        flag, "=", address.ToString(),
        " can be reached from other machines, and traffic is neither encrypted nor authenticated; "
        "listen on 127.0.0.1, or say --insecure if the network is trusted"));
  }
  return address;
}

/// A reader of the file sees all of it or none.
absl::Status WritePortFile(const std::string& file, const Server& server) {
  if (file.empty()) return absl::OkStatus();
  const std::string temporary = file + ".new";
  std::ofstream out(temporary);
  out << server.address().port << "\n";
  if (server.http_address()) out << server.http_address()->port << "\n";
  out.close();
  std::error_code error;
  std::filesystem::rename(temporary, file, error);
  if (!error) return absl::OkStatus();
  return absl::InvalidArgumentError(
      absl::StrCat("--port-file ", file, " cannot be written: ", error.message()));
}

absl::Status Run(const std::vector<std::string>& arguments, const sigset_t& stop_signals) {
  if (!arguments.empty()) {
    return absl::InvalidArgumentError(
        absl::StrCat("\"", arguments[0], "\" is no flag; all arguments are flags, see --help"));
  }
  LOCKSTEP_ASSIGN_OR_RETURN(ListenAddress address,
                            AllowedAddress(absl::GetFlag(FLAGS_listen), "--listen"));
  std::optional<ListenAddress> http;
  if (const std::string value = absl::GetFlag(FLAGS_http); !value.empty()) {
    LOCKSTEP_ASSIGN_OR_RETURN(http, AllowedAddress(value, "--http"));
  }
  LOCKSTEP_ASSIGN_OR_RETURN(ModelSetUp model, SetUpModel(ModelFlagsAsGiven()));
  model.seed = absl::GetFlag(FLAGS_seed);
  LOCKSTEP_ASSIGN_OR_RETURN(model.cluster.replicas, ReplicasAsGiven());
  LOCKSTEP_ASSIGN_OR_RETURN(EngineOptions engine, EngineOptionsAsGiven());
  LOCKSTEP_ASSIGN_OR_RETURN(std::unique_ptr<Server> server,
                            StartServer(std::move(model), engine, address, http));
  absl::Status announced = WritePortFile(absl::GetFlag(FLAGS_port_file), *server);
  if (announced.ok()) {
    std::cout << "listening on " << server->address().ToString();
    if (server->http_address()) {
      std::cout << " and http://" << server->http_address()->ToString();
    }
    std::cout << std::endl;
    int signal = 0;
    sigwait(&stop_signals, &signal);
  }
  server->Stop();
  return announced;
}

}  // namespace
}  // namespace lockstep::coordinator

int main(int argc, char** argv) {
  // Blocked before any thread starts, so that only sigwait gets them.
  sigset_t stop_signals;
  sigemptyset(&stop_signals);
  sigaddset(&stop_signals, SIGINT);
  sigaddset(&stop_signals, SIGTERM);
  pthread_sigmask(SIG_BLOCK, &stop_signals, nullptr);
  std::vector<std::string> arguments =
      lockstep::InitMain(argc, argv,
                         "Serves a transformer model that is split over workers.\n"
                         "  coordinatord --model=DIR --tp=2 --pp=2 --listen=127.0.0.1:50051");
  absl::Status status = lockstep::coordinator::Run(arguments, stop_signals);
  if (status.ok()) return 0;
  std::cerr << "coordinatord: " << status.message() << std::endl;
  return 1;
}
