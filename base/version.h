// The release that a binary belongs to, for logs and --version.
#ifndef LOCKSTEP_BASE_VERSION_H_
#define LOCKSTEP_BASE_VERSION_H_

namespace lockstep {

inline constexpr char kVersion[] = "0.1.0";

}  // namespace lockstep

#endif  // LOCKSTEP_BASE_VERSION_H_
