#include "slackline/base/number_text.h"
#include "slackline/profile/profile.h"
#include "slackline/schedule/schedule_io.h"

namespace slackline {

std::string frontier_csv(const Frontier& frontier) {
  std::string text = "time_s,energy_j\n";
  for (const Breakpoint& point : frontier.breakpoints()) {
    text += exact_text(to_seconds(point.time).value()) + "," +
            exact_text(frontier.energy(point.time).value()) + "\n";
  }
  return text;
}

std::string plans_csv(const Schedule& schedule) {
  std::string text = "time_s,energy_j,bound_j,gap_percent\n";
  for (const Plan& plan : schedule.plans) {
    text += exact_text(plan.time.value()) + "," + exact_text(plan.energy.value()) + "," +
            exact_text(plan.bound.value()) + "," + exact_text(plan.gap_percent()) + "\n";
  }
  return text;
}

std::string clocks_csv(const Schedule& schedule, const Plan& plan) {
  const bool labelled = !schedule.configs.empty();
  std::string text = labelled ? "stage,seq,instruction,microbatch,clock_mhz,config\n"
                              : "stage,seq,instruction,microbatch,clock_mhz\n";
  std::size_t index = 0;
  for (const auto& stage : schedule.order()) {
    for (std::size_t seq = 0; seq < stage.size(); ++seq) {
      const Instruction& instruction = stage[seq];
      text += std::to_string(instruction.stage.value()) + "," + std::to_string(seq) + "," +
              std::string(name_of(instruction.kind)) + "," + std::to_string(instruction.microbatch.value()) +
              "," + std::to_string(plan.clocks[index].mhz.value());
      if (labelled) text += "," + label_of(schedule.configs, plan.clocks[index].config);
      text += "\n";
      ++index;
    }
  }
  return text;
}

}  // namespace slackline
