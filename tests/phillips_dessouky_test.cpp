#include "slackline/frontier/phillips_dessouky.h"

#include <algorithm>

#include "catch.h"
#include "random_pipeline.h"
#include "slackline/pipeline/event_times.h"

namespace slackline {
namespace {

constexpr Ticks kStep = 1'000'000'000;

/// Falling, convex, with a vertex at each step; now and then straight, or a single point.
LinearCurve random_curve(Dice& dice) {
  LinearCurve curve;
  const int vertices = dice.number(1, 8);
  const int fastest = dice.number(1, 9);
  for (int k = 0; k < vertices; ++k) curve.times.push_back((fastest + k) * kStep);
  for (int k = 1; k < vertices; ++k) curve.slopes.push_back(dice.number(1, 5) * 10'000'000);
  std::sort(curve.slopes.rbegin(), curve.slopes.rend());
  curve.costs.assign(curve.times.size(), 0);
  for (std::size_t k = curve.last(); k > 0; --k) {
    curve.costs[k - 1] = curve.costs[k] + static_cast<Cost>(curve.slope(k)) * kStep;
  }
  return curve;
}

struct Stepped {
  Dag dag;
  Problem problem;
};

Stepped random_problem(Dice& dice) {
  const int stages = dice.number(1, 5);
  std::vector<Ticks> transfer;
  for (int s = 0; s < stages; ++s) transfer.push_back(dice.number(0, 2) * kStep);
  const char* const orders[] = {"1f1b", "gpipe", "zb-h1"};
  Dag dag(make_order({orders[dice.number(0, 2)], dice.number(1, 8)}, stages), transfer);
  std::vector<LinearCurve> curves;
  for (int c = 0; c < 4; ++c) curves.push_back(random_curve(dice));
  std::vector<std::uint32_t> curve_of;
  for (std::size_t i = 0; i < dag.size(); ++i) {
    curve_of.push_back(static_cast<std::uint32_t>(dice.number(0, 3)));
  }
  Problem problem(dag, std::move(curves), std::move(curve_of));
  return {std::move(dag), std::move(problem)};
}

Cost cost_of(const Problem& problem, const std::vector<Ticks>& durations) {
  Cost cost = 0;
  for (std::uint32_t i = 0; i < problem.instructions(); ++i) cost += problem.curve(i).cost(durations[i]);
  return cost;
}

/// On the exact frontier, whose slopes are whole.
Cost exact_cost(const std::vector<Breakpoint>& corners, Ticks time) {
  const auto after = std::lower_bound(corners.begin(), corners.end(), time,
                                      [](const Breakpoint& b, Ticks t) { return b.time < t; });
  if (after == corners.begin()) return after->cost;
  const auto before = after - 1;
  return after->cost + (before->cost - after->cost) / (after->time - before->time) * (after->time - time);
}

TEST_CASE("Phillips-Dessouky: at each step the cost is that of the exact frontier", "[frontier]") {
  Dice dice(41);
  for (int round = 0; round < 200; ++round) {
    CAPTURE(round);
    const auto [dag, problem] = random_problem(dice);
    const std::vector<Breakpoint> corners = solve_parametric(problem).breakpoints;
    Ticks expected = corners.back().time;
    phillips_dessouky(problem, [&, &d = dag, &p = problem](Ticks makespan, const auto& durations) {
      CHECK(makespan == expected);
      CHECK(event_times(d, durations).makespan == makespan);
      // exact_cost divides 128-bit integers without remainder; Catch cannot print them.
      CHECK((cost_of(p, durations) == exact_cost(corners, makespan)));
      expected -= kStep;
    });
    CHECK(expected == corners.front().time - kStep);
  }
}

TEST_CASE("Phillips-Dessouky: progress rises to 1", "[frontier]") {
  Dice dice(42);
  const Stepped stepped = random_problem(dice);
  double last = 0;
  phillips_dessouky(
      stepped.problem, [](Ticks, const auto&) {},
      [&](double part) {
        CHECK(part > last);
        last = part;
      });
  CHECK(last == 1);
}

}  // namespace
}  // namespace slackline
