#include "slackline/schedule/planner.h"

#include <algorithm>
#include <cmath>
#include <set>
#include <stdexcept>
#include <utility>

#include "slackline/base/error.h"
#include "slackline/base/number_text.h"
#include "slackline/schedule/clock_search.h"

namespace slackline {
namespace {

struct Candidate {
  Clocks clocks;
  Evaluation evaluation;
};

Ticks deadline_of(const Workload& workload, const PlanOptions& options, const Frontier& frontier) {
  if (!options.deadline) return workload.evaluate(workload.all_max()).time;
  const Ticks deadline = options.deadline->value() * kTicksPerSecond >= static_cast<double>(kMaxTicks)
                             ? kMaxTicks
                             : to_ticks(*options.deadline);
  if (deadline < frontier.fastest()) {
    throw NoAnswer("no clocks reach " + exact_text(options.deadline->value()) +
                   " s; the fastest possible is " +
                   exact_text(std::ceil(to_seconds(frontier.fastest()).value() * 1e6) / 1e6) + " s");
  }
  return deadline;
}

/// `count` times, among them `wanted`, which takes the place of its nearest neighbour.
std::vector<Ticks> target_times(const Frontier& frontier, Ticks wanted, int count) {
  if (count == 1) return {wanted};
  std::vector<Ticks> targets;
  const double span = static_cast<double>(frontier.slowest() - frontier.fastest());
  for (int k = 0; k < count; ++k) {
    targets.push_back(frontier.fastest() + static_cast<Ticks>(span * k / (count - 1)));
  }
  targets.back() = frontier.slowest();
  const auto replace_nearest = [&](Ticks time) {
    // The ends stay; with two plans there is nothing between them to give up.
    if (targets.size() <= 2) return targets.push_back(time);
    *std::min_element(targets.begin() + 1, targets.end() - 1,
                      [&](Ticks a, Ticks b) { return std::abs(a - time) < std::abs(b - time); }) = time;
  };
  replace_nearest(frontier.least_energy_time());
  replace_nearest(wanted);
  std::sort(targets.begin(), targets.end());
  targets.erase(std::unique(targets.begin(), targets.end()), targets.end());
  return targets;
}

/// Rising time, falling effective cost: no plan is worse than another in both.
std::vector<Candidate> without_dominated(const Workload& workload, std::vector<Candidate> candidates) {
  const auto cost = [&](const Candidate& c) {
    return c.evaluation.energy - workload.blocking_power() * to_seconds(c.evaluation.time);
  };
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

}  // namespace

Planning make_plans(const Workload& workload, const PlanOptions& options, const ProgressObserver& observer) {
  const Problem problem = workload.problem();
  ParametricResult solved = solve_parametric(problem, {}, between(observer, 0, kFrontierDone));
  Planning planning{{}, workload.frontier(std::move(solved.breakpoints)), solved.stats};
  const Frontier& frontier = planning.frontier;
  planning.schedule = describe(workload, frontier);

  const Ticks deadline = deadline_of(workload, options, frontier);
  const std::vector<Ticks> targets =
      target_times(frontier, std::min(deadline, frontier.least_energy_time()), options.plans);
  const std::vector<Optimum> starts =
      solve_parametric(problem, targets, between(observer, kFrontierDone, kTargetsDone)).optima;

  std::vector<Candidate> candidates;
  for (const Optimum& start : starts) {
    Clocks clocks = search_clocks(workload, problem, start);
    const Evaluation evaluation = workload.evaluate(clocks);
    candidates.push_back({std::move(clocks), evaluation});
    if (observer) {
      observer(kTargetsDone + (kSearchDone - kTargetsDone) * static_cast<double>(candidates.size()) /
                                  static_cast<double>(starts.size()));
    }
  }
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
    const bool better = schedule.plans[k].energy < schedule.plans[schedule.chosen].energy;
    if (evaluation.time <= deadline && better) schedule.chosen = k;
  }
  return planning;
}

}  // namespace slackline
