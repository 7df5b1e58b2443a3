// What a program outside the project writes: a profile in code, and the plan for it.
#include <cstdio>

#include "slackline/profile/profile.h"
#include "slackline/schedule/planner.h"
#include "slackline/schedule/schedule_io.h"

int main() {
  using namespace slackline;
  const auto stage = [](double work) {
    StageProfile result;
    result.blocking_power = Watts(80);
    for (const InstructionKind kind : {InstructionKind::kForward, InstructionKind::kBackward}) {
      const double seconds = kind == InstructionKind::kForward ? work : 2 * work;
      result.instructions[kind] = {{Megahertz(1400), Seconds(seconds), Joules(400 * seconds)},
                                   {Megahertz(1000), Seconds(1.25 * seconds), Joules(300 * seconds)}};
    }
    return result;
  };
  Profile profile;
  profile.stages = {stage(0.010), stage(0.015)};  // the first stage has slack
  const Schedule schedule = make_plans(Workload(profile, {"1f1b", 4}), PlanOptions{}).schedule;
  const Plan& plan = schedule.plans[schedule.chosen];
  std::printf("%.6f s, %.3f J, %.2f %% saved\n", plan.time.value(), plan.energy.value(),
              schedule.saving_percent(plan));
  const bool reads_back =
      parse_schedule_yaml("memory", to_yaml(schedule)).plans.size() == schedule.plans.size();
  return plan.time <= schedule.all_max_time && schedule.saving_percent(plan) > 1 && reads_back ? 0 : 1;
}
