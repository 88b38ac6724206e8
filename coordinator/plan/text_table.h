// Columns that line up, for terminals.
#ifndef LOCKSTEP_COORDINATOR_PLAN_TEXT_TABLE_H_
#define LOCKSTEP_COORDINATOR_PLAN_TEXT_TABLE_H_

#include <string>
#include <vector>

namespace lockstep::coordinator {

/// One line per row, cells left-aligned and two spaces apart, no trailing spaces. Rows may differ
/// in length. Widths are counted in bytes.
std::string FormatTextTable(const std::vector<std::vector<std::string>>& rows);

}  // namespace lockstep::coordinator

#endif  // LOCKSTEP_COORDINATOR_PLAN_TEXT_TABLE_H_
