#include <cmath>
#include <cstdio>
#include <memory>
#include <optional>
#include <utility>

#include "command.h"
#include "slackline/base/error.h"
#include "slackline/base/file.h"
#include "slackline/profile/profile_io.h"
#include "slackline/report/progress_bar.h"
#include "slackline/report/schedule_report.h"
#include "slackline/schedule/planner.h"
#include "slackline/schedule/schedule_io.h"

namespace slackline {
namespace {

struct PlanFlags {
  std::string profile;
  std::string order = "1f1b";
  std::int64_t microbatches = 0;
  std::optional<int> stages;
  std::optional<int> tensor_parallel;
  std::optional<double> blocking_power;
  int plans = 32;
  double slowdown = 0;
  std::optional<double> deadline;
  std::string output;
  std::string frontier_csv;
  std::string plans_csv;
  bool json = false;
};

double checked(const char* flag, double value, double least) {
  if (std::isfinite(value) && value >= least) return value;
  throw InputError("", 0, flag, "must be a number of at least " + std::to_string(static_cast<int>(least)));
}

Profile load_profile(const PlanFlags& flags) {
  Profile profile = read_profile(flags.profile);
  const auto stages = static_cast<int>(profile.stages.size());
  if (flags.stages && *flags.stages != stages) {
    throw InputError(
        flags.profile, 0, "--stages",
        "the profile has " + std::to_string(stages) + " stages, not " + std::to_string(*flags.stages));
  }
  for (StageProfile& stage : profile.stages) {
    if (flags.tensor_parallel) stage.tensor_parallel = *flags.tensor_parallel;
    if (flags.blocking_power)
      stage.blocking_power = Watts(checked("--blocking-power", *flags.blocking_power, 0));
  }
  return profile;
}

/// What is wrong with the profile's figures together is said with the profile's name.
Workload load_workload(const PlanFlags& flags) {
  Profile profile = load_profile(flags);
  try {
    return {std::move(profile), flags.order, flags.microbatches};
  } catch (const InputError& error) {
    if (error.key().starts_with("--")) throw;
    throw InputError(flags.profile, error.line(), error.key(), error.reason());
  }
}

int run(const PlanFlags& flags) {
  if (flags.plans < 1 || flags.plans > 10'000) throw InputError("", 0, "--plans", "must be from 1 to 10000");
  const Workload workload = load_workload(flags);
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
  command
      ->add_option("PROFILE", flags->profile,
                   "Profile: .yaml, or .csv with stage,instruction,frequency,time,energy")
      ->required();
  command->add_option("--order", flags->order, "Order of the pipeline: 1f1b or gpipe")->capture_default_str();
  command->add_option("--microbatches", flags->microbatches, "Microbatches of an iteration")->required();
  command->add_option("--stages", flags->stages, "Check that the profile has this many stages");
  command
      ->add_option("--tensor-parallel", flags->tensor_parallel,
                   "GPUs a stage (default: the profile's, else 1)")
      ->check(CLI::Range(1, kMaxTensorParallel));
  command->add_option("--blocking-power", flags->blocking_power,
                      "Watts a GPU draws while it waits (default: the profile's)");
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
