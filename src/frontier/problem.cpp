#include "slackline/frontier/problem.h"

#include <algorithm>
#include <cassert>
#include <cmath>
#include <utility>

namespace slackline {
namespace {

/// 100 MW, for options that differ by a tick or so: the flows of thousands of stages still add up in 63 bits.
/// Less than the true slope costs less, so that the bound stays a bound.
constexpr double kSteepest = 1e14;

}  // namespace

Cost LinearCurve::cost(Ticks duration) const {
  assert(duration >= times.front());
  if (duration >= times.back()) return 0;
  const auto after = std::upper_bound(times.begin(), times.end(), duration);
  const auto j = static_cast<std::size_t>(after - times.begin());
  return costs[j] + static_cast<Cost>(slope(j)) * (times[j] - duration);
}

LinearCurve linear_curve(const CostCurve& curve) {
  LinearCurve linear;
  for (const std::size_t vertex : curve.hull) linear.times.push_back(curve.options[vertex].time);
  for (std::size_t j = 1; j < curve.hull.size(); ++j) {
    const CurveOption& fast = curve.options[curve.hull[j - 1]];
    const CurveOption& slow = curve.options[curve.hull[j]];
    const Watts power = (fast.cost - slow.cost) / to_seconds(slow.time - fast.time);
    const double slope = std::min(power.value() * kMicrowattsPerWatt, kSteepest);
    if (slope < 1) break;  // what saves less than a microwatt is not worth a vertex
    linear.slopes.push_back(static_cast<Microwatts>(slope));
  }
  linear.times.resize(linear.slopes.size() + 1);
  // Rounding can turn two nearly equal slopes round; a convex curve needs them in order.
  for (std::size_t j = 1; j < linear.slopes.size(); ++j) {
    linear.slopes[j] = std::min(linear.slopes[j], linear.slopes[j - 1]);
  }
  linear.costs.assign(linear.times.size(), 0);
  for (std::size_t j = linear.last(); j > 0; --j) {
    linear.costs[j - 1] =
        linear.costs[j] + static_cast<Cost>(linear.slope(j)) * (linear.times[j] - linear.times[j - 1]);
  }
  return linear;
}

Problem::Problem(const Dag& dag, std::vector<LinearCurve> curves, std::vector<std::uint32_t> curve_of)
    : curves_(std::move(curves)), curve_of_(std::move(curve_of)) {
  assert(curve_of_.size() == dag.size());
  for (InstructionIndex i = 0; i < instructions(); ++i) arcs_.push_back({2 * i, 2 * i + 1});
  for (InstructionIndex i = 0; i < instructions(); ++i) {
    if (dag.predecessors(i).empty()) arcs_.push_back({source(), 2 * i});
    if (dag.successors(i).empty()) arcs_.push_back({2 * i + 1, sink()});
    for (const auto& [next, lag] : dag.successors(i)) arcs_.push_back({2 * i + 1, 2 * next, lag});
  }
  event_order_.reserve(events());
  event_order_.push_back(source());
  for (const InstructionIndex i : dag.topological_order()) {
    event_order_.push_back(2 * i);
    event_order_.push_back(2 * i + 1);
  }
  event_order_.push_back(sink());
}

}  // namespace slackline
