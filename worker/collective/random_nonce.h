// Names and secrets that nobody can guess.
#ifndef LOCKSTEP_WORKER_COLLECTIVE_RANDOM_NONCE_H_
#define LOCKSTEP_WORKER_COLLECTIVE_RANDOM_NONCE_H_

#include <string>

namespace lockstep::worker {

/// 128 bits from the kernel's generator as 32 lower-case hexadecimal digits.
std::string RandomNonce();

}  // namespace lockstep::worker

#endif  // LOCKSTEP_WORKER_COLLECTIVE_RANDOM_NONCE_H_
