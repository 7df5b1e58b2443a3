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
};

/// Measured against predicted, phase by phase, and the saving of `planned` over `baseline` both ways.
[[nodiscard]] std::string run_text(const std::vector<RunPhase>& phases, const RunPhase* baseline,
                                   const RunPhase* planned);
[[nodiscard]] std::string run_json(const std::vector<RunPhase>& phases);

}  // namespace slackline
