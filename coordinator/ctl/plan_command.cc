// See plan_command.h.
#include "coordinator/ctl/plan_command.h"

#include <filesystem>
#include <optional>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/strings/str_cat.h"
#include "base/dtype.h"
#include "base/status_macros.h"
#include "base/units.h"
#include "coordinator/plan/plan_format.h"
#include "model/config.h"
#include "model/parallel_plan.h"

namespace lockstep::coordinator {
namespace {

absl::StatusOr<model::DecoderSpec> ReadSpec(const std::string& model) {
  LOCKSTEP_ASSIGN_OR_RETURN(std::filesystem::path directory, model::ResolveModelDirectory(model));
  LOCKSTEP_ASSIGN_OR_RETURN(std::string config, model::ReadTextFile(directory / "config.json"));
  absl::StatusOr<model::DecoderSpec> spec = model::ParseDecoderSpec(config);
  if (spec.ok()) return spec;
  return absl::Status(spec.status().code(),
                      absl::StrCat(directory.string(), ": ", spec.status().message()));
}

absl::StatusOr<model::PlanRequest> MakeRequest(const PlanOptions& options) {
  model::PlanRequest request;
  request.tp_size = options.tp;
  request.pp_size = options.pp;
  request.devices_per_node = options.devices_per_node;
  request.allow_cross_node_tp = options.allow_cross_node_tp;
  request.memory_fraction = options.memory_fraction;
  request.context_tokens = options.context;
  request.concurrency = options.concurrency;
  request.batch_tokens = options.max_num_batched_tokens;
  if (!options.device_memory.empty()) {
    absl::StatusOr<int64_t> bytes = ParseBytes(options.device_memory);
    if (!bytes.ok()) {
      return absl::InvalidArgumentError(
          absl::StrCat("--device-memory: ", bytes.status().message()));
    }
    request.device_memory_bytes = *bytes;
  }
  std::optional<DType> dtype = ParseDType(options.dtype);
  if (!dtype.has_value()) {
    return absl::InvalidArgumentError(
        absl::StrCat("--dtype is \"", options.dtype, "\", but must be bf16 or fp32"));
  }
  request.dtype = *dtype;
  return request;
}

int Refuse(const absl::Status& status, std::ostream& err) {
  err << "coordinatorctl: " << status.message() << std::endl;
  return 1;
}

}  // namespace

int RunPlan(const PlanOptions& options, std::ostream& out, std::ostream& err) {
  absl::StatusOr<model::PlanRequest> request = MakeRequest(options);
  if (!request.ok()) return Refuse(request.status(), err);
  absl::StatusOr<model::DecoderSpec> spec = ReadSpec(options.model);
  if (!spec.ok()) return Refuse(spec.status(), err);
  absl::StatusOr<model::ParallelPlan> plan = model::MakeParallelPlan(*spec, *request);
  if (!plan.ok()) {
    if (options.json) out << FormatRefusalJson(*spec, *request, plan.status()) << std::flush;
    return Refuse(plan.status(), err);
  }
  out << (options.json ? FormatPlanJson(*spec, *plan) : FormatPlan(*spec, *plan)) << std::flush;
  return 0;
}

}  // namespace lockstep::coordinator
