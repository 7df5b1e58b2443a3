#pragma once
#include <vector>

#include "slackline/frontier/parametric_solver.h"
#include "slackline/schedule/workload.h"

namespace slackline {

struct PerseusOptions {
  /// Time moves in steps of this. The published one, for profiles shrunk to a tenth of their time; 10 ms is
  /// the same at full size.
  Seconds unit_time{1e-3};
};

/// A point of Perseus's frontier. Time and energy (one pipeline, all its GPUs) are those of the fitted curves
/// and rounded steps, as published; what the clocks really give is for Workload::evaluate to say.
struct PerseusPoint {
  Seconds time;
  Joules energy;
  Clocks clocks;
};

/// The frontier as Perseus plans it (SOSP 2024, and its library lowtime), rising time, one point a step:
///   - times are rounded down to whole steps, which makes the iteration look up to a step an instruction
///     shorter than it can be;
///   - an exponential is fitted to the effective energy of the options that no other beats in both time and
///     energy;
///   - phillips_dessouky on the fitted curves;
///   - each instruction gets the slowest clock whose rounded time is not above its planned one: its real time
///     may be, by less than a step.
/// A second for 1,536 instructions and 3,500 steps. InputError for a unit time that is not positive, or so
/// small that an instruction has more than a million steps or the points more than 200 million clocks.
[[nodiscard]] std::vector<PerseusPoint> perseus_frontier(const Workload& workload,
                                                         const PerseusOptions& options = {},
                                                         const ProgressObserver& observer = {});

}  // namespace slackline
