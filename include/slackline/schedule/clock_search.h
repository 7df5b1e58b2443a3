#pragma once
#include <vector>

#include "slackline/frontier/optimum.h"
#include "slackline/schedule/workload.h"

namespace slackline {

/// Clocks for a relaxed optimum, with a makespan of at most the optimum's time, always: each window takes the
/// slowest option that fits (also one off the hull); neighbouring ranks are then decided together by dynamic
/// programming; the slack that this leaves is given back to whoever saves most with it, and then speed is
/// exchanged: one instruction a step faster where that lets others save more. Deterministic.
[[nodiscard]] Clocks search_clocks(const Workload& workload, const Problem& problem, const Optimum& optimum);

}  // namespace slackline
