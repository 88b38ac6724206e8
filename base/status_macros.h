// Early returns for absl::Status and absl::StatusOr, so that a fallible sequence reads as a flat
// list of steps.
#ifndef LOCKSTEP_BASE_STATUS_MACROS_H_
#define LOCKSTEP_BASE_STATUS_MACROS_H_

#include <utility>

#include "absl/status/status.h"
#include "absl/status/statusor.h"

/// Returns from the enclosing function with the status of `expression` unless it is OK.
#define LOCKSTEP_RETURN_IF_ERROR(expression)                                  \
  do {                                                                        \
    if (absl::Status lockstep_status = (expression); !lockstep_status.ok()) { \
      return lockstep_status;                                                 \
    }                                                                         \
  } while (false)

/// Evaluates `expression`, an absl::StatusOr<T>; on success assigns or declares `lhs`, otherwise
/// returns its status. An `lhs` with a comma in it needs parentheses around its type.
#define LOCKSTEP_ASSIGN_OR_RETURN(lhs, expression) \
  LOCKSTEP_ASSIGN_OR_RETURN_(LOCKSTEP_CONCAT_(lockstep_or_, __LINE__), lhs, expression)

#define LOCKSTEP_ASSIGN_OR_RETURN_(result, lhs, expression) \
  auto result = (expression);                               \
  if (!result.ok()) return std::move(result).status();      \
  lhs = *std::move(result)

#define LOCKSTEP_CONCAT_(a, b) LOCKSTEP_CONCAT_INNER_(a, b)
#define LOCKSTEP_CONCAT_INNER_(a, b) a##b

#endif  // LOCKSTEP_BASE_STATUS_MACROS_H_
