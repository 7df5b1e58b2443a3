#include "slackline/curve/cost_curve.h"

#include <algorithm>
#include <cassert>
#include <tuple>

namespace slackline {
namespace {

/// True if `middle` lies on or above the line from `left` to `right`.
bool is_above_line(const CurveOption& left, const CurveOption& middle, const CurveOption& right) {
  const double to_middle = static_cast<double>(middle.time - left.time);
  const double to_right = static_cast<double>(right.time - left.time);
  return (middle.cost - left.cost).value() * to_right >= (right.cost - left.cost).value() * to_middle;
}

}  // namespace

std::size_t CostCurve::slowest_within(Ticks limit) const {
  const auto after =
      std::upper_bound(options.begin(), options.end(), limit,
                       [](Ticks time, const CurveOption& option) { return time < option.time; });
  return after == options.begin() ? 0 : static_cast<std::size_t>(after - options.begin()) - 1;
}

std::size_t CostCurve::find(ClockSetting clock) const {
  const auto found = std::find_if(options.begin(), options.end(),
                                  [&](const CurveOption& option) { return option.clock == clock; });
  return static_cast<std::size_t>(found - options.begin());
}

std::vector<CurveOption> effective_options(const std::vector<Measurement>& measurements, Watts blocking_power,
                                           int gpus) {
  std::vector<CurveOption> options;
  options.reserve(measurements.size());
  for (const Measurement& m : measurements) {
    options.push_back({{m.clock, m.config},
                       to_ticks(m.time),
                       m.energy * gpus,
                       (m.energy - blocking_power * m.time) * gpus,
                       to_ticks(m.time_error)});
  }
  return options;
}

CostCurve make_cost_curve(std::vector<CurveOption> options) {
  assert(!options.empty());
  // Ties end with the lower clock: it is never worse and switches less.
  std::sort(options.begin(), options.end(), [](const CurveOption& a, const CurveOption& b) {
    return std::tie(a.time, a.cost, a.clock) < std::tie(b.time, b.cost, b.clock);
  });
  CostCurve curve;
  for (const CurveOption& option : options) {
    if (curve.options.empty() || option.cost < curve.options.back().cost) curve.options.push_back(option);
  }
  for (std::size_t i = 0; i < curve.options.size(); ++i) {
    auto& hull = curve.hull;
    while (hull.size() >= 2 && is_above_line(curve.options[hull[hull.size() - 2]], curve.options[hull.back()],
                                             curve.options[i])) {
      hull.pop_back();
    }
    hull.push_back(i);
  }
  return curve;
}

}  // namespace slackline
