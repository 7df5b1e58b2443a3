#pragma once
#include <optional>
#include <string>
#include <vector>

#include "slackline/base/quantity.h"

namespace slackline {

/// Steps of a run under one regime, each on average, and what was promised for them.
struct RunPhase {
  std::string name;
  std::size_t steps = 0;
  Seconds time;
  std::optional<Joules> energy;
  Seconds predicted_time;
  Joules predicted_energy;
  /// Of the promise, over the bound; only where a plan ruled.
  std::optional<double> gap_percent;
};

/// Measured against predicted, a line a phase. Savings are against `all_max`; where that was not run (no
/// steps), only its prediction is known and a measured saving is not shown.
[[nodiscard]] std::string run_text(const std::vector<RunPhase>& phases, const RunPhase& all_max);
/// The same for a script.
[[nodiscard]] std::string run_json(const std::vector<RunPhase>& phases, const RunPhase& all_max);

}  // namespace slackline
