#include "slackline/curve/smoothing.h"

#include <cmath>

#include "catch.h"
#include "dice.h"
#include "slackline/curve/convex_fit.h"
#include "slackline/profile/profile_io.h"

namespace slackline {
namespace {

double squares(const std::vector<double>& a, const std::vector<double>& b,
               const std::vector<double>& weights) {
  double sum = 0;
  for (std::size_t i = 0; i < a.size(); ++i) sum += std::pow(weights[i] * (a[i] - b[i]), 2);
  return sum;
}

struct Points {
  std::vector<double> x, y, weights;
};

Points random_points(Dice& dice, int count) {
  Points p;
  double x = dice.between(-5, 5);
  for (int i = 0; i < count; ++i) {
    p.x.push_back(x += dice.between(0.1, 2));
    p.y.push_back(dice.between(-1, 1));
    p.weights.push_back(dice.between(0.5, 2));
  }
  return p;
}

bool is_convex(const std::vector<double>& x, const std::vector<double>& y) {
  for (std::size_t i = 1; i + 1 < x.size(); ++i) {
    const double before = (y[i] - y[i - 1]) / (x[i] - x[i - 1]);
    const double after = (y[i + 1] - y[i]) / (x[i + 1] - x[i]);
    if (after < before - 1e-7) return false;
  }
  return true;
}

TEST_CASE("convex_fit: it is convex, and no convex function near it is nearer to the points", "[curve]") {
  Dice dice(31);
  for (int round = 0; round < 60; ++round) {
    CAPTURE(round);
    const Points p = random_points(dice, dice.number(3, 25));
    const std::vector<double> fitted = convex_fit(p.x, p.y, p.weights);
    CHECK(is_convex(p.x, fitted));
    const double least = squares(fitted, p.y, p.weights);
    // The set of convex functions is convex: it is enough that no small step towards another one helps.
    for (int trial = 0; trial < 50; ++trial) {
      const double bend = dice.between(p.x.front(), p.x.back());
      const double slope = dice.between(-1, 1);
      const double lift = dice.between(0, 1);
      const double base = dice.between(-1, 1);
      std::vector<double> nearby = fitted;
      for (std::size_t i = 0; i < nearby.size(); ++i) {
        const double other = base + slope * p.x[i] + lift * std::max(0.0, p.x[i] - bend);
        nearby[i] += 1e-3 * (other - nearby[i]);
      }
      CHECK(squares(nearby, p.y, p.weights) >= least * (1 - 1e-9));
    }
  }
}

TEST_CASE("convex_fit: what is convex stays, also with equal x; two points are a line", "[curve]") {
  const std::vector<double> x{1, 2, 2, 4, 7, 8};
  std::vector<double> y;
  for (const double at : x) y.push_back((at - 3) * (at - 3));
  const std::vector<double> fitted = convex_fit(x, y, std::vector<double>(x.size(), 1));
  for (std::size_t i = 0; i < x.size(); ++i) CHECK(std::abs(fitted[i] - y[i]) < 1e-9);
  CHECK(convex_fit({3, 5}, {1, 9}, {1, 1}) == std::vector<double>{1, 9});
}

/// A GPU as physics has it: no noise, power falls faster than time grows.
Profile ideal_profile() {
  Profile profile;
  StageProfile stage;
  stage.blocking_power = Watts(80);
  for (const InstructionKind kind : {InstructionKind::kForward, InstructionKind::kBackward}) {
    for (int clock = 1410; clock >= 855; clock -= 15) {
      const double share = clock / 1410.0;
      const double time = 0.05 * (0.2 + 0.8 / share);
      stage.instructions[kind].push_back(
          {Megahertz(clock), Seconds(time), Joules(time * (120 + 330 * std::pow(share, 2.4)))});
    }
  }
  profile.stages = {stage, stage};
  return profile;
}

TEST_CASE("smoothing: the ideal stays, and of noise less than half is left", "[curve]") {
  const Profile ideal = ideal_profile();
  Profile kept = ideal;
  const SmoothingResidual none = smooth_convex(kept);
  CHECK(none.time < 1e-6);
  CHECK(none.energy < 1e-6);
  CHECK(kept.derived == std::vector<std::string>{"smooth=convex"});

  Dice dice(33);
  Profile noisy = ideal;
  for (StageProfile& stage : noisy.stages) {
    for (auto& [kind, options] : stage.instructions) {
      for (Measurement& m : options) {
        m.time = m.time * dice.between(0.98, 1.02);
        m.energy = m.energy * dice.between(0.98, 1.02);
      }
    }
  }
  Profile smoothed = noisy;
  (void)smooth_convex(smoothed);
  const auto distance = [&](const Profile& profile) {
    double sum = 0;
    for (std::size_t s = 0; s < 2; ++s) {
      for (const auto& [kind, options] : profile.stages[s].instructions) {
        for (std::size_t i = 0; i < options.size(); ++i) {
          const Measurement& truth = ideal.stages[s].instructions.at(kind)[i];
          sum += std::pow(options[i].time / truth.time - 1, 2) +
                 std::pow(options[i].energy / truth.energy - 1, 2);
        }
      }
    }
    return std::sqrt(sum);
  };
  CHECK(distance(smoothed) < distance(noisy) / 2);
}

TEST_CASE("smoothing: few clocks and fixed times stay as they are", "[curve]") {
  Profile profile = ideal_profile();
  profile.stages[0].instructions[InstructionKind::kForward].resize(4);
  profile.stages[0].instructions[InstructionKind::kOptimizer] = {{Megahertz(0), Seconds(0.1), Joules(3)}};
  const Profile before = profile;
  (void)smooth_convex(profile);
  CHECK(profile.stages[0].instructions.at(InstructionKind::kForward) ==
        before.stages[0].instructions.at(InstructionKind::kForward));
  CHECK(profile.stages[0].instructions.at(InstructionKind::kOptimizer) ==
        before.stages[0].instructions.at(InstructionKind::kOptimizer));
}

}  // namespace
}  // namespace slackline
