// Descriptions of known models, as config.json texts and as DecoderSpecs, for tests.
#ifndef LOCKSTEP_MODEL_MODEL_EXAMPLES_H_
#define LOCKSTEP_MODEL_MODEL_EXAMPLES_H_

#include <string>

#include "model/decoder_spec.h"

namespace lockstep::model {

/// Llama 3.1 70B as Meta published it, with the older keys: 80 layers, 64 heads, 8 KV heads.
std::string Llama70bConfig();

/// Llama 3.2 1B as Transformers 5 writes it: 16 layers, 32 heads, 8 KV heads, tied embeddings.
std::string Llama1bConfig();

/// 4 layers, 8 heads, 4 KV heads, hidden 256, FFN 512, vocabulary 1024: legal at TP and PP 1, 2, 4.
std::string SmallLlamaConfig();

/// The text's description; the text must be right.
DecoderSpec SpecOf(const std::string& config_json);

}  // namespace lockstep::model

#endif  // LOCKSTEP_MODEL_MODEL_EXAMPLES_H_
