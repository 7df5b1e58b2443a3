#pragma once
#include <vector>

#include "slackline/base/ticks.h"
#include "slackline/pipeline/dag.h"

namespace slackline {

/// When each instruction starts if all start as early as they can, and must end so that none delays the
/// iteration.
struct EventTimes {
  std::vector<Ticks> earliest_start;
  std::vector<Ticks> latest_end;
  Ticks makespan = 0;

  /// How much longer instruction `i` could take, alone, without the iteration ending after the limit.
  [[nodiscard]] Ticks slack(InstructionIndex i, Ticks duration) const {
    return latest_end[i] - earliest_start[i] - duration;
  }
};

/// Earliest times by longest paths forward, latest ones backward from `limit`. O(instructions + edges).
[[nodiscard]] EventTimes event_times(const Dag& dag, const std::vector<Ticks>& durations, Ticks limit);
/// The same, backward from the makespan itself.
[[nodiscard]] EventTimes event_times(const Dag& dag, const std::vector<Ticks>& durations);

/// The instructions of one longest path, in the order of execution.
[[nodiscard]] std::vector<InstructionIndex> critical_path(const Dag& dag,
                                                          const std::vector<Ticks>& durations);

}  // namespace slackline
