#include <algorithm>

#include "catch.h"
#include "random_pipeline.h"
#include "slackline/curve/cost_curve.h"
#include "slackline/frontier/problem.h"
#include "slackline/profile/profile_io.h"

namespace slackline {
namespace {

/// From smooth measurements to plain noise, with ties.
std::vector<CurveOption> random_options(Dice& dice) {
  std::vector<CurveOption> options;
  const int count = dice.number(1, 30);
  const bool noise = dice.number(0, 1) == 1;
  if (!noise) return effective_options(random_measurements(dice, count), Watts(80), 8);
  for (int k = 0; k < count; ++k) {
    options.push_back({Megahertz(k + 1), dice.number(1, 40), Joules(1), Joules(dice.number(-20, 20) / 4.0)});
  }
  return options;
}

/// Cost of the hull at a time between its ends.
double hull_cost(const CostCurve& curve, Ticks time) {
  const auto after = std::find_if(curve.hull.begin(), curve.hull.end(),
                                  [&](std::size_t v) { return curve.options[v].time >= time; });
  const CurveOption& right = curve.options[*after];
  if (right.time == time) return right.cost.value();
  const CurveOption& left = curve.options[*(after - 1)];
  const double part = static_cast<double>(time - left.time) / static_cast<double>(right.time - left.time);
  return left.cost.value() + part * (right.cost - left.cost).value();
}

TEST_CASE("curve: an option is kept exactly if no other is at least as fast and as cheap", "[curve]") {
  Dice dice(5);
  for (int round = 0; round < 300; ++round) {
    const std::vector<CurveOption> options = random_options(dice);
    const CostCurve curve = make_cost_curve(options);
    for (const CurveOption& kept : curve.options) {
      for (const CurveOption& other : options) {
        const bool beaten = other.time <= kept.time && other.cost <= kept.cost &&
                            (other.time < kept.time || other.cost < kept.cost);
        CHECK_FALSE(beaten);
      }
    }
    for (const CurveOption& option : options) {
      const bool matched = std::any_of(
          curve.options.begin(), curve.options.end(),
          [&](const CurveOption& kept) { return kept.time <= option.time && kept.cost <= option.cost; });
      CHECK(matched);
    }
  }
}

TEST_CASE("curve: every vertex was measured; times rise, costs fall, slopes flatten", "[curve]") {
  Dice dice(6);
  for (int round = 0; round < 300; ++round) {
    const std::vector<CurveOption> options = random_options(dice);
    const CostCurve curve = make_cost_curve(options);
    REQUIRE_FALSE(curve.hull.empty());
    CHECK(curve.hull.front() == 0);
    CHECK(curve.hull.back() == curve.options.size() - 1);
    for (const CurveOption& kept : curve.options) {
      const bool measured = std::any_of(options.begin(), options.end(), [&](const CurveOption& o) {
        return o.clock == kept.clock && o.time == kept.time && o.cost == kept.cost && o.energy == kept.energy;
      });
      CHECK(measured);
    }
    double steeper = std::numeric_limits<double>::infinity();
    for (std::size_t v = 1; v < curve.hull.size(); ++v) {
      const CurveOption& left = curve.options[curve.hull[v - 1]];
      const CurveOption& right = curve.options[curve.hull[v]];
      CHECK(left.time < right.time);
      CHECK(left.cost > right.cost);
      const double slope = (left.cost - right.cost).value() / static_cast<double>(right.time - left.time);
      CHECK(slope < steeper);
      steeper = slope;
    }
  }
}

TEST_CASE("curve: no option lies below the hull", "[curve]") {
  Dice dice(7);
  for (int round = 0; round < 300; ++round) {
    const std::vector<CurveOption> options = random_options(dice);
    const CostCurve curve = make_cost_curve(options);
    for (const CurveOption& option : options) {
      const double least = hull_cost(curve, std::min(option.time, curve.cheapest().time));
      CHECK(option.cost.value() >= least - 1e-12 * std::abs(least));
    }
  }
}

TEST_CASE("curve: the fastest option has the smallest time, not the highest clock", "[curve]") {
  // A power-capped GPU is slower at its highest clock. The published Bloom measurements show it.
  const Profile bloom = read_profile(std::string(SLACKLINE_SOURCE_DIR) + "/profiles/bloom-176b-a100-sxm.csv");
  int surprises = 0;
  for (const StageProfile& stage : bloom.stages) {
    for (const auto& [kind, measurements] : stage.instructions) {
      const CostCurve curve = make_cost_curve(effective_options(measurements, Watts(83.64), 1));
      const auto fastest =
          std::min_element(measurements.begin(), measurements.end(),
                           [](const Measurement& a, const Measurement& b) { return a.time < b.time; });
      CHECK(curve.fastest().time == to_ticks(fastest->time));
      if (curve.fastest().clock != highest_clock(stage)) ++surprises;
    }
  }
  CHECK(surprises > 0);
}

TEST_CASE("curve: the effective cost is what running adds to waiting as long, on all GPUs", "[curve]") {
  const auto options = effective_options({{Megahertz(1400), Seconds(2), Joules(600)}}, Watts(50), 8);
  REQUIRE(options.size() == 1);
  CHECK(options[0].time == to_ticks(Seconds(2)));
  CHECK(options[0].energy == Joules(4800));
  CHECK(options[0].cost == Joules(8 * (600 - 50 * 2)));
}

TEST_CASE("curve: the slowest option within a limit is the slowest that fits, else the fastest", "[curve]") {
  Dice dice(8);
  for (int round = 0; round < 100; ++round) {
    const CostCurve curve = make_cost_curve(random_options(dice));
    for (std::size_t k = 0; k < curve.options.size(); ++k) {
      CHECK(curve.slowest_within(curve.options[k].time) == k);
      CHECK(curve.slowest_within(curve.options[k].time - 1) == (k == 0 ? 0 : k - 1));
      CHECK(curve.find(curve.options[k].clock) == k);
    }
    CHECK(curve.slowest_within(kMaxTicks) == curve.options.size() - 1);
    CHECK(curve.slowest_within(0) == 0);
    CHECK(curve.find(Megahertz(99'999)) == curve.options.size());
  }
}

TEST_CASE("curve: of equal options the lowest clock is kept", "[curve]") {
  const CostCurve curve = make_cost_curve({{Megahertz(1400), 10, Joules(5), Joules(5)},
                                           {Megahertz(1200), 10, Joules(5), Joules(5)},
                                           {Megahertz(1300), 10, Joules(5), Joules(5)}});
  REQUIRE(curve.options.size() == 1);
  CHECK(curve.fastest().clock == Megahertz(1200));
}

TEST_CASE("curve: in integers it stays convex and falling, and within a microwatt's rounding", "[curve]") {
  Dice dice(9);
  for (int round = 0; round < 300; ++round) {
    const CostCurve curve = make_cost_curve(random_options(dice));
    const LinearCurve linear = linear_curve(curve);
    REQUIRE(linear.times.size() == curve.hull.size());
    REQUIRE(linear.costs.size() == curve.hull.size());
    CHECK((linear.costs.back() == 0));
    CHECK((linear.cost(kMaxTicks) == 0));
    for (std::size_t j = 1; j < linear.times.size(); ++j) {
      CHECK(linear.slope(j) >= 1);
      CHECK(linear.slope(j) >= linear.slope(j + 1));
      const Ticks middle = linear.times[j - 1] + (linear.times[j] - linear.times[j - 1]) / 2;
      const Cost expected = linear.costs[j] + static_cast<Cost>(linear.slope(j)) * (linear.times[j] - middle);
      CHECK((linear.cost(middle) == expected));
    }
    for (std::size_t j = 0; j < linear.times.size(); ++j) {
      CHECK((linear.cost(linear.times[j]) == linear.costs[j]));
    }
  }
}

TEST_CASE("curve: in integers a measured curve costs what it costs in joules, and never more", "[curve]") {
  // The rounding of a slope is a microwatt, over at most a second here.
  Dice dice(10);
  for (int round = 0; round < 100; ++round) {
    const CostCurve curve = make_cost_curve(effective_options(random_measurements(dice, 38), Watts(80), 8));
    const LinearCurve linear = linear_curve(curve);
    for (std::size_t j = 0; j < curve.hull.size(); ++j) {
      const Joules above = curve.options[curve.hull[j]].cost - curve.cheapest().cost;
      CHECK(to_joules(linear.costs[j]) > above - Joules(1e-6));
      CHECK(to_joules(linear.costs[j]) < above + Joules(1e-12));
    }
  }
}

TEST_CASE("curve: options a picosecond apart give a steep slope, never one that wraps", "[curve]") {
  // 500 J in one tick are 5e14 W, beyond 64 bits. Less than the true slope keeps the bound a bound.
  const CostCurve curve = make_cost_curve({{Megahertz(1400), 1000, Joules(500), Joules(500)},
                                           {Megahertz(1300), 1001, Joules(1), Joules(1)},
                                           {Megahertz(1200), 1'000'001'001, Joules(0.5), Joules(0.5)}});
  const LinearCurve linear = linear_curve(curve);
  REQUIRE(linear.slopes.size() == 2);
  CHECK(linear.slope(1) > linear.slope(2));
  CHECK(linear.slope(2) == 500'000'000);
  CHECK(to_joules(linear.costs[0]) <= Joules(499.5));
}

}  // namespace
}  // namespace slackline
