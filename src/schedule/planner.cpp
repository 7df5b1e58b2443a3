#include "slackline/schedule/planner.h"

#include <algorithm>
#include <cmath>
#include <optional>
#include <stdexcept>
#include <utility>

#include "slackline/base/error.h"
#include "slackline/base/number_text.h"
#include "slackline/base/parallel.h"
#include "slackline/schedule/clock_search.h"
#include "slackline/schedule/plan_times.h"

namespace slackline {
namespace {

struct Candidate {
  Clocks clocks;
  Evaluation evaluation;
};

/// What the chosen plan has to keep.
struct Goal {
  Ticks deadline = kMaxTicks;
  std::optional<Watts> power_cap;
  /// Times at which a plan may be the best one.
  std::vector<Ticks> wanted;
};

Ticks checked_deadline(const Frontier& frontier, Seconds asked) {
  const Ticks deadline =
      asked.value() * kTicksPerSecond >= static_cast<double>(kMaxTicks) ? kMaxTicks : to_ticks(asked);
  if (deadline < frontier.fastest()) {
    throw NoAnswer("no clocks reach " + exact_text(asked.value()) + " s; the fastest possible is " +
                   exact_text(std::ceil(to_seconds(frontier.fastest()).value() * 1e6) / 1e6) + " s");
  }
  return deadline;
}

/// Clocks draw a little more than the bound: how much is known only once they are found.
std::vector<Ticks> times_near(const Frontier& frontier, Watts cap) {
  std::vector<Ticks> times;
  for (const double reserve : {0.0, 5e-4, 1e-3, 2e-3, 4e-3, 8e-3}) {
    if (const auto time = frontier.fastest_within(cap * (1 - reserve))) times.push_back(*time);
  }
  if (times.empty()) {
    const Ticks thriftiest = frontier.least_power_time();
    const Watts least = frontier.energy(thriftiest) / to_seconds(thriftiest);
    throw NoAnswer("no plan draws only " + exact_text(cap.value()) + " W on average; the least is " +
                   exact_text(std::ceil(least.value() * 1e3) / 1e3) + " W, at " +
                   fixed_text(to_seconds(thriftiest).value(), 3) + " s");
  }
  times.push_back(frontier.slowest());  // where clocks are exact
  return times;
}

Goal make_goal(const Workload& workload, const PlanOptions& options, const Frontier& frontier) {
  Goal goal;
  if (options.power_cap) {
    goal.power_cap = options.power_cap;
    goal.wanted = times_near(frontier, *options.power_cap);
    return goal;
  }
  if (!options.least_energy) {
    goal.deadline = options.deadline ? checked_deadline(frontier, *options.deadline)
                                     : workload.evaluate(workload.all_max()).time;
  }
  goal.wanted = {std::min(goal.deadline, frontier.least_energy_time())};
  return goal;
}

std::vector<Ticks> target_times(const Frontier& frontier, const Goal& goal, std::optional<int> count) {
  if (count == 1) return goal.wanted;
  std::vector<Ticks> kept = goal.wanted;
  kept.push_back(frontier.least_energy_time());
  return count ? spread_times(frontier, kept, static_cast<std::size_t>(*count))
               : times_within(frontier, kept, kAutomaticLoss);
}

Joules effective_cost(const Workload& workload, const Candidate& candidate) {
  const Evaluation& found = candidate.evaluation;
  return found.energy - workload.blocking_power() * to_seconds(found.time);
}

/// Rising time, falling effective cost: no plan is worse than another in both.
std::vector<Candidate> without_dominated(const Workload& workload, std::vector<Candidate> candidates) {
  const auto cost = [&](const Candidate& c) { return effective_cost(workload, c); };
  std::stable_sort(candidates.begin(), candidates.end(), [&](const Candidate& a, const Candidate& b) {
    return a.evaluation.time != b.evaluation.time ? a.evaluation.time < b.evaluation.time : cost(a) < cost(b);
  });
  std::vector<Candidate> kept;
  for (Candidate& candidate : candidates) {
    if (kept.empty() || cost(candidate) < cost(kept.back())) kept.push_back(std::move(candidate));
  }
  return kept;
}

void require_proof(const Problem& problem, const Optimum& optimum) {
  if (const std::string fault = check_certificate(problem, optimum); !fault.empty()) {
    throw std::logic_error("the solver's answer fails its certificate: " + fault);
  }
}

Schedule describe(const Workload& workload, const Frontier& frontier) {
  Schedule schedule;
  schedule.model = workload.profile().model;
  schedule.gpu = workload.profile().gpu;
  schedule.order_spec = workload.order();
  schedule.configs = workload.profile().configs;
  schedule.derived = workload.profile().derived;
  for (std::size_t s = 0; s < workload.profile().stages.size(); ++s) {
    const StageProfile& stage = workload.profile().stages[s];
    schedule.stages.push_back({stage.tensor_parallel, *stage.blocking_power, highest_clock(stage),
                               workload.special_kinds()[s], stage.transfer});
  }
  const Evaluation all_max = workload.evaluate(workload.all_max());
  schedule.all_max_time = to_seconds(all_max.time);
  schedule.all_max_energy = all_max.energy;
  schedule.fastest_time = to_seconds(frontier.fastest());
  schedule.least_energy_time = to_seconds(frontier.least_energy_time());
  schedule.cheapest_time = to_seconds(frontier.slowest());
  return schedule;
}

/// Shares of the whole work, for the progress bar.
constexpr double kFrontierDone = 0.2;
constexpr double kTargetsDone = 0.4;
constexpr double kSearchDone = 0.8;

ProgressObserver between(const ProgressObserver& observer, double begin, double end) {
  if (!observer) return {};
  return [=](double part) { observer(begin + part * (end - begin)); };
}

/// Plans come by rising time.
std::size_t choose(const std::vector<Plan>& plans, const Goal& goal) {
  if (goal.power_cap) {
    const auto within = std::find_if(plans.begin(), plans.end(), [&](const Plan& plan) {
      return plan.energy <= *goal.power_cap * plan.time;
    });
    if (within == plans.end()) {
      throw NoAnswer("no plan that was found draws only " + exact_text(goal.power_cap->value()) +
                     " W on average, though the bound allows it; try a few more watts");
    }
    return static_cast<std::size_t>(within - plans.begin());
  }
  std::size_t chosen = 0;
  for (std::size_t k = 1; k < plans.size(); ++k) {
    if (to_ticks(plans[k].time) <= goal.deadline && plans[k].energy < plans[chosen].energy) chosen = k;
  }
  return chosen;
}

}  // namespace

Schedule schedule_of(const Workload& workload, const Clocks& clocks) {
  const Problem problem = workload.problem();
  const Frontier frontier = workload.frontier(solve_parametric(problem).breakpoints);
  const Evaluation found = workload.evaluate(clocks);
  const std::vector<Optimum> proof = solve_parametric(problem, {found.time}).optima;
  require_proof(problem, proof.front());
  Schedule schedule = describe(workload, frontier);
  schedule.plans.push_back(
      {to_seconds(found.time), found.energy, std::min(frontier.energy(found.time), found.energy), clocks});
  if (found.late_time > found.time) schedule.plans.back().late_time = to_seconds(found.late_time);
  return schedule;
}

Planning make_plans(const Workload& workload, const PlanOptions& options, const ProgressObserver& observer) {
  const Problem problem = workload.problem();
  ParametricResult solved = solve_parametric(problem, {}, between(observer, 0, kFrontierDone));
  Planning planning{{}, workload.frontier(std::move(solved.breakpoints)), solved.stats};
  const Frontier& frontier = planning.frontier;
  planning.schedule = describe(workload, frontier);

  const Goal goal = make_goal(workload, options, frontier);
  const std::vector<Ticks> targets = target_times(frontier, goal, options.plans);
  const std::vector<Optimum> starts =
      solve_parametric(problem, targets, between(observer, kFrontierDone, kTargetsDone)).optima;

  const Candidate all_max{workload.all_max(), workload.evaluate(workload.all_max())};
  std::vector<Candidate> candidates(starts.size());
  const ProgressObserver search_observer = between(observer, kTargetsDone, kSearchDone);
  for_each_in_parallel(
      starts.size(),
      [&](std::size_t k) {
        Candidate& found = candidates[k];
        found.clocks = search_clocks(workload, problem, starts[k]);
        found.evaluation = workload.evaluate(found.clocks);
        // On tiny pipelines what people run today can be better.
        const bool all_max_fits = all_max.evaluation.time <= targets[k];
        if (all_max_fits && effective_cost(workload, all_max) < effective_cost(workload, found))
          found = all_max;
      },
      [&](std::size_t done) {
        if (search_observer) search_observer(static_cast<double>(done) / static_cast<double>(starts.size()));
      });
  candidates = without_dominated(workload, std::move(candidates));

  std::vector<Ticks> own_times;
  for (const Candidate& candidate : candidates) own_times.push_back(candidate.evaluation.time);
  const std::vector<Optimum> proofs =
      solve_parametric(problem, own_times, between(observer, kSearchDone, 1)).optima;
  Schedule& schedule = planning.schedule;
  for (std::size_t k = 0; k < candidates.size(); ++k) {
    require_proof(problem, proofs[k]);
    const Evaluation& evaluation = candidates[k].evaluation;
    // A plan that is optimal may lie below its bound by the rounding of the sums.
    const Joules bound = std::min(frontier.energy(evaluation.time), evaluation.energy);
    schedule.plans.push_back(
        {to_seconds(evaluation.time), evaluation.energy, bound, std::move(candidates[k].clocks)});
    if (evaluation.late_time > evaluation.time) {
      schedule.plans.back().late_time = to_seconds(evaluation.late_time);
    }
  }
  schedule.chosen = choose(schedule.plans, goal);
  if (options.plans == 1) {  // a power cap tries several
    schedule.plans = {std::move(schedule.plans[schedule.chosen])};
    schedule.chosen = 0;
  }
  return planning;
}

}  // namespace slackline
