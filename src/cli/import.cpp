#include <cstdio>
#include <filesystem>
#include <memory>
#include <optional>
#include <utility>

#include "command.h"
#include "say_warnings.h"
#include "slackline/base/error.h"
#include "slackline/base/file.h"
#include "slackline/measure/kareus_import.h"
#include "slackline/profile/profile_io.h"
#include "slackline/report/progress_bar.h"
#include "slackline/schedule/planner.h"
#include "slackline/schedule/schedule_io.h"
#include "slackline/schedule/zeus_plan.h"
#include "workload_flags.h"

namespace slackline {
namespace {

struct ImportFlags {
  std::string source;
  std::string output;
  std::optional<int> tensor_parallel;
  std::optional<double> blocking_power;
  std::optional<int> warm_up_iterations;
  std::optional<int> microbatches;
  std::string model;
  std::string gpu;
  WorkloadFlags workload;  // of a plan
};

/// A plan of Zeus's becomes a schedule.
int import_plan(const ImportFlags& flags) {
  WorkloadFlags wanted = flags.workload;
  if (flags.microbatches) wanted.order.microbatches = *flags.microbatches;
  wanted.tensor_parallel = flags.tensor_parallel;
  wanted.blocking_power = flags.blocking_power;
  const Workload workload = load_workload(wanted);
  const ZeusPlan plan = parse_zeus_plan(flags.source, read_file(flags.source));
  write_file(flags.output, to_yaml(schedule_of(workload, clocks_of(flags.source, plan, workload))));
  return kOk;
}

Profile read_kareus(const ImportFlags& flags) {
  KareusOptions options;
  options.tensor_parallel = flags.tensor_parallel.value_or(1);
  options.warm_up_iterations = flags.warm_up_iterations.value_or(options.warm_up_iterations);
  options.microbatches = flags.microbatches;
  KareusImport found = [&] {
    ProgressBar bar("importing");
    return import_kareus(flags.source, options, [&](double done) { bar.show(done); });
  }();
  for (const std::string& remark : found.remarks) std::fprintf(stderr, "slackline: %s\n", remark.c_str());
  Profile profile;
  profile.stages = std::move(found.stages);
  return profile;
}

Profile read_csv(const ImportFlags& flags) {
  const char* flag = flags.microbatches         ? "--microbatches"
                     : flags.warm_up_iterations ? "--warm-up-iterations"
                                                : nullptr;
  if (flag != nullptr)
    throw InputError("", 0, flag, "a CSV holds means already; it is for a folder of Kareus");
  Profile profile = parse_profile_csv(flags.source, read_file(flags.source));
  if (flags.tensor_parallel) {
    for (StageProfile& stage : profile.stages) stage.tensor_parallel = *flags.tensor_parallel;
  }
  return profile;
}

/// What is given counts, and has no error.
void set_blocking_power(StageProfile& stage, Watts power) {
  stage.blocking_power = power;
  if (!stage.notes) return;
  stage.notes->blocking_error = {};
  stage.notes->second_blocking_power = {};
  stage.notes->second_blocking_error = {};
}

int run(const ImportFlags& flags) {
  if (!flags.workload.profile.empty()) return import_plan(flags);
  if (flags.source.ends_with(".py")) {
    throw InputError("", 0, "--profile", "a plan needs the profile that says what its clocks take");
  }
  const std::optional<Watts> blocking =
      flags.blocking_power ? std::optional(Watts(checked("--blocking-power", *flags.blocking_power, 0)))
                           : std::nullopt;
  if (flags.output != "-") expect_writable(flags.output);
  std::error_code ignored;
  Profile profile =
      std::filesystem::is_directory(flags.source, ignored) ? read_kareus(flags) : read_csv(flags);
  profile.model = flags.model;
  profile.gpu = flags.gpu;
  profile.origin = "imported from " + flags.source;
  if (blocking) {
    for (StageProfile& stage : profile.stages) set_blocking_power(stage, *blocking);
  }
  write_file(flags.output, to_yaml(profile));
  say_warnings(summarise(profile));
  return kOk;
}

}  // namespace

void add_import(CLI::App& app, Action& action) {
  auto flags = std::make_shared<ImportFlags>();
  CLI::App* command = app.add_subcommand(
      "import", "Make a profile of what others have measured, or a schedule of their plan");
  command
      ->add_option(
          "SOURCE", flags->source,
          "CSV of Zeus or Merak, a folder that Kareus's profiling left ([node0/]MHZ/timers/...), or a "
          "plan of any of them (freqs_pipeline_*.py)")
      ->required();
  command
      ->add_option("-o,--output", flags->output,
                   "Write the profile or schedule (YAML) here; - is standard output")
      ->required();
  command
      ->add_option(
          "--tensor-parallel", flags->tensor_parallel,
          "GPUs a stage (default: as many as the CSV's tp_rank says, else 1); in a folder rank R is of "
          "stage R / this")
      ->check(CLI::Range(1, kMaxTensorParallel));
  command->add_option("--blocking-power", flags->blocking_power,
                      "Watts a GPU draws while it waits (default: what a folder's waits drew)");
  command
      ->add_option("--warm-up-iterations", flags->warm_up_iterations,
                   "Of a folder: iterations that do not count, at every clock (default: " +
                       std::to_string(KareusOptions{}.warm_up_iterations) + ")")
      ->check(CLI::Range(0, 1'000'000));
  command
      ->add_option("--microbatches", flags->microbatches,
                   "Of a folder without iterations: forwards of a rank in one, to find the end of the "
                   "warm-up; of a plan: "
                   "microbatches of its iteration")
      ->check(CLI::Range(1, 1'000'000));
  command->add_option("--profile", flags->workload.profile,
                      "Of a plan: the profile that says what its clocks take");
  command->add_option("--order", flags->workload.order.order, "Of a plan: order of its pipeline")
      ->capture_default_str();
  command->add_option("--model", flags->model, "What to call the model in the profile");
  command->add_option("--gpu", flags->gpu, "What to call the GPUs in the profile");
  command->footer(
      "Says on standard error what had to be assumed, and what a plan should not be built on.\n"
      "Example: slackline import merak.csv --blocking-power 83.64 -o mine.yaml\n"
      "         slackline import profiling --tensor-parallel 4 --microbatches 8 -o mine.yaml\n"
      "         slackline import freqs_pipeline_00042.py --profile mine.yaml --microbatches 8 -o plan.yaml");
  command->callback([&action, flags] { action = [flags] { return run(*flags); }; });
}

}  // namespace slackline
