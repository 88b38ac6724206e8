// config.json to DecoderSpec. Bounds are far above any model that exists and far below what could
// overflow the 64-bit arithmetic on bytes and offsets that follows from them.
#include "model/config.h"

#include <optional>
#include <string>
#include <utility>

#include "absl/status/status.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "base/status_macros.h"
#include "model/architectures.h"
#include "model/json_fields.h"

namespace lockstep::model {
namespace {

constexpr int64_t kMaxHidden = int64_t{1} << 18;
constexpr int64_t kMaxIntermediate = int64_t{1} << 22;
constexpr int64_t kMaxLayers = 4096;
constexpr int64_t kMaxVocabulary = int64_t{1} << 24;
constexpr int64_t kMaxPosition = int64_t{1} << 27;
constexpr int64_t kMaxHeads = 4096;
constexpr int64_t kMaxHeadDim = 4096;
constexpr int64_t kMaxAttentionWidth = int64_t{1} << 20;  // heads * head_dim
constexpr double kMaxRope = 1e12;

absl::Status Unsupported(const JsonFields& fields, std::string_view key, const std::string& found,
                         std::string_view known) {
  return absl::UnimplementedError(absl::StrCat(fields.where(), ": ", std::string(key), ": ",
                                               Printable(found),
                                               " is not supported; known: ", std::string(known)));
}

/// "architectures" (its first entry counts), or "model_type" where a file has only that.
absl::StatusOr<const Architecture*> ReadArchitecture(const JsonFields& fields) {
  std::string known =
      absl::StrJoin(KnownArchitectures(), ", ",
                    [](std::string* out, const Architecture& entry) { out->append(entry.name); });
  if (const nlohmann::json* list = fields.Find("architectures"); list != nullptr) {
    if (!list->is_array() || list->empty() || !list->front().is_string()) {
      return fields.Error("architectures", absl::StrCat("must be a list of names; known: ", known));
    }
    std::string name = list->front().get<std::string>();
    if (const Architecture* found = FindArchitecture(name)) return found;
    return Unsupported(fields, "architectures", name, known);
  }
  LOCKSTEP_ASSIGN_OR_RETURN(std::optional<std::string> type, fields.OptionalString("model_type"));
  if (!type.has_value()) {
    return fields.Error("architectures", absl::StrCat("missing; known: ", known));
  }
  if (const Architecture* found = FindModelType(*type)) return found;
  return Unsupported(fields, "model_type", *type, known);
}

/// A quantized checkpoint is refused by the name of its method.
absl::Status RefuseQuantized(const JsonFields& fields) {
  for (std::string_view key : {"quantization_config", "compression_config"}) {
    if (!fields.Has(key)) continue;
    LOCKSTEP_ASSIGN_OR_RETURN(JsonFields quantization, fields.Object(key));
    LOCKSTEP_ASSIGN_OR_RETURN(std::optional<std::string> method,
                              quantization.OptionalString("quant_method"));
    return Unsupported(fields, key, method.value_or("quantization without a quant_method"),
                       "unquantized weights in bf16, fp16 or fp32");
  }
  return absl::OkStatus();
}

/// Parts of the architecture that the decoder does not compute must be switched off.
absl::Status RefuseUnsupportedParts(const JsonFields& fields) {
  for (std::string_view key : {"attention_bias", "mlp_bias"}) {
    LOCKSTEP_ASSIGN_OR_RETURN(bool present, fields.BoolOr(key, false));
    if (present) return Unsupported(fields, key, "true", "false (no bias)");
  }
  LOCKSTEP_ASSIGN_OR_RETURN(std::optional<std::string> activation,
                            fields.OptionalString("hidden_act"));
  if (activation.value_or("silu") != "silu" && activation.value_or("silu") != "swish") {
    return Unsupported(fields, "hidden_act", *activation, "silu");
  }
  return absl::OkStatus();
}

absl::Status ReadLlama3(const JsonFields& fields, RopeSpec& rope) {
  LOCKSTEP_ASSIGN_OR_RETURN(rope.low_freq_factor, fields.Number("low_freq_factor", 1e-6, kMaxRope));
  LOCKSTEP_ASSIGN_OR_RETURN(rope.high_freq_factor,
                            fields.Number("high_freq_factor", 1e-6, kMaxRope));
  LOCKSTEP_ASSIGN_OR_RETURN(rope.original_max_position,
                            fields.Int("original_max_position_embeddings", 1, kMaxPosition));
  if (rope.low_freq_factor < rope.high_freq_factor) return absl::OkStatus();
  return fields.Error("high_freq_factor",
                      absl::StrCat("is ", rope.high_freq_factor,
                                   ", but must exceed low_freq_factor ", rope.low_freq_factor));
}

/// rope_scaling or rope_parameters; `theta` holds where the object does not name one.
absl::StatusOr<RopeSpec> ReadRopeObject(const JsonFields& fields, double theta) {
  RopeSpec rope;
  LOCKSTEP_ASSIGN_OR_RETURN(std::optional<double> own_theta,
                            fields.OptionalNumber("rope_theta", 1, kMaxRope));
  rope.theta = own_theta.value_or(theta);
  LOCKSTEP_ASSIGN_OR_RETURN(std::optional<double> partial,
                            fields.OptionalNumber("partial_rotary_factor", 0, 1));
  if (partial.value_or(1) != 1) {
    return Unsupported(fields, "partial_rotary_factor", absl::StrCat(*partial), "1");
  }
  LOCKSTEP_ASSIGN_OR_RETURN(std::optional<std::string> type, fields.OptionalString("rope_type"));
  if (!type.has_value()) {
    LOCKSTEP_ASSIGN_OR_RETURN(type, fields.OptionalString("type"));
  }
  std::string kind = type.value_or("default");
  if (kind == "default") return rope;
  if (kind != "linear" && kind != "llama3") {
    return Unsupported(fields, "rope_type", kind, "default, linear, llama3");
  }
  LOCKSTEP_ASSIGN_OR_RETURN(rope.factor, fields.Number("factor", 1, kMaxRope));
  rope.scaling = kind == "linear" ? RopeScaling::kLinear : RopeScaling::kLlama3;
  if (kind == "llama3") LOCKSTEP_RETURN_IF_ERROR(ReadLlama3(fields, rope));
  return rope;
}

/// Older files have rope_theta and rope_scaling, Transformers 5 writes rope_parameters; some have
/// both, and then they must agree.
absl::StatusOr<RopeSpec> ReadRope(const JsonFields& fields) {
  LOCKSTEP_ASSIGN_OR_RETURN(std::optional<double> theta,
                            fields.OptionalNumber("rope_theta", 1, kMaxRope));
  std::optional<RopeSpec> newer, older;
  if (fields.Has("rope_parameters")) {
    LOCKSTEP_ASSIGN_OR_RETURN(JsonFields object, fields.Object("rope_parameters"));
    LOCKSTEP_ASSIGN_OR_RETURN(newer, ReadRopeObject(object, theta.value_or(RopeSpec().theta)));
    if (theta.has_value() && newer->theta != *theta) {
      return fields.Error("rope_theta",
                          absl::StrCat("is ", *theta, ", but rope_parameters says ", newer->theta));
    }
  }
  if (fields.Has("rope_scaling")) {
    double fallback = newer ? newer->theta : theta.value_or(RopeSpec().theta);
    LOCKSTEP_ASSIGN_OR_RETURN(JsonFields object, fields.Object("rope_scaling"));
    LOCKSTEP_ASSIGN_OR_RETURN(older, ReadRopeObject(object, fallback));
  }
  if (newer && older && *newer != *older) {
    return fields.Error("rope_scaling", "contradicts rope_parameters; remove one of them");
  }
  if (newer) return *newer;
  if (older) return *older;
  RopeSpec plain;
  plain.theta = theta.value_or(plain.theta);
  return plain;
}

absl::Status ReadAttention(const JsonFields& fields, DecoderSpec& spec) {
  LOCKSTEP_ASSIGN_OR_RETURN(int64_t heads, fields.Int("num_attention_heads", 1, kMaxHeads));
  LOCKSTEP_ASSIGN_OR_RETURN(std::optional<int64_t> kv_heads,
                            fields.OptionalInt("num_key_value_heads", 1, kMaxHeads));
  LOCKSTEP_ASSIGN_OR_RETURN(std::optional<int64_t> head_dim,
                            fields.OptionalInt("head_dim", 2, kMaxHeadDim));
  if (heads % kv_heads.value_or(heads) != 0) {
    return fields.Error("num_key_value_heads", absl::StrCat("is ", *kv_heads,
                                                            ", which does not "
                                                            "divide num_attention_heads ",
                                                            heads));
  }
  if (!head_dim.has_value() && spec.hidden_size % heads != 0) {
    return fields.Error("head_dim",
                        absl::StrCat("missing, and num_attention_heads ", heads,
                                     " does not divide hidden_size ", spec.hidden_size));
  }
  int64_t dim = head_dim.value_or(spec.hidden_size / heads);
  if (dim < 2 || dim % 2 != 0 || dim > kMaxHeadDim || heads * dim > kMaxAttentionWidth) {
    return fields.Error("head_dim", absl::StrCat("is ", dim,
                                                 " (given, or hidden_size / "
                                                 "num_attention_heads), but must be even, at most ",
                                                 kMaxHeadDim, ", and times the heads at most ",
                                                 kMaxAttentionWidth));
  }
  spec.attention.num_heads = static_cast<int>(heads);
  spec.attention.kv_heads = static_cast<int>(kv_heads.value_or(heads));
  spec.attention.head_dim = static_cast<int>(dim);
  LOCKSTEP_ASSIGN_OR_RETURN(spec.attention.rope, ReadRope(fields));
  return absl::OkStatus();
}

absl::Status ReadSizes(const JsonFields& fields, DecoderSpec& spec) {
  LOCKSTEP_ASSIGN_OR_RETURN(spec.hidden_size, fields.Int("hidden_size", 1, kMaxHidden));
  LOCKSTEP_ASSIGN_OR_RETURN(int64_t layers, fields.Int("num_hidden_layers", 1, kMaxLayers));
  spec.num_layers = static_cast<int>(layers);
  LOCKSTEP_ASSIGN_OR_RETURN(spec.vocab_size, fields.Int("vocab_size", 1, kMaxVocabulary));
  LOCKSTEP_ASSIGN_OR_RETURN(spec.max_position,
                            fields.Int("max_position_embeddings", 1, kMaxPosition));
  LOCKSTEP_ASSIGN_OR_RETURN(spec.mlp.intermediate_size,
                            fields.Int("intermediate_size", 1, kMaxIntermediate));
  LOCKSTEP_ASSIGN_OR_RETURN(std::optional<double> epsilon,
                            fields.OptionalNumber("rms_norm_eps", 1e-30, 1));
  spec.norm_eps = static_cast<float>(epsilon.value_or(1e-6));  // LlamaConfig's default
  LOCKSTEP_ASSIGN_OR_RETURN(spec.tie_embeddings, fields.BoolOr("tie_word_embeddings", false));
  return absl::OkStatus();
}

/// "dtype" (Transformers 5) or "torch_dtype"; bf16 where a file is silent.
absl::StatusOr<DType> ReadFileDType(const JsonFields& fields) {
  for (std::string_view key : {"dtype", "torch_dtype"}) {
    LOCKSTEP_ASSIGN_OR_RETURN(std::optional<std::string> value, fields.OptionalString(key));
    std::string name = value.value_or("auto");
    if (name == "auto") continue;
    std::string_view bare = name;
    if (bare.starts_with("torch.")) bare.remove_prefix(6);
    if (std::optional<DType> dtype = ParseDType(bare)) return *dtype;
    return Unsupported(fields, key, name, "bfloat16, float16, float32");
  }
  return DType::kBF16;
}

}  // namespace

absl::StatusOr<DecoderSpec> ParseDecoderSpec(std::string_view config_json) {
  LOCKSTEP_ASSIGN_OR_RETURN(nlohmann::json json, ParseJsonObject(config_json, "config.json"));
  JsonFields fields(json, "config.json");
  LOCKSTEP_ASSIGN_OR_RETURN(const Architecture* architecture, ReadArchitecture(fields));
  LOCKSTEP_RETURN_IF_ERROR(RefuseQuantized(fields));
  LOCKSTEP_RETURN_IF_ERROR(RefuseUnsupportedParts(fields));
  DecoderSpec spec;
  spec.architecture = architecture->name;
  spec.weight_names = architecture->weight_names;
  LOCKSTEP_RETURN_IF_ERROR(ReadSizes(fields, spec));
  LOCKSTEP_RETURN_IF_ERROR(ReadAttention(fields, spec));
  LOCKSTEP_ASSIGN_OR_RETURN(spec.file_dtype, ReadFileDType(fields));
  return spec;
}

}  // namespace lockstep::model
