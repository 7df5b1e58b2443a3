#include "slackline/frontier/frontier.h"

#include <algorithm>

#include "catch.h"
#include "random_pipeline.h"
#include "slackline/frontier/optimum.h"
#include "slackline/frontier/parametric_solver.h"
#include "slackline/pipeline/event_times.h"

namespace slackline {
namespace {

struct Solved {
  Problem problem;
  std::vector<Ticks> targets;
  ParametricResult result;
};

/// The frontier of `workload` and its optima at both ends, beyond them, at breakpoints and between.
Solved solve(const Workload& workload, Dice& dice) {
  Problem problem = workload.problem();
  const std::vector<Breakpoint> corners = solve_parametric(problem).breakpoints;
  const Ticks fastest = corners.front().time;
  const Ticks slowest = corners.back().time;
  std::vector<Ticks> targets{slowest, fastest, fastest - 1, slowest + 1};
  for (int i = 0; i < 6; ++i) {
    targets.push_back(
        corners[static_cast<std::size_t>(dice.number(0, static_cast<int>(corners.size()) - 1))].time);
    targets.push_back(fastest + static_cast<Ticks>(dice.part() * static_cast<double>(slowest - fastest)));
  }
  ParametricResult result = solve_parametric(problem, targets);
  return {std::move(problem), std::move(targets), std::move(result)};
}

/// Cost on the frontier. Its slopes are whole, so this is exact.
Cost interpolate(const std::vector<Breakpoint>& corners, Ticks time) {
  for (std::size_t k = 1; k < corners.size(); ++k) {
    if (time > corners[k].time) continue;
    const Cost slope = (corners[k - 1].cost - corners[k].cost) / (corners[k].time - corners[k - 1].time);
    return corners[k].cost + slope * (corners[k].time - time);
  }
  return corners.back().cost;
}

template <class Visit>
void for_random_pipelines(std::uint64_t seed, int rounds, Visit visit) {
  Dice dice(seed);
  for (int round = 0; round < rounds; ++round) {
    CAPTURE(seed, round);
    // Some wide, some long, most small.
    const Workload workload =
        round % 10 == 9 ? random_workload(dice, 6, 24, 20) : random_workload(dice, 4, 6, 8);
    visit(workload, solve(workload, dice), dice);
  }
}

TEST_CASE("frontier: every optimum passes its certificate, at, between and beyond breakpoints",
          "[frontier]") {
  for_random_pipelines(21, 100, [](const Workload&, const Solved& s, Dice&) {
    const auto& corners = s.result.breakpoints;
    REQUIRE(s.result.optima.size() == s.targets.size());
    for (std::size_t k = 0; k < s.targets.size(); ++k) {
      const Optimum& optimum = s.result.optima[k];
      CHECK(check_certificate(s.problem, optimum) == "");
      const Ticks time = std::clamp(s.targets[k], corners.front().time, corners.back().time);
      CHECK(optimum.event_times[s.problem.sink()] == time);
      CHECK((primal_cost(s.problem, optimum) == interpolate(corners, time)));
    }
  });
}

TEST_CASE("frontier: energy never rises when the deadline loosens, and ever less is saved", "[frontier]") {
  // Effective cost, that is; slopes are whole microwatts and strictly flatten, so no three corners are in
  // line.
  for_random_pipelines(22, 100, [](const Workload&, const Solved& s, Dice&) {
    const auto& corners = s.result.breakpoints;
    REQUIRE_FALSE(corners.empty());
    CHECK((corners.back().cost == 0));
    Cost steeper = static_cast<Cost>(1) << 100;
    for (std::size_t k = 1; k < corners.size(); ++k) {
      REQUIRE(corners[k - 1].time < corners[k].time);
      const Cost fall = corners[k - 1].cost - corners[k].cost;
      const Ticks step = corners[k].time - corners[k - 1].time;
      CHECK((fall % step == 0));
      CHECK((fall / step > 0));
      CHECK((fall / step < steeper));
      steeper = fall / step;
    }
  });
}

TEST_CASE("frontier: its ends are the longest paths at the fastest and at the cheapest options",
          "[frontier]") {
  for_random_pipelines(23, 50, [](const Workload& workload, const Solved& s, Dice&) {
    std::vector<Ticks> fast;
    std::vector<Ticks> cheap;
    for (InstructionIndex i = 0; i < workload.dag().size(); ++i) {
      fast.push_back(workload.curve(i).fastest().time);
      cheap.push_back(workload.curve(i).cheapest().time);
    }
    CHECK(s.result.breakpoints.front().time == event_times(workload.dag(), fast).makespan);
    CHECK(s.result.breakpoints.back().time == event_times(workload.dag(), cheap).makespan);
  });
}

TEST_CASE("frontier: a flow bounds the cost at every time, not just at its own", "[frontier]") {
  for_random_pipelines(24, 60, [](const Workload&, const Solved& s, Dice&) {
    for (const Optimum& proof : s.result.optima) {
      for (const Optimum& other : s.result.optima) {
        const Ticks time = other.event_times[s.problem.sink()];
        CHECK((dual_bound(s.problem, proof.flow, time) <= primal_cost(s.problem, other)));
      }
    }
  });
}

TEST_CASE("frontier: no choice of clocks beats it", "[frontier]") {
  for_random_pipelines(25, 60, [](const Workload& workload, const Solved& s, Dice& dice) {
    const Frontier frontier = workload.frontier(s.result.breakpoints);
    for (int trial = 0; trial < 20; ++trial) {
      Clocks clocks;
      for (InstructionIndex i = 0; i < workload.dag().size(); ++i) {
        const auto& options = workload.curve(i).options;
        clocks.push_back(
            options[static_cast<std::size_t>(dice.number(0, static_cast<int>(options.size()) - 1))].clock);
      }
      const Evaluation found = workload.evaluate(clocks);
      CHECK(found.energy >= frontier.energy(found.time) * (1 - 1e-9));
    }
  });
}

TEST_CASE("frontier: T_E is where its energy is least", "[frontier]") {
  for_random_pipelines(26, 60, [](const Workload& workload, const Solved& s, Dice& dice) {
    const Frontier frontier = workload.frontier(s.result.breakpoints);
    const Joules least = frontier.energy(frontier.least_energy_time());
    const double span = static_cast<double>(frontier.slowest() - frontier.fastest());
    for (int trial = 0; trial < 20; ++trial) {
      const Ticks time = frontier.fastest() + static_cast<Ticks>(span * dice.between(0, 1.5));
      CHECK(frontier.energy(time) >= least * (1 - 1e-12));
    }
    // Behind the end of the frontier only waiting is added; before its start nothing is possible.
    const Ticks late = frontier.slowest() + to_ticks(Seconds(1));
    const Joules waiting = workload.blocking_power() * Seconds(1);
    CHECK(std::abs((frontier.energy(late) - frontier.energy(frontier.slowest()) - waiting).value()) < 1e-6);
  });
}

TEST_CASE("frontier: the answer does not depend on which targets are asked for, or in what order",
          "[frontier]") {
  for_random_pipelines(27, 30, [](const Workload&, const Solved& s, Dice&) {
    std::vector<Ticks> reversed(s.targets.rbegin(), s.targets.rend());
    const ParametricResult again = solve_parametric(s.problem, reversed);
    REQUIRE(again.breakpoints.size() == s.result.breakpoints.size());
    for (std::size_t k = 0; k < again.breakpoints.size(); ++k) {
      CHECK(again.breakpoints[k].time == s.result.breakpoints[k].time);
      CHECK((again.breakpoints[k].cost == s.result.breakpoints[k].cost));
    }
    for (std::size_t k = 0; k < s.targets.size(); ++k) {
      CHECK(again.optima[s.targets.size() - 1 - k].event_times == s.result.optima[k].event_times);
      CHECK(again.optima[s.targets.size() - 1 - k].flow == s.result.optima[k].flow);
    }
  });
}

TEST_CASE("frontier: the observer hears of rising parts from 0 to 1", "[frontier]") {
  Dice dice(28);
  const Workload workload(random_profile(dice, 6, 30), {"1f1b", 24});
  double last = 0;
  int calls = 0;
  (void)solve_parametric(workload.problem(), {}, [&](double done) {
    CHECK(done >= last);
    CHECK(done <= 1);
    last = done;
    ++calls;
  });
  CHECK(calls > 0);
}

TEST_CASE("certificate: a window shorter than what was paid for is refused", "[frontier]") {
  // A window beyond the cheapest option is free, so only up to there.
  for_random_pipelines(31, 30, [](const Workload&, const Solved& s, Dice&) {
    for (const Optimum& optimum : s.result.optima) {
      for (std::uint32_t i = 0; i < s.problem.instructions(); ++i) {
        if (optimum.window(i) > s.problem.curve(i).times.back()) continue;
        Optimum tampered = optimum;
        --tampered.event_times[2 * i + 1];
        CHECK(check_certificate(s.problem, tampered) != "");
      }
    }
  });
}

TEST_CASE("certificate: an event before what it waits for is refused", "[frontier]") {
  for_random_pipelines(32, 30, [](const Workload&, const Solved& s, Dice&) {
    const Optimum& optimum = s.result.optima.back();
    for (std::uint32_t a = s.problem.instructions(); a < s.problem.arcs().size(); ++a) {
      const Arc arc = s.problem.arcs()[a];
      Optimum tampered = optimum;
      tampered.event_times[arc.tail] = tampered.event_times[arc.head] + 1;
      CHECK(check_certificate(s.problem, tampered) != "");
    }
  });
}

TEST_CASE("certificate: a flow changed on any one arc is refused", "[frontier]") {
  for_random_pipelines(33, 30, [](const Workload&, const Solved& s, Dice&) {
    const Optimum& optimum = s.result.optima.back();
    for (std::uint32_t a = 0; a < s.problem.arcs().size(); ++a) {
      for (const Microwatts change : {1, -1}) {
        Optimum tampered = optimum;
        tampered.flow[a] += change;
        CHECK(check_certificate(s.problem, tampered) != "");
      }
    }
  });
}

TEST_CASE("certificate: a flow that is conserved but wrong is refused", "[frontier]") {
  // Negated, scaled or zero, it is still conserved. Only between the ends: at the fastest time a larger flow
  // is as good, at the slowest none at all.
  for_random_pipelines(34, 40, [](const Workload&, const Solved& s, Dice&) {
    for (const Optimum& optimum : s.result.optima) {
      const Ticks time = optimum.event_times[s.problem.sink()];
      if (time <= s.result.breakpoints.front().time || time >= s.result.breakpoints.back().time) continue;
      for (const Microwatts factor : {-1, 0, 1'000'000}) {
        Optimum tampered = optimum;
        for (Microwatts& flow : tampered.flow) flow *= factor;
        CHECK(check_certificate(s.problem, tampered) != "");
      }
    }
  });
}

TEST_CASE("certificate: the proof for one time does not prove another", "[frontier]") {
  for_random_pipelines(35, 30, [](const Workload&, const Solved& s, Dice&) {
    for (const Optimum& a : s.result.optima) {
      for (const Optimum& b : s.result.optima) {
        const Ticks time = b.event_times[s.problem.sink()];
        const bool proves = dual_bound(s.problem, a.flow, time) == primal_cost(s.problem, b);
        CHECK((check_certificate(s.problem, {b.event_times, a.flow}) == "") == proves);
      }
    }
    Optimum later = s.result.optima[1];  // the fastest: its flow prices time, unless nothing can be traded
    later.event_times[s.problem.sink()] += 1;
    if (s.result.breakpoints.size() > 1) CHECK(check_certificate(s.problem, later) != "");
  });
}

TEST_CASE("certificate: answers of the wrong size, start or range are refused", "[frontier]") {
  for_random_pipelines(36, 10, [](const Workload&, const Solved& s, Dice&) {
    const Optimum& optimum = s.result.optima.back();
    CHECK(check_certificate(s.problem, {}) != "");
    CHECK(check_certificate(s.problem, {optimum.event_times, {}}) != "");
    CHECK(check_certificate(s.problem, {{}, optimum.flow}) != "");
    Optimum tampered = optimum;
    tampered.flow.push_back(0);
    CHECK(check_certificate(s.problem, tampered) != "");
    tampered = optimum;
    tampered.event_times.push_back(0);
    CHECK(check_certificate(s.problem, tampered) != "");
    tampered = optimum;
    for (Ticks& time : tampered.event_times) time += 1;
    CHECK(check_certificate(s.problem, tampered) != "");
    tampered = optimum;
    tampered.event_times[s.problem.sink()] = std::numeric_limits<Ticks>::max();
    CHECK(check_certificate(s.problem, tampered) != "");
  });
}

}  // namespace
}  // namespace slackline
