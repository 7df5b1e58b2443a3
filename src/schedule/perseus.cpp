#include "slackline/schedule/perseus.h"

#include <algorithm>
#include <cmath>
#include <map>
#include <string>
#include <utility>

#include "slackline/base/error.h"
#include "slackline/curve/exponential_fit.h"
#include "slackline/frontier/phillips_dessouky.h"
#include "slackline/pipeline/event_times.h"
#include "slackline/pipeline/order_kinds.h"

namespace slackline {
namespace {

constexpr std::int64_t kMostSteps = 1'000'000;
/// Clocks kept over all points; 1.6 GB.
constexpr double kMostClocks = 200e6;

/// An option as Perseus sees it: time in whole steps, rounded down.
struct Candidate {
  std::int64_t steps = 0;
  Joules energy;  // of one GPU
  ClockSetting clock;
};

/// What Perseus chooses from, fastest first: the options that no other beats in both time and energy, before
/// blocking power is taken off; of several in one step the dearest, whose time is the closest to the step's.
/// The slowest is hence the one of least energy, where ours is that of least effective cost, which is slower.
std::vector<Candidate> candidates(const std::vector<Measurement>& measurements, Ticks step) {
  std::vector<Candidate> found;
  for (const Measurement& m : measurements) {
    const auto beats_m = [&](const Measurement& other) {
      return other.time < m.time && other.energy < m.energy;
    };
    if (std::any_of(measurements.begin(), measurements.end(), beats_m)) continue;
    found.push_back({to_ticks(m.time) / step, m.energy, {m.clock, m.config}});
  }
  std::stable_sort(found.begin(), found.end(), [](const Candidate& a, const Candidate& b) {
    return a.steps != b.steps ? a.steps < b.steps : a.energy > b.energy;
  });
  const auto same_step = [](const Candidate& a, const Candidate& b) { return a.steps == b.steps; };
  found.erase(std::unique(found.begin(), found.end(), same_step), found.end());
  return found;
}

/// What Perseus knows of a stage and kind: at each step from the fastest option to the slowest, the fitted
/// effective energy and the clock.
struct FittedCurve {
  std::int64_t fastest = 0;  // in steps
  std::vector<Joules> cost;
  std::vector<ClockSetting> clock;
};

FittedCurve fit_curve(const StageProfile& stage, InstructionKind kind, Ticks unit) {
  const std::vector<Candidate> options = candidates(stage.instructions.at(kind), unit);
  const std::int64_t range = options.back().steps - options.front().steps;
  if (range > kMostSteps) {
    throw InputError("", 0, "--unit-ms", "an instruction has more than a million steps of this unit time");
  }
  std::vector<double> steps;
  std::vector<double> energies;
  for (const Candidate& option : options) {
    const Joules waiting = *stage.blocking_power * to_seconds(option.steps * unit);
    steps.push_back(static_cast<double>(option.steps));
    energies.push_back((option.energy - waiting).value() * stage.tensor_parallel);
  }
  const ExponentialFit fit = fit_exponential(steps, energies);

  FittedCurve curve;
  curve.fastest = options.front().steps;
  auto option = options.begin();
  for (std::int64_t k = 0; k <= range; ++k) {
    if (option + 1 != options.end() && (option + 1)->steps == curve.fastest + k) ++option;
    curve.cost.emplace_back(fit(static_cast<double>(curve.fastest + k)));
    curve.clock.push_back(option->clock);
  }
  return curve;
}

/// A vertex at each step, as phillips_dessouky wants it.
LinearCurve linear_curve(const FittedCurve& fitted, Ticks unit) {
  LinearCurve linear;
  const std::size_t last = fitted.cost.size() - 1;
  for (std::size_t k = 0; k <= last; ++k) {
    linear.times.push_back((fitted.fastest + static_cast<Ticks>(k)) * unit);
  }
  for (std::size_t k = 1; k <= last; ++k) {
    const Watts power = (fitted.cost[k - 1] - fitted.cost[k]) / to_seconds(unit);
    linear.slopes.push_back(std::max<Microwatts>(1, std::llround(power.value() * kMicrowattsPerWatt)));
  }
  linear.costs.assign(last + 1, 0);
  for (std::size_t k = last; k > 0; --k) {
    linear.costs[k - 1] = linear.costs[k] + static_cast<Cost>(linear.slope(k)) * unit;
  }
  return linear;
}

/// The workload's DAG with lags of whole steps, rounded down like all times.
Dag stepped_dag(const Workload& workload, Ticks unit) {
  const std::vector<StageProfile>& stages = workload.profile().stages;
  std::vector<Ticks> transfer;
  transfer.reserve(stages.size());
  for (const StageProfile& stage : stages) transfer.push_back(to_ticks(stage.transfer) / unit * unit);
  const Order order = make_order(workload.order(), static_cast<int>(stages.size()));
  return Dag(with_kinds(order, workload.special_kinds()), transfer);
}

/// The curves of a workload, each once, and which instruction has which.
class FittedCurves {
 public:
  FittedCurves(const Workload& workload, Ticks unit) : unit_(unit) {
    std::map<std::pair<StageId, InstructionKind>, std::uint32_t> index;
    for (const Instruction& i : workload.dag().instructions()) {
      const auto number = static_cast<std::uint32_t>(curves_.size());
      const auto [known, is_new] = index.try_emplace({i.stage, i.kind}, number);
      if (is_new) curves_.push_back(fit_curve(workload.profile().stages[i.stage.index()], i.kind, unit));
      curve_of_.push_back(known->second);
    }
  }

  [[nodiscard]] Problem problem(const Dag& dag) const {
    std::vector<LinearCurve> linear;
    linear.reserve(curves_.size());
    for (const FittedCurve& curve : curves_) linear.push_back(linear_curve(curve, unit_));
    return {dag, std::move(linear), curve_of_};
  }

  /// Effective energy, and clocks, of planned durations.
  [[nodiscard]] std::pair<Joules, Clocks> choose(const std::vector<Ticks>& durations) const {
    Joules cost;
    Clocks clocks;
    clocks.reserve(durations.size());
    for (std::size_t i = 0; i < durations.size(); ++i) {
      const FittedCurve& curve = curves_[curve_of_[i]];
      const auto k = static_cast<std::size_t>(durations[i] / unit_ - curve.fastest);
      cost += curve.cost[k];
      clocks.push_back(curve.clock[k]);
    }
    return {cost, std::move(clocks)};
  }

 private:
  Ticks unit_;
  std::vector<FittedCurve> curves_;
  std::vector<std::uint32_t> curve_of_;
};

void check_size(const Dag& dag, const Problem& problem, Ticks unit) {
  std::vector<Ticks> fastest;
  std::vector<Ticks> slowest;
  for (std::uint32_t i = 0; i < problem.instructions(); ++i) {
    fastest.push_back(problem.curve(i).times.front());
    slowest.push_back(problem.curve(i).times.back());
  }
  const Ticks steps = (event_times(dag, slowest).makespan - event_times(dag, fastest).makespan) / unit;
  if (static_cast<double>(steps) * static_cast<double>(dag.size()) > kMostClocks) {
    throw InputError("", 0, "--unit-ms",
                     "the frontier has " + std::to_string(steps) +
                         " steps of this unit time, too many for so long an iteration");
  }
}

}  // namespace

std::vector<PerseusPoint> perseus_frontier(const Workload& workload, const PerseusOptions& options,
                                           const ProgressObserver& observer) {
  const Ticks unit = to_ticks(options.unit_time);
  if (unit <= 0) throw InputError("", 0, "--unit-ms", "must be positive");
  const FittedCurves curves(workload, unit);
  const Dag dag = stepped_dag(workload, unit);
  const Problem problem = curves.problem(dag);
  check_size(dag, problem, unit);
  std::vector<PerseusPoint> points;
  const auto visit = [&](Ticks makespan, const std::vector<Ticks>& durations) {
    auto [cost, clocks] = curves.choose(durations);
    const Seconds time = to_seconds(makespan);
    points.push_back({time, cost + workload.blocking_power() * time, std::move(clocks)});
  };
  phillips_dessouky(problem, visit, observer);
  std::reverse(points.begin(), points.end());
  return points;
}

}  // namespace slackline
