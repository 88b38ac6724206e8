// The release that a binary belongs to, for logs and --version, and the wire that it speaks.
#ifndef LOCKSTEP_BASE_VERSION_H_
#define LOCKSTEP_BASE_VERSION_H_

namespace lockstep {

inline constexpr char kVersion[] = "0.1.0";

/// Of cluster.proto; grows with incompatible changes. Coordinator and workers must agree.
inline constexpr unsigned kProtocolVersion = 2;

}  // namespace lockstep

#endif  // LOCKSTEP_BASE_VERSION_H_
