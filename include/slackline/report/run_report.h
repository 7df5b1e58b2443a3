#pragma once
#include <optional>
#include <string>
#include <vector>

#include "slackline/base/quantity.h"

namespace slackline {

/// The name of the phase that savings are measured against.
inline constexpr const char* kAllMaxPhase = "all-max";

/// Steps of a run under one regime, each on average, and what was promised for them.
struct RunPhase {
  std::string name;
  /// Of a job that has several.
  std::optional<int> pipeline;
  std::size_t steps = 0;
  Seconds time;
  std::optional<Joules> energy;
  Seconds predicted_time;
  /// Nothing for a pipeline that was seen in part.
  std::optional<Joules> predicted_energy;
  /// Of the promise, over the bound; only where a plan ruled.
  std::optional<double> gap_percent;
};

/// Measured against predicted, a line a phase. Savings are against the all-max phase of the same pipeline;
/// where that was not run, only its prediction is known (`all_max_energy`), and a measured saving is not
/// shown.
[[nodiscard]] std::string run_text(const std::vector<RunPhase>& phases, Joules all_max_energy);
/// The same for a script.
[[nodiscard]] std::string run_json(const std::vector<RunPhase>& phases, Joules all_max_energy);

}  // namespace slackline
