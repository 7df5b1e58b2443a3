#include "slackline/schedule/clock_budget.h"

#include <algorithm>
#include <cmath>
#include <set>

#include "catch.h"
#include "hidden_truth.h"
#include "plan_regret.h"
#include "slackline/base/error.h"
#include "slackline/profile/profile_io.h"

namespace slackline {
namespace {

using Clocks = std::vector<std::vector<Megahertz>>;

const OrderSpec kOrder{"1f1b", 12};

Profile published() {
  return read_profile(SLACKLINE_SOURCE_DIR "/profiles/gpt3-175b-a100-sxm.yaml");
}

/// Two stages and few clocks.
Profile small() {
  Profile profile = published();
  profile.stages.resize(2);
  for (StageProfile& stage : profile.stages) {
    for (auto& [kind, options] : stage.instructions) {
      std::vector<Measurement> kept;
      for (std::size_t i = 0; i < options.size(); i += 5) kept.push_back(options[i]);
      options = kept;
    }
  }
  return profile;
}

void add(Clocks& chosen, const NextClocks& next) {
  for (std::size_t s = 0; s < chosen.size(); ++s) {
    if (next.clocks[s]) chosen[s].push_back(*next.clocks[s]);
  }
}

TEST_CASE("clock budget: first the ends, then what is neither measured nor unsupported, then nothing",
          "[schedule]") {
  const Profile sweep = small();
  Clocks supported = clocks_of(sweep);
  supported[1].erase(supported[1].begin() + 2);
  Clocks chosen(2);
  for (std::size_t count = 0; count < supported[0].size(); ++count) {
    CAPTURE(count);
    const NextClocks next = next_clocks(only(sweep, chosen), supported, {"1f1b", 4});
    CHECK(std::isinf(next.predicted_regret) == (count < 2));
    for (std::size_t s = 0; s < 2; ++s) {
      if (!next.clocks[s]) {
        CHECK(chosen[s].size() == supported[s].size());
        continue;
      }
      if (count == 0) CHECK(next.clocks[s] == supported[s].front());
      if (count == 1) CHECK(next.clocks[s] == supported[s].back());
      CHECK(std::count(supported[s].begin(), supported[s].end(), *next.clocks[s]) == 1);
      CHECK(std::count(chosen[s].begin(), chosen[s].end(), *next.clocks[s]) == 0);
    }
    CHECK(next_clocks(only(sweep, chosen), supported, {"1f1b", 4}).clocks == next.clocks);
    add(chosen, next);
  }
  CHECK(chosen[0].size() == supported[0].size());
  CHECK(chosen[1].size() == supported[1].size());
  const NextClocks end = next_clocks(only(sweep, chosen), supported, {"1f1b", 4});
  CHECK(end.clocks == std::vector<std::optional<Megahertz>>(2));
}

TEST_CASE("clock budget: completed adds what lies between the ends, marks it, and leaves the rest",
          "[schedule]") {
  const Profile sweep = published();
  const Clocks supported = clocks_of(sweep);
  Clocks chosen(supported.size());
  for (std::size_t s = 0; s < chosen.size(); ++s) {
    chosen[s] = {supported[s][3], supported[s][12 + s], supported[s][34]};
  }
  Profile measured = only(sweep, chosen);
  measured.stages[0].instructions[InstructionKind::kOptimizer] = {{Megahertz(0), Seconds(0.1), Joules(3)}};
  auto& backward = measured.stages[2].instructions.at(InstructionKind::kBackward);
  backward.erase(backward.begin());  // kinds may differ in what was measured
  const Profile full = completed(measured, supported);
  for (std::size_t s = 0; s < chosen.size(); ++s) {
    for (const auto& [kind, options] : full.stages[s].instructions) {
      CAPTURE(s, name_of(kind));
      const std::vector<Measurement>& before = measured.stages[s].instructions.at(kind);
      std::vector<Measurement> kept;
      for (const Measurement& m : options) {
        if (!m.is_modelled) {
          kept.push_back(m);
          continue;
        }
        CHECK(m.clock < before.front().clock);
        CHECK(before.back().clock < m.clock);
        CHECK((m.time_error > Seconds(0) && m.energy_error > Joules(0)));
        CHECK(m.runs == 0);
      }
      CHECK(kept == before);
      CHECK(std::is_sorted(options.begin(), options.end(),
                           [](const Measurement& a, const Measurement& b) { return b.clock < a.clock; }));
      std::set<Megahertz> clocks;
      for (const Measurement& m : options) clocks.insert(m.clock);
      CHECK(clocks.size() == options.size());
      const bool is_short = s == 2 && kind == InstructionKind::kBackward;
      if (kind == InstructionKind::kOptimizer) {
        CHECK(options == before);
      } else {
        CHECK(options.size() == (is_short ? 34 - (12 + s) + 1 : 34 - 3 + 1));
      }
    }
  }
  CHECK(completed(sweep, supported) == sweep);
}

TEST_CASE("clock budget: each label has its own model", "[schedule]") {
  Profile measured = small();
  const Clocks supported = clocks_of(measured);
  const ConfigId label = config_of(measured.configs, "slow");
  auto& options = measured.stages[0].instructions.at(InstructionKind::kForward);
  options.erase(options.begin() + 1);
  for (Measurement slow : {options.front(), options.back()}) {
    slow.config = label;
    slow.time = slow.time * 2;
    options.push_back(slow);
  }
  const Profile full = completed(measured, supported);
  int slow = 0, modelled = 0;
  for (const Measurement& m : full.stages[0].instructions.at(InstructionKind::kForward)) {
    slow += m.config == label;
    modelled += m.is_modelled;
    if (m.is_modelled && m.config == label) CHECK(m.time > options.front().time * 2);
  }
  CHECK(slow == static_cast<int>(supported[0].size()));
  CHECK(modelled == slow - 2 + 1);
  // The backward has every clock, so that none is left.
  const NextClocks next = next_clocks(measured, supported, {"1f1b", 4});
  CHECK(next.clocks == std::vector<std::optional<Megahertz>>(2));
  CHECK(next.predicted_regret > 0);
}

TEST_CASE("clock budget: what cannot be planned is an input error", "[schedule]") {
  Profile profile = small();
  const Clocks supported = clocks_of(profile);
  SECTION("no blocking power") {
    profile.stages[1].blocking_power.reset();
  }
  SECTION("no backward") {
    profile.stages[1].instructions.erase(InstructionKind::kBackward);
  }
  SECTION("an empty backward") {
    profile.stages[1].instructions.at(InstructionKind::kBackward).clear();
  }
  CHECK_THROWS_AS(next_clocks(profile, supported, {"1f1b", 4}), InputError);
}

// At the fastest time even the exact curves, short of the 0.3 % that each clock has on its own, would leave
// 0.7 % (bench/README.md): there, the half percent is reached only nearly.
TEST_CASE("clock budget: plans from 5 and 8 of 38 clocks are nearly those of all", "[schedule]") {
  const Profile gpt = published();
  struct Sum {
    double all_max = 0;
    double slower = 0;
    double predicted = 0;
  };
  Sum at_5, at_8;
  constexpr int kSeeds = 4;
  for (int seed = 1; seed <= kSeeds; ++seed) {
    CAPTURE(seed);
    Dice dice(static_cast<std::uint64_t>(seed));
    const Profile truth = hidden_truth(gpt, dice);
    const Profile sweep = measurements(truth, dice);
    const PlanJudge judge(truth, kOrder);
    const Clocks supported = clocks_of(truth);
    Clocks chosen(truth.stages.size());
    for (int count = 0; count <= 8; ++count) {
      const Profile measured = only(sweep, chosen);
      const NextClocks next = next_clocks(measured, supported, kOrder);
      if (count == 5 || count == 8) {
        Sum& sum = count == 5 ? at_5 : at_8;
        const Workload believed(completed(measured, supported), kOrder);
        const PlanRegret all_max = judge.at_slowdown(believed, 1);
        CHECK(all_max.overshoot < 0.01);
        sum.all_max += all_max.energy / kSeeds;
        sum.slower += judge.at_slowdown(believed, 1.05).energy / kSeeds;
        sum.predicted += next.predicted_regret / kSeeds;
      }
      add(chosen, next);
    }
  }
  CAPTURE(at_5.all_max, at_5.slower, at_5.predicted, at_8.all_max, at_8.slower, at_8.predicted);
  CHECK(at_5.all_max < 0.01);
  CHECK(at_5.slower < 0.01);
  CHECK(at_8.all_max < 0.0065);
  CHECK(at_8.slower < 0.005);
  for (const Sum& sum : {at_5, at_8}) {
    CHECK(sum.predicted < 2 * sum.all_max);
    CHECK(sum.predicted > sum.slower / 2);
  }
}

}  // namespace
}  // namespace slackline
