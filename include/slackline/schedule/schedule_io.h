#pragma once
#include <string>

#include "slackline/frontier/frontier.h"
#include "slackline/schedule/schedule.h"

namespace slackline {

/// Most pipelines that train in parallel; far above any real job.
inline constexpr int kMaxDataParallel = 1'000'000;

/// Reads `slackline: schedule/1`. InputError with file, line, key and reason.
[[nodiscard]] Schedule read_schedule(const std::string& path);
[[nodiscard]] Schedule parse_schedule_yaml(const std::string& file, const std::string& text);
/// Runs of equal clocks, per stage and kind, are one entry ("1410x3"). The same schedule gives the same
/// bytes.
[[nodiscard]] std::string to_yaml(const Schedule& schedule);

/// `time_s,energy_j`, every breakpoint, rising time.
[[nodiscard]] std::string frontier_csv(const Frontier& frontier);
/// `time_s,energy_j,bound_j,gap_percent`, every plan, rising time.
[[nodiscard]] std::string plans_csv(const Schedule& schedule);
/// `stage,seq,instruction,microbatch,clock_mhz`; seq is the position in the stage's order, from 0.
[[nodiscard]] std::string clocks_csv(const Schedule& schedule, const Plan& plan);

}  // namespace slackline
