// Reads config.json, generation_config.json and tokenizer.json, and asks for a legal plan.
#include "coordinator/model_set_up.h"

#include <filesystem>
#include <optional>
#include <utility>

#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "base/dtype.h"
#include "base/status_macros.h"
#include "model/config.h"
#include "model/parallel_plan.h"

namespace lockstep::coordinator {
namespace {

absl::Status InFile(const absl::Status& status, const std::filesystem::path& file) {
  if (status.ok() || absl::StrContains(status.message(), file.string())) return status;
  return absl::Status(status.code(), absl::StrCat(file.string(), ": ", status.message()));
}

/// The file's text, or an empty one if it does not exist.
absl::StatusOr<std::string> ReadOptional(const std::filesystem::path& file) {
  absl::StatusOr<std::string> text = model::ReadTextFile(file);
  if (absl::IsNotFound(text.status())) return std::string();
  return text;
}

absl::StatusOr<DType> ComputeType(const std::string& name) {
  std::optional<DType> dtype = ParseDType(name);
  if (!dtype || *dtype == DType::kF16) {
    return absl::InvalidArgumentError(
        absl::StrCat("--dtype is \"", name, "\", but must be bf16 or fp32"));
  }
  return *dtype;
}

absl::StatusOr<v1::LoadFormat> LoadFormatOf(const std::string& name) {
  if (name == "safetensors") return v1::LOAD_FORMAT_SAFETENSORS;
  if (name == "dummy") return v1::LOAD_FORMAT_DUMMY;
  return absl::InvalidArgumentError(
      absl::StrCat("--load-format is \"", name, "\", but must be safetensors or dummy"));
}

absl::StatusOr<model::ParallelPlan> MakePlan(const model::DecoderSpec& spec,
                                             const ModelFlags& flags, DType dtype) {
  if (flags.max_num_seqs < 1) {
    return absl::InvalidArgumentError(
        absl::StrCat("--max-num-seqs is ", flags.max_num_seqs, ", but must be at least 1"));
  }
  return model::MakeParallelPlan(spec, {.tp_size = flags.tp,
                                        .pp_size = flags.pp,
                                        .allow_cross_node_tp = flags.allow_cross_node_tp,
                                        .memory_fraction = flags.memory_fraction,
                                        .context_tokens = flags.max_model_len,
                                        .batch_tokens = flags.max_num_batched_tokens,
                                        .dtype = dtype});
}

absl::StatusOr<std::unique_ptr<text::Tokenizer>> LoadTokenizer(
    const std::filesystem::path& directory, const ModelFlags& flags) {
  if (flags.skip_tokenizer_init) return text::Tokenizer::Empty();
  absl::StatusOr<std::unique_ptr<text::Tokenizer>> tokenizer = text::Tokenizer::Load(directory);
  if (!absl::IsNotFound(tokenizer.status())) return tokenizer;
  if (flags.load_format == "dummy") return text::Tokenizer::Empty();
  return absl::NotFoundError(
      absl::StrCat(tokenizer.status().message(), "; --skip-tokenizer-init serves token ids alone"));
}

/// Null when the model has no template, or no tokenizer that knows its tokens.
absl::StatusOr<std::unique_ptr<text::ChatTemplate>> LoadChatTemplate(
    const std::filesystem::path& directory, const ModelFlags& flags) {
  if (flags.skip_tokenizer_init) return nullptr;
  absl::StatusOr<std::unique_ptr<text::ChatTemplate>> loaded = text::ChatTemplate::Load(directory);
  if (absl::IsNotFound(loaded.status())) return nullptr;
  return loaded;
}

/// "demo" for models/demo, org/name as it was typed.
std::string ModelName(const std::string& typed, const std::filesystem::path& directory) {
  std::error_code error;
  if (!std::filesystem::is_directory(typed, error)) return typed;
  std::filesystem::path path = std::filesystem::canonical(directory, error);
  return path.filename().string();
}

}  // namespace

absl::StatusOr<ModelSetUp> SetUpModel(const ModelFlags& flags) {
  if (flags.model.empty()) {
    return absl::InvalidArgumentError(
        "--model is missing: a directory of a Hugging Face model, or org/name in the local cache");
  }
  LOCKSTEP_ASSIGN_OR_RETURN(DType dtype, ComputeType(flags.dtype));
  LOCKSTEP_ASSIGN_OR_RETURN(v1::LoadFormat format, LoadFormatOf(flags.load_format));
  LOCKSTEP_ASSIGN_OR_RETURN(std::filesystem::path directory,
                            model::ResolveModelDirectory(flags.model));
  const std::filesystem::path config_file = directory / "config.json";
  LOCKSTEP_ASSIGN_OR_RETURN(std::string config, model::ReadTextFile(config_file));
  absl::StatusOr<model::DecoderSpec> spec = model::ParseDecoderSpec(config);
  LOCKSTEP_RETURN_IF_ERROR(InFile(spec.status(), config_file));
  LOCKSTEP_ASSIGN_OR_RETURN(model::ParallelPlan plan, MakePlan(*spec, flags, dtype));

  const std::filesystem::path generation_file = directory / "generation_config.json";
  LOCKSTEP_ASSIGN_OR_RETURN(std::string generation, ReadOptional(generation_file));
  absl::StatusOr<model::GenerationDefaults> defaults =
      model::ParseGenerationDefaults(generation, config);
  LOCKSTEP_RETURN_IF_ERROR(InFile(defaults.status(), generation_file));
  LOCKSTEP_ASSIGN_OR_RETURN(std::unique_ptr<text::Tokenizer> tokenizer,
                            LoadTokenizer(directory, flags));

  ModelSetUp set_up;
  set_up.tokenizer = std::move(tokenizer);
  LOCKSTEP_ASSIGN_OR_RETURN(set_up.chat_template, LoadChatTemplate(directory, flags));
  std::vector<std::string> names = flags.served_model_names;
  if (names.empty()) names.push_back(ModelName(flags.model, directory));
  set_up.served = {.name = names.front(),
                   .aliases = {names.begin() + 1, names.end()},
                   .architecture = spec->architecture,
                   .context_tokens = plan.context_tokens,
                   .vocab_size = spec->vocab_size,
                   .defaults = *std::move(defaults)};
  v1::ModelAssignment& assignment = set_up.cluster.model;
  assignment.set_directory(flags.workers_model_dir.empty()
                               ? std::filesystem::absolute(directory).string()
                               : flags.workers_model_dir);
  assignment.set_config_json(std::move(config));
  assignment.set_load_format(format);
  assignment.set_dummy_seed(flags.dummy_seed);
  assignment.set_dtype(std::string(Name(dtype)));
  set_up.cluster.plan = std::move(plan);
  set_up.cluster.model_name = set_up.served.name;
  set_up.cluster.architecture = set_up.served.architecture;
  set_up.cluster.max_sequences = flags.max_num_seqs;
  return set_up;
}

}  // namespace lockstep::coordinator
