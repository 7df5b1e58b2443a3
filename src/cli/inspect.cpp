#include <cstdio>
#include <memory>
#include <optional>

#include "command.h"
#include "slackline/base/error.h"
#include "slackline/base/file.h"
#include "slackline/report/schedule_report.h"
#include "slackline/schedule/schedule_io.h"

namespace slackline {
namespace {

struct InspectFlags {
  std::string schedule;
  std::optional<int> plan;
  std::string clocks_csv;
  bool json = false;
};

int run(const InspectFlags& flags) {
  Schedule schedule = read_schedule(flags.schedule);
  if (flags.plan) schedule.chosen = plan_index(schedule, *flags.plan);
  if (!flags.clocks_csv.empty()) {
    write_file(flags.clocks_csv, clocks_csv(schedule, schedule.plans[schedule.chosen]));
    if (flags.clocks_csv == "-") return kOk;
  }
  const std::string title = (schedule.model.empty() ? std::string("model not named") : schedule.model) +
                            ", " + std::to_string(schedule.stages.size()) + " stages, " +
                            std::to_string(schedule.order_spec.microbatches) + " microbatches, " +
                            schedule.order_spec.name + "\n\n";
  std::fputs(flags.json ? schedule_json(schedule).c_str()
                        : (title + summary_text(schedule) + "\n" + plans_text(schedule)).c_str(),
             stdout);
  return kOk;
}

}  // namespace

std::size_t plan_index(const Schedule& schedule, int plan) {
  const auto count = static_cast<int>(schedule.plans.size());
  if (plan >= 0 && plan < count) return static_cast<std::size_t>(plan);
  throw InputError("", 0, "--plan",
                   "plan " + std::to_string(plan) + " does not exist; the schedule has plans 0 to " +
                       std::to_string(count - 1));
}

void add_inspect(CLI::App& app, Action& action) {
  auto flags = std::make_shared<InspectFlags>();
  CLI::App* command = app.add_subcommand("inspect", "Show what a schedule holds");
  command->add_option("SCHEDULE", flags->schedule, "Schedule to show")->required();
  command->add_option("--plan", flags->plan, "Plan to show, from 0 (default: the chosen one)");
  command->add_option("--clocks-csv", flags->clocks_csv,
                      "Write that plan's clocks: stage,seq,instruction,microbatch,clock_mhz");
  command->add_flag("--json", flags->json, "Print as JSON");
  command->footer("Example: slackline inspect gpt3.yaml --plan 0 --clocks-csv clocks.csv");
  command->callback([&action, flags] { action = [flags] { return run(*flags); }; });
}

}  // namespace slackline
