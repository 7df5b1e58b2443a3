#pragma once
#include <optional>
#include <string>

#include "slackline/schedule/planner.h"
#include "slackline/schedule/schedule.h"
#include "slackline/schedule/straggler.h"

namespace slackline {

/// All-max against the chosen plan: time, energy, saving, gap, and where the frontier ends.
[[nodiscard]] std::string summary_text(const Schedule& schedule);
/// A line a plan.
[[nodiscard]] std::string plans_text(const Schedule& schedule);
/// What a pipeline should run while another one keeps it waiting, against its chosen plan and all-max.
[[nodiscard]] std::string straggler_text(const Schedule& schedule, const StragglerAnswer& answer);
/// The same figures for a script.
[[nodiscard]] std::string schedule_json(const Schedule& schedule,
                                        const std::optional<StragglerAnswer>& straggler = {});

}  // namespace slackline
