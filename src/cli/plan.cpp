#include <cstdio>
#include <memory>
#include <optional>
#include <utility>

#include "command.h"
#include "slackline/base/error.h"
#include "slackline/base/file.h"
#include "slackline/base/number_text.h"
#include "slackline/report/progress_bar.h"
#include "slackline/report/schedule_report.h"
#include "slackline/schedule/planner.h"
#include "slackline/schedule/schedule_io.h"
#include "slackline/schedule/straggler.h"
#include "workload_flags.h"

namespace slackline {
namespace {

constexpr double kSlowestStraggler = 1000;

struct PlanFlags {
  WorkloadFlags workload;
  std::string plans = "32";
  std::optional<double> slowdown;
  std::optional<double> deadline;
  std::optional<double> power_cap;
  bool min_energy = false;
  std::optional<double> straggler;
  int data_parallel = 1;
  std::string output;
  std::string frontier_csv;
  std::string plans_csv;
  bool json = false;
};

/// Nothing for "auto".
std::optional<int> plan_count(const std::string& text) {
  if (text == "auto") return std::nullopt;
  const auto count = parse_integer(text);
  if (!count || *count < 1 || *count > 10'000) {
    throw InputError("", 0, "--plans", "must be from 1 to 10000, or auto");
  }
  return static_cast<int>(*count);
}

PlanOptions plan_options(const PlanFlags& flags, const Workload& workload) {
  PlanOptions options;
  options.least_energy = flags.min_energy;
  if (flags.power_cap) options.power_cap = Watts(checked("--power-cap", *flags.power_cap, 0));
  if (flags.deadline) options.deadline = Seconds(checked("--deadline", *flags.deadline, 0));
  if (flags.slowdown) {
    const double factor = 1 + checked("--slowdown", *flags.slowdown, 0) / 100;
    options.deadline = to_seconds(workload.evaluate(workload.all_max()).time) * factor;
  }
  return options;
}

int run(const PlanFlags& flags) {
  if (flags.straggler && checked("--straggler", *flags.straggler, 1) > kSlowestStraggler) {
    throw InputError("", 0, "--straggler", "must be at most " + exact_text(kSlowestStraggler));
  }
  const std::optional<int> plans = plan_count(flags.plans);
  const Workload workload = load_workload(flags.workload);
  PlanOptions options = plan_options(flags, workload);
  options.plans = plans;
  Planning planning = [&] {
    ProgressBar bar("planning");
    return make_plans(workload, options, [&](double done) { bar.show(done); });
  }();
  planning.schedule.data_parallel = flags.data_parallel;
  const Schedule& schedule = planning.schedule;
  if (!flags.output.empty()) write_file(flags.output, to_yaml(schedule));
  if (!flags.frontier_csv.empty()) write_file(flags.frontier_csv, frontier_csv(planning.frontier));
  if (!flags.plans_csv.empty()) write_file(flags.plans_csv, plans_csv(schedule));
  if (flags.output != "-" && flags.frontier_csv != "-" && flags.plans_csv != "-") {
    const auto straggler = [&]() -> std::optional<StragglerAnswer> {
      if (!flags.straggler) return std::nullopt;
      return answer_straggler(schedule, schedule.plans[schedule.chosen].time * *flags.straggler);
    }();
    std::fputs((flags.json ? schedule_json(schedule, straggler) : summary_text(schedule)).c_str(), stdout);
    if (straggler && !flags.json) std::fputs(straggler_text(schedule, *straggler).c_str(), stdout);
  }
  return kOk;
}

}  // namespace

void add_plan(CLI::App& app, Action& action) {
  auto flags = std::make_shared<PlanFlags>();
  CLI::App* command =
      app.add_subcommand("plan", "Time-energy frontier and frequency schedules of a profiled model");
  add_workload_flags(*command, flags->workload);
  command
      ->add_option(
          "--plans", flags->plans,
          "Plans to keep along the frontier, or auto: so many that at most 0.1 % is lost between two")
      ->capture_default_str();
  CLI::Option_group* choice = command->add_option_group("choice", "Which plan to choose (one of these)");
  choice->add_option("--slowdown", flags->slowdown,
                     "At most this many percent slower than all-max (default: 0)");
  choice->add_option("--deadline", flags->deadline, "At most this many seconds");
  choice->add_option("--power-cap", flags->power_cap,
                     "The fastest that draws at most this many watts on average, all GPUs of the pipeline");
  choice->add_flag("--min-energy", flags->min_energy, "Least energy, however slow");
  choice->require_option(0, 1);
  command->add_option(
      "--straggler", flags->straggler,
      "Also show what to run while another pipeline takes this many times the chosen plan's time");
  command
      ->add_option("--data-parallel", flags->data_parallel,
                   "Pipelines that train in parallel, for the totals of the job")
      ->check(CLI::Range(1, kMaxDataParallel))
      ->capture_default_str();
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
