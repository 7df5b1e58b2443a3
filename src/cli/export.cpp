#include <memory>
#include <optional>

#include "command.h"
#include "slackline/base/error.h"
#include "slackline/base/file.h"
#include "slackline/schedule/schedule_io.h"
#include "slackline/schedule/zeus_plan.h"

namespace slackline {
namespace {

struct ExportFlags {
  std::string schedule;
  std::string format = "zeus";
  std::optional<int> plan;
  std::string output = "-";
};

int run(const ExportFlags& flags) {
  if (flags.format != "zeus") {
    throw InputError("", 0, "--format", "'" + flags.format + "' is unknown; known: zeus");
  }
  const Schedule schedule = read_schedule(flags.schedule);
  const Plan& plan = schedule.plans[flags.plan ? plan_index(schedule, *flags.plan) : schedule.chosen];
  write_file(flags.output, to_zeus_plan(schedule, plan));
  return kOk;
}

}  // namespace

void add_export(CLI::App& app, Action& action) {
  auto flags = std::make_shared<ExportFlags>();
  CLI::App* command = app.add_subcommand("export", "Write a plan in another tool's format");
  command->add_option("SCHEDULE", flags->schedule, "Schedule to write of")->required();
  command
      ->add_option("--format", flags->format,
                   "zeus: freqs_pipeline_*.py, as Zeus's pipeline frequency server, Merak and Kareus read it")
      ->capture_default_str();
  command->add_option("--plan", flags->plan, "Plan to write, from 0 (default: the chosen one)");
  command->add_option("-o,--output", flags->output, "Write it here; - is standard output")
      ->capture_default_str();
  command->footer(
      "One row a pipeline rank: of Zeus's schedulers PointSolution3D gives it to all replicas of the rank.\n"
      "Example: slackline export gpt3.yaml --format zeus -o freqs_pipeline_00000.py");
  command->callback([&action, flags] { action = [flags] { return run(*flags); }; });
}

}  // namespace slackline
