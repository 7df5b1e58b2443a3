#pragma once
#include <string>
#include <vector>

#include "slackline/schedule/schedule.h"

namespace slackline {

// The file that Zeus's pipeline frequency server reads and lowtime, Perseus and Kareus write
// (`freqs_pipeline_00042.py`): one Python list with a list for each pipeline rank, of ('forward', 1410) in
// the order of execution, then comments. It is read as the literal it is; nothing of it is ever run.

/// One instruction of it, and where it is.
struct ZeusEntry {
  std::string name;
  Megahertz clock;
  int line = 0;
};
using ZeusPlan = std::vector<std::vector<ZeusEntry>>;

/// InputError with file, line and reason for what is no such literal.
[[nodiscard]] ZeusPlan parse_zeus_plan(const std::string& file, const std::string& text);

/// Clocks for a workload's DAG, instruction by instruction. InputError, with the line, where the file runs
/// something else, or a clock that was not measured.
[[nodiscard]] Clocks clocks_of(const std::string& file, const ZeusPlan& plan, const Workload& workload);

/// The same file of a plan of ours. Instructions that no clock changes are left out. InputError for a kind
/// that Zeus has no name for.
[[nodiscard]] std::string to_zeus_plan(const Schedule& schedule, const Plan& plan);

}  // namespace slackline
