#pragma once
#include <optional>
#include <string>
#include <vector>

#include "slackline/profile/profile.h"

namespace slackline {

/// A figure that options have, over those that state it.
struct Spread {
  std::vector<double> values;

  [[nodiscard]] bool empty() const { return values.empty(); }
  /// These need a value.
  [[nodiscard]] double median() const;
  [[nodiscard]] double smallest() const;
  [[nodiscard]] double largest() const;
  [[nodiscard]] std::size_t count_above(double limit) const;
};

/// A measurement that lies where its neighbours do not expect it.
struct Outlier {
  ClockSetting option;
  bool is_time = false;  // else its energy
  /// From the fit, relative to it; and in standard errors or, where they are not known, in robust sigmas.
  double deviation = 0;
  double sigmas = 0;
};

/// Measured options against the convex curves nearest to them: time over clock, and energy over that time.
struct ConvexCheck {
  /// Root mean square of the relative deviations, outliers aside.
  double time_residual = 0;
  double energy_residual = 0;
  std::vector<Outlier> outliers;
};

/// What a stage's profile holds of one kind. Of several options at one clock, `highest` and `lowest` are the
/// fastest.
struct KindSummary {
  InstructionKind kind{};
  std::size_t options = 0;
  std::size_t modelled = 0;
  /// Each once, highest first; empty where the time is fixed.
  std::vector<Megahertz> clocks;
  Measurement highest;
  Measurement lowest;
  /// Of all options; other than `highest` only if it is faster by more than two joint standard errors.
  Measurement fastest;
  /// Standard errors, relative.
  Spread time_errors;
  Spread energy_errors;
  /// By how many joint standard errors energy and second energy are apart.
  Spread disagreements;
  Spread runs;
  /// Of the effective cost; without a blocking power, of the energy.
  std::size_t hull_vertices = 0;
  /// Empty below five measured clocks, and where others are modelled.
  std::optional<ConvexCheck> check;
};

struct StageSummary {
  std::string gpu;
  int tensor_parallel = 1;
  Seconds transfer;
  std::optional<Watts> blocking_power;
  std::optional<MeasuringNotes> notes;
  std::vector<KindSummary> kinds;
  /// A forward and a backward, in whatever form, at the highest clock.
  Seconds pass;
};

struct ProfileSummary {
  std::string model;
  std::string gpu;
  std::optional<SwitchTimes> switch_times;
  std::vector<std::string> configs;
  std::vector<StageSummary> stages;
  std::size_t slowest_stage = 0;
  std::size_t fastest_stage = 0;
  /// Of the passes.
  double slowest_over_mean = 1;
  double slowest_over_fastest = 1;
};

/// InputError for figures beyond what can be planned.
[[nodiscard]] ProfileSummary summarise(const Profile& profile);

/// What a plan should not be built on, a line each.
[[nodiscard]] std::vector<std::string> profile_warnings(const ProfileSummary& summary);

/// In short, a line a stage: times and energies at the highest clock, with their errors.
[[nodiscard]] std::string highest_clocks_text(const ProfileSummary& summary);

/// Tables of at most 100 columns; only of what the profile states.
[[nodiscard]] std::string profile_text(const ProfileSummary& summary);
[[nodiscard]] std::string profile_json(const ProfileSummary& summary);

}  // namespace slackline
