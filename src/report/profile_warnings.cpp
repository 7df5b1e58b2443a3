#include <algorithm>
#include <cmath>
#include <map>
#include <utility>

#include "number_ranges.h"
#include "slackline/base/number_text.h"
#include "slackline/report/profile_report.h"

namespace slackline {
namespace {

constexpr std::size_t kFewestClocks = 2;
constexpr double kLargestEnergyError = 0.02;
constexpr double kLargestTimeError = 0.01;
/// Of two independent estimates, in joint standard errors.
constexpr double kFarthestApart = 3;
/// Share of the options that may be beyond these limits: with many options, some are by chance.
constexpr double kToleratedShare = 0.05;
constexpr double kLargestThrottledShare = 0.10;
constexpr double kLargestForeignShare = 0.01;
constexpr double kLargestDrift = 0.05;
constexpr double kLargestModelledShare = 0.85;
constexpr double kFewestRuns = 5;
/// A line names this many places.
constexpr std::size_t kNamed = 3;

std::string percent(double share) {
  const double number = 100 * share;
  return fixed_text(number, std::abs(number) < 10 ? 1 : 0) + " %";
}

/// A limit, in its words.
std::string whole(double number) {
  return fixed_text(number, 0);
}
std::string whole_percent(double share) {
  return whole(100 * share) + " %";
}

std::string mhz(const std::vector<Megahertz>& clocks) {
  std::string text = std::to_string(clocks.front().value()) + " MHz";
  if (clocks.size() > 1) {
    text =
        std::to_string(clocks.size()) + " clocks, " + std::to_string(clocks.back().value()) + " to " + text;
  }
  return text;
}

std::string of_options(std::size_t count, std::size_t all) {
  return std::to_string(count) + " of " + std::to_string(all) + " options";
}

std::string stages_text(const std::vector<int>& stages) {
  return (stages.size() == 1 ? "stage " : "stages ") + ranges_text(stages);
}

/// A stage, or a kind of it.
struct Place {
  int stage = 0;
  std::string kind{};
};

/// Where one condition holds, and how. Its line names the worst, and stages with the same figures at once.
class Findings {
 public:
  explicit Findings(std::string what) : what_(std::move(what)) {}
  void add(double severity, const Place& place, const std::string& detail) {
    const auto same = std::ranges::find_if(
        cases_, [&](const Case& c) { return c.kind == place.kind && c.detail == detail; });
    if (same == cases_.end()) {
      cases_.push_back({severity, {place.stage}, place.kind, detail});
    } else {
      same->stages.push_back(place.stage);
    }
  }
  void tell(std::vector<std::string>& lines) {
    if (cases_.empty()) return;
    std::ranges::stable_sort(cases_, std::ranges::greater{}, &Case::severity);
    std::string line = what_;
    for (std::size_t i = 0; i < std::min(kNamed, cases_.size()); ++i) {
      const Case& one = cases_[i];
      line += (i == 0 ? ": " : "; ") + stages_text(one.stages) + (one.kind.empty() ? "" : " " + one.kind) +
              (one.detail.empty() ? "" : " (" + one.detail + ")");
    }
    if (cases_.size() > kNamed) line += "; and " + std::to_string(cases_.size() - kNamed) + " more";
    lines.push_back(line);
  }

 private:
  struct Case {
    double severity = 0;
    std::vector<int> stages;
    std::string kind;
    std::string detail;
  };
  std::string what_;
  std::vector<Case> cases_;
};

struct Warnings {
  Findings few_clocks{"nothing to choose, fewer than " + std::to_string(kFewestClocks) + " clocks"};
  Findings energy_errors{"energies are not known to " + whole_percent(kLargestEnergyError)};
  Findings time_errors{"times are not known to " + whole_percent(kLargestTimeError)};
  Findings disagreements{"two estimates of the energy disagree beyond " + whole(kFarthestApart) +
                         " joint standard errors"};
  Findings throttled{"throttled over " + whole_percent(kLargestThrottledShare) + " of the time"};
  Findings foreign{"another process was on the GPU over " + whole_percent(kLargestForeignShare) +
                   " of the time"};
  Findings drift{"energies drifted by over " + whole_percent(kLargestDrift)};
  Findings throttled_clocks{"throttled at most visits of a clock"};
  Findings missed_clocks{"clocks that never came"};
  Findings few_runs{"fewer than " + whole(kFewestRuns) + " runs an option"};
  Findings other_clocks{"kinds of a stage are measured at different clocks"};
  Findings outliers{"outliers, off the convex fit"};
  Findings slow_highest{"the fastest option is not at the highest clock"};
  std::vector<int> without_blocking_power;
  std::size_t modelled = 0;
  std::size_t options = 0;

  void look_at(const KindSummary& kind, const Place& where, const std::vector<std::string>& configs);
  void look_at(const MeasuringNotes& notes, const Place& where);
  void look_at(const StageSummary& stage, int number, const std::vector<std::string>& configs);
};

std::string outlier_text(const Outlier& outlier, const std::vector<std::string>& configs) {
  const std::string& label = label_of(configs, outlier.option.config);
  return std::to_string(outlier.option.mhz.value()) + " MHz" + (label.empty() ? "" : " " + label) + ": " +
         (outlier.is_time ? "time " : "energy ") + (outlier.deviation > 0 ? "+" : "-") +
         percent(std::abs(outlier.deviation)) + ", " + fixed_text(std::abs(outlier.sigmas), 1) + " sigmas";
}

void Warnings::look_at(const KindSummary& kind, const Place& where, const std::vector<std::string>& configs) {
  const auto look_at_errors = [&](const Spread& errors, double limit, Findings& findings) {
    const std::size_t above = errors.count_above(limit);
    if (static_cast<double>(above) <= kToleratedShare * static_cast<double>(errors.values.size())) return;
    findings.add(errors.largest(), where,
                 of_options(above, kind.options) + ", up to " + percent(errors.largest()));
  };
  look_at_errors(kind.energy_errors, kLargestEnergyError, energy_errors);
  look_at_errors(kind.time_errors, kLargestTimeError, time_errors);
  if (is_fixed_time(kind.kind)) return;
  options += kind.options;
  modelled += kind.modelled;
  if (kind.clocks.size() < kFewestClocks) few_clocks.add(0, where, "");
  if (!kind.runs.empty() && kind.runs.smallest() < kFewestRuns) {
    const auto few = std::ranges::count_if(kind.runs.values, [](double runs) { return runs < kFewestRuns; });
    few_runs.add(-kind.runs.smallest(), where,
                 of_options(static_cast<std::size_t>(few), kind.options) + ", down to " +
                     fixed_text(kind.runs.smallest(), 0));
  }
  if (kind.check && !kind.check->outliers.empty()) {
    const auto& found = kind.check->outliers;
    const Outlier& worst =
        *std::ranges::max_element(found, {}, [](const Outlier& o) { return std::abs(o.sigmas); });
    outliers.add(std::abs(worst.sigmas), where,
                 (found.size() == 1 ? "" : "worst of " + std::to_string(found.size()) + ": ") +
                     outlier_text(worst, configs));
  }
  if (kind.fastest.clock != kind.highest.clock) {
    const double gain = 1 - kind.fastest.time / kind.highest.time;
    slow_highest.add(gain, where,
                     std::to_string(kind.fastest.clock.value()) + " MHz is " + percent(gain) +
                         " faster than " + std::to_string(kind.highest.clock.value()) + " MHz");
  }
}

void Warnings::look_at(const MeasuringNotes& notes, const Place& where) {
  if (notes.throttled_share > kLargestThrottledShare) {
    throttled.add(notes.throttled_share, where, percent(notes.throttled_share));
  }
  if (notes.foreign_share > kLargestForeignShare) {
    foreign.add(notes.foreign_share, where, percent(notes.foreign_share));
  }
  if (std::abs(notes.drift) > kLargestDrift) {
    drift.add(std::abs(notes.drift), where,
              (notes.drift > 0 ? "+" : "-") + percent(std::abs(notes.drift)) +
                  (notes.drift_error > 0 ? " +- " + percent(notes.drift_error) : ""));
  }
  const auto look_at_clocks = [&](const std::vector<Megahertz>& clocks, Findings& findings) {
    if (!clocks.empty()) findings.add(static_cast<double>(clocks.size()), where, mhz(clocks));
  };
  look_at_clocks(notes.throttled_clocks, throttled_clocks);
  look_at_clocks(notes.missed_clocks, missed_clocks);
}

/// Clocks that some of the kinds have and others lack.
std::vector<Megahertz> uncommon_clocks(const StageSummary& stage) {
  std::map<Megahertz, std::size_t> holders;
  std::size_t kinds = 0;
  for (const KindSummary& kind : stage.kinds) {
    if (is_fixed_time(kind.kind)) continue;
    ++kinds;
    for (const Megahertz clock : kind.clocks) ++holders[clock];
  }
  std::vector<Megahertz> uncommon;
  for (auto entry = holders.rbegin(); entry != holders.rend(); ++entry) {
    if (entry->second < kinds) uncommon.push_back(entry->first);
  }
  return uncommon;
}

void Warnings::look_at(const StageSummary& stage, int number, const std::vector<std::string>& configs) {
  const Place where{number};
  if (!stage.blocking_power) without_blocking_power.push_back(number);
  if (stage.notes) look_at(*stage.notes, where);
  std::size_t compared = 0;
  std::size_t apart = 0;
  double farthest = 0;
  for (const KindSummary& kind : stage.kinds) {
    look_at(kind, {number, std::string(name_of(kind.kind))}, configs);
    if (kind.disagreements.empty()) continue;
    compared += kind.disagreements.values.size();
    apart += kind.disagreements.count_above(kFarthestApart);
    farthest = std::max(farthest, kind.disagreements.largest());
  }
  // A single one may be by chance, however few there are.
  if (apart > 1 && static_cast<double>(apart) > kToleratedShare * static_cast<double>(compared)) {
    disagreements.add(farthest, where, of_options(apart, compared) + ", up to " + fixed_text(farthest, 1));
  }
  if (const auto clocks = uncommon_clocks(stage); !clocks.empty()) {
    other_clocks.add(static_cast<double>(clocks.size()), where, "not all have " + mhz(clocks));
  }
}

}  // namespace

std::vector<std::string> profile_warnings(const ProfileSummary& summary) {
  Warnings found;
  for (std::size_t s = 0; s < summary.stages.size(); ++s) {
    found.look_at(summary.stages[s], static_cast<int>(s), summary.configs);
  }
  std::vector<std::string> lines;
  for (Findings* findings :
       {&found.few_clocks, &found.energy_errors, &found.time_errors, &found.disagreements}) {
    findings->tell(lines);
  }
  if (const auto& stages = found.without_blocking_power; !stages.empty()) {
    lines.push_back("no blocking power: " + stages_text(stages) + "; give it with plan --blocking-power");
  }
  for (Findings* findings :
       {&found.throttled, &found.foreign, &found.drift, &found.throttled_clocks, &found.missed_clocks}) {
    findings->tell(lines);
  }
  const double modelled_share =
      static_cast<double>(found.modelled) / static_cast<double>(std::max<std::size_t>(found.options, 1));
  if (modelled_share > kLargestModelledShare) {
    lines.push_back(
        "over " + whole_percent(kLargestModelledShare) +
        " of the options are predictions, not measurements: " + of_options(found.modelled, found.options));
  }
  for (Findings* findings : {&found.few_runs, &found.other_clocks, &found.outliers, &found.slow_highest}) {
    findings->tell(lines);
  }
  return lines;
}

}  // namespace slackline
