#include <algorithm>
#include <numeric>

#include "catch.h"
#include "dice.h"
#include "slackline/base/error.h"
#include "slackline/frontier/optimum.h"
#include "slackline/frontier/parametric_solver.h"

namespace slackline {
namespace {

constexpr double kMostCombinations = 20'000;

LinearCurve random_curve(Dice& dice, int longest) {
  LinearCurve curve;
  for (Ticks t = 1; t <= longest; ++t) {
    if (dice.number(0, 1) == 1) curve.times.push_back(t);
  }
  if (curve.times.empty()) curve.times.push_back(dice.number(1, longest));
  for (std::size_t j = 1; j < curve.times.size(); ++j) curve.slopes.push_back(dice.number(1, 9));
  std::sort(curve.slopes.rbegin(), curve.slopes.rend());  // equal slopes too
  curve.costs.assign(curve.times.size(), 0);
  for (std::size_t j = curve.last(); j > 0; --j) {
    curve.costs[j - 1] =
        curve.costs[j] + static_cast<Cost>(curve.slope(j)) * (curve.times[j] - curve.times[j - 1]);
  }
  return curve;
}

/// A pipeline of at most eight instructions, in a made or a shuffled order that can run.
Dag random_dag(Dice& dice) {
  constexpr std::array<std::pair<int, int>, 8> kSizes{
      {{1, 1}, {1, 2}, {1, 3}, {1, 4}, {2, 1}, {2, 2}, {3, 1}, {4, 1}}};
  const auto [stages, microbatches] = kSizes[static_cast<std::size_t>(dice.number(0, 7))];
  while (true) {
    Order order = make_order({dice.number(0, 1) == 0 ? "1f1b" : "gpipe", microbatches}, stages);
    for (auto& stage : order) {
      const int last = static_cast<int>(stage.size()) - 1;
      std::swap(stage[static_cast<std::size_t>(dice.number(0, last))],
                stage[static_cast<std::size_t>(dice.number(0, last))]);
    }
    try {
      std::vector<Ticks> transfer;
      for (int s = 0; s < stages; ++s) transfer.push_back(dice.number(0, 2));
      return Dag(order, transfer);
    } catch (const InputError&) {  // it would deadlock
    }
  }
}

struct Tiny {
  Dag dag;
  std::vector<LinearCurve> curves;
};

Tiny random_tiny(Dice& dice) {
  Tiny tiny{random_dag(dice), {}};
  for (std::size_t i = 0; i < tiny.dag.size(); ++i) tiny.curves.push_back(random_curve(dice, 6));
  const auto combinations = [&] {
    return std::accumulate(tiny.curves.begin(), tiny.curves.end(), 1.0,
                           [](double product, const LinearCurve& c) {
                             return product * static_cast<double>(c.times.back() - c.times.front() + 1);
                           });
  };
  for (std::size_t i = 0; combinations() > kMostCombinations; i = (i + 1) % tiny.curves.size()) {
    tiny.curves[i] = random_curve(dice, 3);
  }
  return tiny;
}

Ticks longest_path(const Dag& dag, const std::vector<Ticks>& durations) {
  std::vector<Ticks> end(dag.size(), 0);
  Ticks longest = 0;
  for (const InstructionIndex i : dag.topological_order()) {
    for (const auto& [before, lag] : dag.predecessors(i)) end[i] = std::max(end[i], end[before] + lag);
    longest = std::max(longest, end[i] += durations[i]);
  }
  return longest;
}

/// Least cost of any whole durations by their longest path; index is the time. Times are whole, precedence is
/// a network, so fractions cannot do better at a whole time.
std::vector<std::optional<Cost>> least_costs(const Tiny& tiny) {
  std::vector<std::optional<Cost>> least;
  std::vector<Ticks> durations;
  for (const LinearCurve& curve : tiny.curves) durations.push_back(curve.times.front());
  while (true) {
    Cost cost = 0;
    for (std::size_t i = 0; i < durations.size(); ++i) cost += tiny.curves[i].cost(durations[i]);
    const auto time = static_cast<std::size_t>(longest_path(tiny.dag, durations));
    if (least.size() <= time) least.resize(time + 1);
    if (!least[time] || cost < *least[time]) least[time] = cost;

    std::size_t i = 0;
    while (i < durations.size() && durations[i] == tiny.curves[i].times.back()) {
      durations[i] = tiny.curves[i].times.front();
      ++i;
    }
    if (i == durations.size()) break;
    ++durations[i];
  }
  for (std::size_t t = 1; t < least.size(); ++t) {  // a looser deadline allows what a tighter one does
    if (least[t - 1] && (!least[t] || *least[t - 1] < *least[t])) least[t] = least[t - 1];
  }
  return least;
}

TEST_CASE("frontier: equals the best of all choices on tiny pipelines, exactly, at every time",
          "[frontier]") {
  Dice dice(41);
  int times_checked = 0;
  for (int round = 0; round < 400; ++round) {
    CAPTURE(round);
    const Tiny tiny = random_tiny(dice);
    std::vector<std::uint32_t> curve_of(tiny.dag.size());
    std::iota(curve_of.begin(), curve_of.end(), 0U);
    const Problem problem(tiny.dag, tiny.curves, curve_of);
    const std::vector<std::optional<Cost>> least = least_costs(tiny);

    std::vector<Ticks> targets;
    for (std::size_t t = 0; t < least.size(); ++t) {
      if (least[t]) targets.push_back(static_cast<Ticks>(t));
    }
    const ParametricResult result = solve_parametric(problem, targets);
    REQUIRE(result.breakpoints.front().time == targets.front());
    REQUIRE(result.breakpoints.back().time == targets.back());
    for (std::size_t k = 0; k < targets.size(); ++k) {
      const Cost best = *least[static_cast<std::size_t>(targets[k])];
      CHECK(check_certificate(problem, result.optima[k]) == "");
      CHECK(result.optima[k].event_times[problem.sink()] == targets[k]);
      CHECK((primal_cost(problem, result.optima[k]) == best));
      CHECK((dual_bound(problem, result.optima[k].flow, targets[k]) == best));
      ++times_checked;
    }
    for (const Breakpoint& corner : result.breakpoints) {
      CHECK((corner.cost == *least[static_cast<std::size_t>(corner.time)]));
    }
  }
  CHECK(times_checked > 2000);
}

}  // namespace
}  // namespace slackline
