#pragma once
#include <string>

#include "slackline/schedule/planner.h"
#include "slackline/schedule/schedule.h"

namespace slackline {

/// All-max against the chosen plan: time, energy, saving, gap, and where the frontier ends.
[[nodiscard]] std::string summary_text(const Schedule& schedule);
/// A line a plan.
[[nodiscard]] std::string plans_text(const Schedule& schedule);
/// The same figures for a script.
[[nodiscard]] std::string schedule_json(const Schedule& schedule);

}  // namespace slackline
