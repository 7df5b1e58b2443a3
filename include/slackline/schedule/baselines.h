#pragma once
#include <vector>

#include "slackline/schedule/workload.h"

namespace slackline {

/// A way to run the iteration, and what it really takes with its clocks.
struct BaselinePoint {
  Clocks clocks;
  Evaluation evaluation;
};

/// Zeus (NSDI 2023) for a pipeline: one clock for every GPU. A point for each clock that all stages have,
/// highest first; kinds that were not measured at it run at their next higher clock.
[[nodiscard]] std::vector<BaselinePoint> zeus_global(const Workload& workload);

/// One clock a stage, so that the forwards of all stages take the same time as nearly as the clocks allow
/// (the balanced baseline of the Perseus paper, section 6.1): for each time that a stage's forward can take,
/// every stage runs at its lowest clock whose forward is not slower. Fastest first.
[[nodiscard]] std::vector<BaselinePoint> zeus_per_stage(const Workload& workload);

/// The point of least energy that is not above `deadline`; nullptr if there is none.
[[nodiscard]] const BaselinePoint* best_within(const std::vector<BaselinePoint>& points, Ticks deadline);

}  // namespace slackline
