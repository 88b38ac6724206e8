// See random_nonce.h.
#include "worker/collective/random_nonce.h"

#include <glog/logging.h>
#include <sys/random.h>

#include "absl/strings/escaping.h"

namespace lockstep::worker {

std::string RandomNonce() {
  char bytes[16];
  // Up to 256 bytes come whole and uninterrupted (getrandom(2)).
  PCHECK(getrandom(bytes, sizeof(bytes), 0) == sizeof(bytes)) << "getrandom";
  return absl::BytesToHexString({bytes, sizeof(bytes)});
}

}  // namespace lockstep::worker
