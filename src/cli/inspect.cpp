#include <cstdio>
#include <memory>
#include <optional>

#include "command.h"
#include "say_warnings.h"
#include "slackline/base/error.h"
#include "slackline/base/file.h"
#include "slackline/profile/profile_io.h"
#include "slackline/report/profile_plot.h"
#include "slackline/report/schedule_report.h"
#include "slackline/schedule/schedule_io.h"

namespace slackline {
namespace {

struct InspectFlags {
  std::string file;
  std::optional<int> plan;
  std::string clocks_csv;
  std::string plot;
  bool json = false;
};

/// By its name or its first line; what is neither is read as a schedule, which says what is wrong.
bool is_profile(const std::string& file) {
  return file.ends_with(".csv") || read_file(file).starts_with("slackline: profile/");
}

int show_profile(const InspectFlags& flags) {
  const Profile profile = read_profile(flags.file);
  const ProfileSummary summary = [&] {
    try {
      return summarise(profile);
    } catch (const InputError& error) {
      throw InputError(flags.file, error.line(), error.key(), error.reason());
    }
  }();
  if (!flags.plot.empty()) write_file(flags.plot, profile_svg(profile));
  say_warnings(summary);
  if (flags.plot == "-") return kOk;
  std::fputs((flags.json ? profile_json(summary) : profile_text(summary)).c_str(), stdout);
  return kOk;
}

int show_schedule(const InspectFlags& flags) {
  Schedule schedule = read_schedule(flags.file);
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

int run(const InspectFlags& flags) {
  if (!flags.plot.empty()) return show_profile(flags);
  const bool asks_for_plan = flags.plan || !flags.clocks_csv.empty();
  return !asks_for_plan && is_profile(flags.file) ? show_profile(flags) : show_schedule(flags);
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
  CLI::App* command = app.add_subcommand("inspect", "Show what a schedule or a profile holds");
  command->add_option("FILE", flags->file, "Schedule or profile to show")->required();
  auto* plan = command->add_option("--plan", flags->plan, "Plan to show, from 0 (default: the chosen one)");
  auto* clocks = command->add_option("--clocks-csv", flags->clocks_csv,
                                     "Write that plan's clocks: stage,seq,instruction,microbatch,clock_mhz");
  command
      ->add_option("--plot", flags->plot,
                   "Write a profile's energy over time as a picture (SVG), a panel a stage")
      ->excludes(plan)
      ->excludes(clocks);
  command->add_flag("--json", flags->json, "Print as JSON");
  command->footer(
      "Example: slackline inspect gpt3.yaml --plan 0 --clocks-csv clocks.csv\n"
      "         slackline inspect profiles/gpt3-175b-a100-sxm.yaml --plot gpt3.svg");
  command->callback([&action, flags] { action = [flags] { return run(*flags); }; });
}

}  // namespace slackline
