#include <cstdio>
#include <memory>
#include <optional>
#include <utility>

#include "command.h"
#include "slackline/base/error.h"
#include "slackline/base/file.h"
#include "slackline/report/progress_bar.h"
#include "slackline/report/schedule_report.h"
#include "slackline/schedule/planner.h"
#include "slackline/schedule/schedule_io.h"
#include "workload_flags.h"

namespace slackline {
namespace {

struct PlanFlags {
  WorkloadFlags workload;
  int plans = 32;
  double slowdown = 0;
  std::optional<double> deadline;
  std::string output;
  std::string frontier_csv;
  std::string plans_csv;
  bool json = false;
};

int run(const PlanFlags& flags) {
  if (flags.plans < 1 || flags.plans > 10'000) throw InputError("", 0, "--plans", "must be from 1 to 10000");
  const Workload workload = load_workload(flags.workload);
  PlanOptions options;
  options.plans = flags.plans;
  if (flags.deadline) {
    options.deadline = Seconds(checked("--deadline", *flags.deadline, 0));
  } else if (flags.slowdown != 0) {
    const double factor = 1 + checked("--slowdown", flags.slowdown, 0) / 100;
    options.deadline = to_seconds(workload.evaluate(workload.all_max()).time) * factor;
  }
  const Planning planning = [&] {
    ProgressBar bar("planning");
    return make_plans(workload, options, [&](double done) { bar.show(done); });
  }();
  const Schedule& schedule = planning.schedule;
  if (!flags.output.empty()) write_file(flags.output, to_yaml(schedule));
  if (!flags.frontier_csv.empty()) write_file(flags.frontier_csv, frontier_csv(planning.frontier));
  if (!flags.plans_csv.empty()) write_file(flags.plans_csv, plans_csv(schedule));
  if (flags.output != "-" && flags.frontier_csv != "-" && flags.plans_csv != "-") {
    std::fputs((flags.json ? schedule_json(schedule) : summary_text(schedule)).c_str(), stdout);
  }
  return kOk;
}

}  // namespace

void add_plan(CLI::App& app, Action& action) {
  auto flags = std::make_shared<PlanFlags>();
  CLI::App* command =
      app.add_subcommand("plan", "Time-energy frontier and frequency schedules of a profiled model");
  add_workload_flags(*command, flags->workload);
  command->add_option("--plans", flags->plans, "Plans to keep along the frontier")->capture_default_str();
  CLI::Option* slowdown =
      command
          ->add_option("--slowdown", flags->slowdown,
                       "Choose the plan that may be this many percent slower than all-max")
          ->capture_default_str();
  command->add_option("--deadline", flags->deadline, "Choose the plan that takes at most this many seconds")
      ->excludes(slowdown);
  command->add_option("-o,--output", flags->output, "Write the schedule (YAML) here; - is standard output");
  command->add_option("--frontier-csv", flags->frontier_csv, "Write every breakpoint: time_s,energy_j");
  command->add_option("--plans-csv", flags->plans_csv,
                      "Write the kept plans: time_s,energy_j,bound_j,gap_percent");
  command->add_flag("--json", flags->json, "Print the result as JSON");
  command->footer(
      "Energy is of one pipeline, all its GPUs. The bound is exact: no clocks whatever use less in that "
      "time.\n"
      "Example: slackline plan profiles/gpt3-175b-a100-sxm.yaml --order 1f1b --microbatches 12 -o gpt3.yaml");
  command->callback([&action, flags] { action = [flags] { return run(*flags); }; });
}

}  // namespace slackline
