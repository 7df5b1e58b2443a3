#pragma once
#include <string>

#include "slackline/profile/profile.h"

namespace slackline {

/// Limits that keep a hostile file from exhausting memory; far above any real job.
inline constexpr int kMaxStages = 4096;
inline constexpr int kMaxTensorParallel = 1024;
inline constexpr int kMaxClock = 100'000;  // MHz

/// Reads `slackline: profile/1` (YAML), or, for a name that ends in .csv, the public form
/// `stage,instruction,frequency,time,energy` (MHz, s, J). Rows of several ranks of a stage become one
/// measurement: the slowest time and the mean energy; tp_rank also tells how many GPUs a stage has.
/// InputError with file, line, key and reason.
[[nodiscard]] Profile read_profile(const std::string& path);

/// The same, from text that `file` only names in messages.
[[nodiscard]] Profile parse_profile_yaml(const std::string& file, const std::string& text);
[[nodiscard]] Profile parse_profile_csv(const std::string& file, const std::string& text);

/// Writes `times` into the YAML profile at `path`, in one step; all else stays, but for comments. InputError
/// for what is no such profile.
void write_switch_times(const std::string& path, const SwitchTimes& times);

/// Every number reads back exactly; the same profile gives the same bytes.
[[nodiscard]] std::string to_yaml(const Profile& profile);

}  // namespace slackline
