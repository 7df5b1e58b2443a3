#include <algorithm>
#include <cassert>
#include <cmath>

#include "convex_check.h"
#include "slackline/base/error.h"
#include "slackline/base/ticks.h"
#include "slackline/curve/cost_curve.h"
#include "slackline/report/profile_report.h"

namespace slackline {
namespace {

/// As plan has it, loosely: a sum of figures stays finite.
constexpr double kLargestFigure = 1e12;

[[noreturn]] void fail_beyond(const char* key, std::size_t stage) {
  throw InputError("", 0, key, "stage " + std::to_string(stage) + " is beyond what can be planned");
}

void expect_sane(const Measurement& m, std::size_t stage) {
  const auto fail = [&](const char* key) { fail_beyond(key, stage); };
  const double longest = to_seconds(kMaxTicks).value();
  if (m.time.value() > longest) fail("time_s");
  if (m.time_error.value() > longest) fail("time_error_s");
  if (m.energy.value() > kLargestFigure) fail("energy_j");
  if (m.energy_error.value() > kLargestFigure) fail("energy_error_j");
  if (m.second_energy.value() > kLargestFigure) fail("second_energy_j");
  if (m.second_energy_error.value() > kLargestFigure) fail("second_energy_error_j");
}

double joint(double a, double b) {
  return std::hypot(a, b);
}

const Measurement& fastest_of(const std::vector<Measurement>& options, std::optional<Megahertz> clock) {
  const Measurement* fastest = nullptr;
  for (const Measurement& option : options) {
    if (clock && option.clock != *clock) continue;
    if (fastest == nullptr || option.time < fastest->time) fastest = &option;
  }
  return *fastest;
}

void add_spreads(KindSummary& summary, const Measurement& m) {
  if (m.time_error > Seconds(0)) summary.time_errors.values.push_back(m.time_error / m.time);
  if (m.energy_error > Joules(0) && m.energy > Joules(0)) {
    summary.energy_errors.values.push_back(m.energy_error / m.energy);
  }
  const double apart_error = joint(m.energy_error.value(), m.second_energy_error.value());
  if (m.second_energy > Joules(0) && apart_error > 0) {
    summary.disagreements.values.push_back(std::abs((m.energy - m.second_energy).value()) / apart_error);
  }
  if (m.runs > 0) summary.runs.values.push_back(m.runs);
}

std::optional<ConvexCheck> check_of(const std::vector<Measurement>& options) {
  std::optional<ConvexCheck> whole;
  double count = 0;
  double time_squares = 0;
  double energy_squares = 0;
  for (const auto& [label, one] : by_label(options)) {
    const std::optional<ConvexCheck> part = check_convexity(one);
    if (!part) continue;
    if (!whole) whole.emplace();
    const auto size = static_cast<double>(one.size());
    count += size;
    time_squares += size * std::pow(part->time_residual, 2);
    energy_squares += size * std::pow(part->energy_residual, 2);
    whole->outliers.insert(whole->outliers.end(), part->outliers.begin(), part->outliers.end());
  }
  if (whole) {
    whole->time_residual = std::sqrt(time_squares / count);
    whole->energy_residual = std::sqrt(energy_squares / count);
  }
  return whole;
}

KindSummary summarise(InstructionKind kind, const std::vector<Measurement>& options, Watts blocking_power) {
  KindSummary summary;
  summary.kind = kind;
  summary.options = options.size();
  for (const Measurement& m : options) {
    if (m.is_modelled) ++summary.modelled;
    add_spreads(summary, m);
    if (is_fixed_time(kind)) continue;
    if (summary.clocks.empty() || summary.clocks.back() != m.clock) summary.clocks.push_back(m.clock);
  }
  if (is_fixed_time(kind)) {
    summary.highest = summary.lowest = summary.fastest = options.front();
    return summary;
  }
  summary.highest = fastest_of(options, summary.clocks.front());
  summary.lowest = fastest_of(options, summary.clocks.back());
  const Measurement& fastest = fastest_of(options, {});
  const double apart = (summary.highest.time - fastest.time).value();
  const bool is_faster = apart > 2 * joint(summary.highest.time_error.value(), fastest.time_error.value());
  summary.fastest = is_faster ? fastest : summary.highest;
  summary.hull_vertices = make_cost_curve(effective_options(options, blocking_power, 1)).hull.size();
  // A few clocks that lie where the plan wanted them do not show a curve.
  if (summary.modelled == 0) summary.check = check_of(options);
  return summary;
}

Seconds pass_of(const StageSummary& stage) {
  const auto time_of = [&](InstructionKind kind) -> std::optional<Seconds> {
    const auto found = std::ranges::find(stage.kinds, kind, &KindSummary::kind);
    if (found == stage.kinds.end()) return std::nullopt;
    return found->highest.time;
  };
  const Seconds forward = time_of(InstructionKind::kForward).value_or(Seconds(0));
  for (const InstructionKind kind : {InstructionKind::kBackward, InstructionKind::kForwardBackward}) {
    if (const auto time = time_of(kind)) return forward + *time;
  }
  return forward + time_of(InstructionKind::kBackwardInput).value_or(Seconds(0)) +
         time_of(InstructionKind::kBackwardWeight).value_or(Seconds(0));
}

}  // namespace

double Spread::median() const {
  assert(!empty());
  std::vector<double> sorted = values;
  std::ranges::sort(sorted);
  const std::size_t middle = sorted.size() / 2;
  return sorted.size() % 2 == 1 ? sorted[middle] : (sorted[middle - 1] + sorted[middle]) / 2;
}

double Spread::smallest() const {
  return *std::ranges::min_element(values);
}

double Spread::largest() const {
  return *std::ranges::max_element(values);
}

std::size_t Spread::count_above(double limit) const {
  return static_cast<std::size_t>(std::ranges::count_if(values, [&](double value) { return value > limit; }));
}

ProfileSummary summarise(const Profile& profile) {
  ProfileSummary summary;
  summary.model = profile.model;
  summary.gpu = profile.gpu;
  summary.switch_times = profile.switch_times;
  summary.configs = profile.configs;
  Seconds total;
  for (std::size_t s = 0; s < profile.stages.size(); ++s) {
    const StageProfile& profiled = profile.stages[s];
    if (profiled.blocking_power.value_or(Watts(0)).value() > kLargestFigure)
      fail_beyond("blocking_power_w", s);
    StageSummary stage{profiled.gpu,
                       profiled.tensor_parallel,
                       profiled.transfer,
                       profiled.blocking_power,
                       profiled.notes,
                       {},
                       {}};
    for (const auto& [kind, options] : profiled.instructions) {
      for (const Measurement& m : options) expect_sane(m, s);
      stage.kinds.push_back(summarise(kind, options, profiled.blocking_power.value_or(Watts(0))));
    }
    stage.pass = pass_of(stage);
    total += stage.pass;
    summary.stages.push_back(std::move(stage));
    if (summary.stages[s].pass > summary.stages[summary.slowest_stage].pass) summary.slowest_stage = s;
    if (summary.stages[s].pass < summary.stages[summary.fastest_stage].pass) summary.fastest_stage = s;
  }
  if (total > Seconds(0)) {
    const Seconds slowest = summary.stages[summary.slowest_stage].pass;
    summary.slowest_over_mean = slowest / (total / static_cast<double>(profile.stages.size()));
    summary.slowest_over_fastest = slowest / summary.stages[summary.fastest_stage].pass;
  }
  return summary;
}

}  // namespace slackline
