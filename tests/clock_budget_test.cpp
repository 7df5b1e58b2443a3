#include "slackline/schedule/clock_budget.h"

#include <algorithm>
#include <set>

#include "catch.h"
#include "hidden_truth.h"
#include "slackline/base/error.h"
#include "slackline/schedule/planner.h"

namespace slackline {
namespace {

const OrderSpec kOrder{"1f1b", 6};

using ClockLists = std::vector<std::vector<Megahertz>>;

ClockLists clocks_of(const Profile& profile) {
  ClockLists clocks;
  for (const StageProfile& stage : profile.stages) {
    clocks.emplace_back();
    for (const Measurement& m : stage.instructions.at(InstructionKind::kForward))
      clocks.back().push_back(m.clock);
  }
  return clocks;
}

Profile nothing_of(Profile profile) {
  for (StageProfile& stage : profile.stages) stage.instructions.clear();
  return profile;
}

void measure(Profile& measured, const Profile& truth, std::size_t stage, Megahertz clock) {
  for (const auto& [kind, options] : truth.stages[stage].instructions) {
    auto& list = measured.stages[stage].instructions[kind];
    list.push_back(*find_measurement(truth.stages[stage], kind, clock));
    std::ranges::sort(list, std::greater<>(), &Measurement::clock);
  }
}

TEST_CASE("clock budget: first the ends, then clocks that are new, and nothing when all are known",
          "[budget]") {
  Profile truth = published(2);
  for (StageProfile& stage : truth.stages) {
    for (auto& [kind, options] : stage.instructions) options.resize(9);
  }
  const ClockLists supported = clocks_of(truth);
  Profile measured = nothing_of(truth);
  std::vector<std::set<Megahertz>> seen(2);
  for (int round = 0; round < 9; ++round) {
    const NextClocks next = next_clocks(measured, supported, kOrder);
    for (std::size_t s = 0; s < 2; ++s) {
      if (round == 0) CHECK(next.clocks[s] == supported[s].front());
      if (round == 1) CHECK(next.clocks[s] == supported[s].back());
      if (!next.clocks[s]) continue;
      CHECK(std::ranges::count(supported[s], *next.clocks[s]) == 1);
      CHECK(seen[s].insert(*next.clocks[s]).second);
      measure(measured, truth, s, *next.clocks[s]);
    }
  }
  for (std::size_t s = 0; s < 2; ++s) {
    for (const Megahertz clock : supported[s]) {
      if (seen[s].insert(clock).second) measure(measured, truth, s, clock);
    }
  }
  const NextClocks none = next_clocks(measured, supported, kOrder);
  CHECK(none.clocks == std::vector<std::optional<Megahertz>>(2));
  CHECK(none.predicted_regret == 0);
}

TEST_CASE("clock budget: a completed profile has every clock, and marks what it adds", "[budget]") {
  const Profile truth = published(2);
  const ClockLists supported = clocks_of(truth);
  Profile measured = nothing_of(truth);
  for (std::size_t s = 0; s < 2; ++s) {
    for (const std::size_t place : {0U, 10U + static_cast<unsigned>(s), 37U}) {
      measure(measured, truth, s, supported[s][place]);
    }
  }
  const Profile whole = completed(measured, supported);
  for (std::size_t s = 0; s < 2; ++s) {
    for (const auto& [kind, options] : whole.stages[s].instructions) {
      REQUIRE(options.size() == 38);
      CHECK(std::ranges::is_sorted(options, std::greater<>(), &Measurement::clock));
      for (const Measurement& m : options) {
        const Measurement* const known = find_measurement(measured.stages[s], kind, m.clock);
        CHECK(m.is_modelled == (known == nullptr));
        if (known != nullptr) CHECK(m == *known);
        CHECK((known != nullptr || (m.time_error > Seconds(0) && m.energy_error > Joules(0))));
      }
    }
  }
}

TEST_CASE("clock budget: a stage without a form of backward cannot be planned for", "[budget]") {
  const Profile truth = published(1);
  const ClockLists supported = clocks_of(truth);
  Profile measured = nothing_of(truth);
  for (const std::size_t place : {0U, 37U}) measure(measured, truth, 0, supported[0][place]);
  measured.stages[0].instructions.erase(InstructionKind::kBackward);
  CHECK_THROWS_AS(next_clocks(measured, supported, kOrder), InputError);
}

/// Energy of a plan's clocks on the truth over that of the truth's own plan, relative; within a slowdown of
/// the all-max iteration.
double regret(const Workload& truth, const Profile& known, double slowdown) {
  const auto plan_of = [slowdown](const Workload& workload) {
    PlanOptions options;
    options.plans = 1;
    options.deadline = to_seconds(workload.evaluate(workload.all_max()).time) * slowdown;
    const Schedule schedule = make_plans(workload, options).schedule;
    return schedule.plans[schedule.chosen];
  };
  const Evaluation real = truth.evaluate(plan_of(Workload(known, truth.order())).clocks);
  const Plan own = plan_of(truth);
  CHECK(to_seconds(real.time) < own.time * 1.006);
  return real.energy / own.energy - 1;
}

TEST_CASE("clock budget: 8 clocks of 38 cost a plan at most half a percent, 5 at most one", "[budget]") {
  for (const std::uint64_t seed : {1U, 2U, 3U}) {
    Dice dice(seed);
    const Workload truth(hidden_truth(dice, std::string("gpt3-175b")), OrderSpec{"1f1b", 12});
    const ClockLists supported = clocks_of(truth.profile());
    Profile measured = nothing_of(truth.profile());
    for (int count = 1; count <= 8; ++count) {
      const NextClocks next = next_clocks(measured, supported, truth.order());
      for (std::size_t s = 0; s < supported.size(); ++s)
        measure(measured, truth.profile(), s, next.clocks[s].value());
      if (count != 5 && count != 8) continue;
      const double most = count == 5 ? 0.01 : 0.005;
      CAPTURE(seed, count);
      CHECK(regret(truth, completed(measured, supported), 1.0) < most);
      CHECK(regret(truth, completed(measured, supported), 1.05) < most);
    }
  }
}

}  // namespace
}  // namespace slackline
