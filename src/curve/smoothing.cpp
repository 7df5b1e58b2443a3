#include "slackline/curve/smoothing.h"

#include <cmath>
#include <map>
#include <vector>

#include "slackline/curve/convex_fit.h"

namespace slackline {
namespace {

constexpr std::size_t kFewestClocks = 5;

/// Measurements of one kind with one label.
using Series = std::vector<Measurement*>;

std::vector<Series> series_of(Profile& profile, std::size_t stage) {
  std::vector<Series> all;
  for (auto& [kind, options] : profile.stages[stage].instructions) {
    if (is_fixed_time(kind)) continue;
    std::map<ConfigId, Series> by_label;
    for (Measurement& m : options) by_label[m.config].push_back(&m);
    for (auto& [label, series] : by_label) {
      if (series.size() >= kFewestClocks) all.push_back(std::move(series));
    }
  }
  return all;
}

struct SquareSum {
  double time = 0;
  double energy = 0;
  std::size_t count = 0;
};

void smooth(const Series& series, Watts blocking, SquareSum& deviations) {
  std::vector<double> clocks, times, time_weights, costs, cost_weights;
  for (const Measurement* m : series) {
    clocks.push_back(m->clock.value());
    times.push_back(m->time.value());
    time_weights.push_back(1 / m->time.value());
    costs.push_back((m->energy - blocking * m->time).value());
    // The cost is a difference; its error is the energy's.
    cost_weights.push_back(1 / std::max(m->energy.value(), 1e-9 * m->time.value()));
  }
  const std::vector<double> smooth_times = convex_fit(clocks, times, time_weights);
  for (const double time : smooth_times) {
    if (time <= 0) return;  // beyond what a curve can be drawn through
  }
  const std::vector<double> smooth_costs = convex_fit(smooth_times, costs, cost_weights);
  for (std::size_t i = 0; i < series.size(); ++i) {
    Measurement& m = *series[i];
    const Seconds time(smooth_times[i]);
    const Joules energy = std::max(Joules(0), Joules(smooth_costs[i]) + blocking * time);
    deviations.time += std::pow(time / m.time - 1, 2);
    deviations.energy += m.energy > Joules(0) ? std::pow(energy / m.energy - 1, 2) : 0;
    ++deviations.count;
    m.time = time;
    m.energy = energy;
  }
}

}  // namespace

SmoothingResidual smooth_convex(Profile& profile) {
  SquareSum deviations;
  for (std::size_t s = 0; s < profile.stages.size(); ++s) {
    const Watts blocking = profile.stages[s].blocking_power.value_or(Watts(0));
    for (const Series& series : series_of(profile, s)) smooth(series, blocking, deviations);
  }
  profile.derived.emplace_back("smooth=convex");
  if (deviations.count == 0) return {};
  const auto count = static_cast<double>(deviations.count);
  return {std::sqrt(deviations.time / count), std::sqrt(deviations.energy / count)};
}

}  // namespace slackline
