// The smallest tokenizer that is a real one: a token per byte, and a begin and an end token.
#ifndef LOCKSTEP_COORDINATOR_SERVE_TESTING_BYTE_TOKENIZER_H_
#define LOCKSTEP_COORDINATOR_SERVE_TESTING_BYTE_TOKENIZER_H_

#include <cstdint>
#include <memory>

#include "text/tokenizer.h"

namespace lockstep::coordinator {

/// Ids 0 .. 255 are bytes; texts are encoded with kByteBegin in front.
inline constexpr int32_t kByteBegin = 256;
inline constexpr int32_t kByteEnd = 257;
inline constexpr int32_t kByteVocabulary = 258;

/// Byte-level BPE without merges, written to a temporary directory and read back by text/. Ends the
/// test program if that fails.
std::unique_ptr<text::Tokenizer> MakeByteTokenizer();

}  // namespace lockstep::coordinator

#endif  // LOCKSTEP_COORDINATOR_SERVE_TESTING_BYTE_TOKENIZER_H_
