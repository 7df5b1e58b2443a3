#include "slackline/schedule/verification.h"

#include <algorithm>
#include <cmath>
#include <utility>

#include "slackline/base/error.h"
#include "slackline/base/number_text.h"
#include "slackline/schedule/preparation.h"

namespace slackline {
namespace {

constexpr double kTolerance = 1e-9;

void compare(const std::string& what, double said, double found, std::string& fault) {
  if (std::abs(said - found) <= kTolerance * std::max(std::abs(said), std::abs(found)) || !fault.empty())
    return;
  fault = what + " is " + exact_text(found) + ", not " + exact_text(said);
}

}  // namespace

Profile as_planned(const Schedule& schedule, Profile profile) {
  if (schedule.stages.size() != profile.stages.size()) {
    throw InputError("", 0, "stages",
                     "the schedule is for " + std::to_string(schedule.stages.size()) +
                         " stages, the profile has " + std::to_string(profile.stages.size()));
  }
  for (std::size_t s = 0; s < profile.stages.size(); ++s) {
    profile.stages[s].tensor_parallel = schedule.stages[s].tensor_parallel;
    profile.stages[s].blocking_power = schedule.stages[s].blocking_power;
    profile.stages[s].transfer = schedule.stages[s].transfer;
  }
  for (const std::string& request : schedule.derived) prepare(profile, request);
  const StageKinds kinds = special_kinds_of(profile);
  for (std::size_t s = 0; s < kinds.size(); ++s) {
    if (kinds[s] == schedule.stages[s].special_kinds) continue;
    throw InputError(
        "", 0, "special_kinds",
        "stage " + std::to_string(s) +
            " of the profile has other fixed-time kinds or overlapped pairs than the schedule's");
  }
  if (profile.configs != schedule.configs) {
    throw InputError("", 0, "configs", "the labels of the profile are not those of the schedule");
  }
  return profile;
}

std::vector<PlanVerification> verify(const Schedule& schedule, const Profile& profile) {
  const Workload workload(as_planned(schedule, profile), schedule.order_spec);
  const Problem problem = workload.problem();
  std::vector<Evaluation> evaluations;
  std::vector<Ticks> times;
  for (const Plan& plan : schedule.plans) {
    evaluations.push_back(workload.evaluate(plan.clocks));
    times.push_back(evaluations.back().time);
  }
  ParametricResult solved = solve_parametric(problem, times);
  const Frontier frontier = workload.frontier(std::move(solved.breakpoints));
  const Evaluation all_max = workload.evaluate(workload.all_max());

  std::vector<PlanVerification> found;
  for (std::size_t k = 0; k < schedule.plans.size(); ++k) {
    const Plan& plan = schedule.plans[k];
    const Ticks time = evaluations[k].time;
    // The bound of the proof itself: at its own time the flow's value is what no clocks can undercut.
    const Joules bound = workload.cheapest_cost() +
                         to_joules(dual_bound(problem, solved.optima[k].flow, time)) +
                         workload.blocking_power() * to_seconds(time);
    PlanVerification result{to_seconds(time), evaluations[k].energy, bound,
                            check_certificate(problem, solved.optima[k])};
    compare("time_s", plan.time.value(), result.time.value(), result.fault);
    compare("energy_j", plan.energy.value(), result.energy.value(), result.fault);
    const Seconds late = to_seconds(evaluations[k].late_time);
    compare("late_time_s", plan.late_time.value_or(plan.time).value(), late.value(), result.fault);
    compare("bound_j", plan.bound.value(), bound.value(), result.fault);
    compare("all_max_time_s", schedule.all_max_time.value(), to_seconds(all_max.time).value(), result.fault);
    compare("all_max_energy_j", schedule.all_max_energy.value(), all_max.energy.value(), result.fault);
    compare("fastest_time_s", schedule.fastest_time.value(), to_seconds(frontier.fastest()).value(),
            result.fault);
    compare("least_energy_time_s", schedule.least_energy_time.value(),
            to_seconds(frontier.least_energy_time()).value(), result.fault);
    compare("cheapest_time_s", schedule.cheapest_time.value(), to_seconds(frontier.slowest()).value(),
            result.fault);
    for (std::size_t stage = 0; stage < schedule.stages.size(); ++stage) {
      compare("baseline_clock_mhz of stage " + std::to_string(stage),
              schedule.stages[stage].baseline_clock.value(), highest_clock(profile.stages[stage]).value(),
              result.fault);
    }
    if (result.fault.empty() && result.energy < bound * (1 - kTolerance))
      result.fault = "energy is below the bound";
    found.push_back(std::move(result));
  }
  return found;
}

}  // namespace slackline
