#pragma once
#include <optional>

#include "slackline/frontier/frontier.h"
#include "slackline/schedule/schedule.h"
#include "slackline/schedule/workload.h"

namespace slackline {

struct PlanOptions {
  /// Plans kept, spread evenly from the fastest time to T_max; the chosen one, T_E and both ends are among
  /// them.
  int plans = 32;
  /// The chosen plan is the one of least energy that is not above this time; by default the all-max
  /// iteration's.
  std::optional<Seconds> deadline;
};

struct Planning {
  Schedule schedule;
  Frontier frontier;
  SolverStats stats;
};

/// Solves the frontier, finds clocks for the kept plans, and proves the bound of every plan at its own time
/// by a certificate. NoAnswer, with the fastest possible time, when the deadline cannot be met.
[[nodiscard]] Planning make_plans(const Workload& workload, const PlanOptions& options,
                                  const ProgressObserver& observer = {});

}  // namespace slackline
