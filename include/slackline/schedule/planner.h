#pragma once
#include <optional>

#include "slackline/frontier/frontier.h"
#include "slackline/schedule/schedule.h"
#include "slackline/schedule/workload.h"

namespace slackline {

/// Loss that is allowed between two plans where as many are kept as that takes.
inline constexpr double kAutomaticLoss = 1e-3;

struct PlanOptions {
  /// Plans kept along the frontier, spread so that between two of them the least is lost; the chosen one, T_E
  /// and both ends are among them. Nothing: as many as keep that loss within kAutomaticLoss.
  std::optional<int> plans = 32;

  // Which plan is chosen: by default the one of least energy that is not slower than the all-max iteration.
  // At most one of these.
  /// Least energy among those that are not above this time.
  std::optional<Seconds> deadline;
  /// The fastest whose average power (of the pipeline, all its GPUs) is not above this.
  std::optional<Watts> power_cap;
  /// Least energy, however slow.
  bool least_energy = false;
};

struct Planning {
  Schedule schedule;
  Frontier frontier;
  SolverStats stats;
};

/// A schedule of one plan that somebody else has made, with its time, energy and bound. InputError as
/// Workload::evaluate.
[[nodiscard]] Schedule schedule_of(const Workload& workload, const Clocks& clocks);

/// Solves the frontier, finds clocks for the kept plans, and proves the bound of every plan at its own time
/// by a certificate. NoAnswer, with the nearest value that can be met, when the deadline or the power cap
/// cannot.
[[nodiscard]] Planning make_plans(const Workload& workload, const PlanOptions& options,
                                  const ProgressObserver& observer = {});

}  // namespace slackline
