#include <cstdio>
#include <memory>

#include "command.h"
#include "slackline/base/error.h"
#include "slackline/base/number_text.h"
#include "slackline/profile/profile_io.h"
#include "slackline/report/table.h"
#include "slackline/schedule/schedule_io.h"
#include "slackline/schedule/verification.h"

namespace slackline {
namespace {

struct VerifyFlags {
  std::string schedule;
  std::string profile;
};

int run(const VerifyFlags& flags) {
  const Schedule schedule = read_schedule(flags.schedule);
  const std::vector<PlanVerification> found = verify(schedule, read_profile(flags.profile));
  Table table({"plan", "time (s)", "energy (J)", "bound (J)", "gap (%)", "verdict"});
  std::size_t faults = 0;
  for (std::size_t k = 0; k < found.size(); ++k) {
    const PlanVerification& plan = found[k];
    if (!plan.fault.empty()) ++faults;
    table.add_row({std::to_string(k), fixed_text(plan.time.value(), 6), fixed_text(plan.energy.value(), 3),
                   fixed_text(plan.bound.value(), 3), fixed_text((plan.energy / plan.bound - 1) * 100, 3),
                   plan.fault.empty() ? "ok" : "WRONG: " + plan.fault});
  }
  std::fputs(table.text().c_str(), stdout);
  if (faults == 0) return kOk;
  std::fprintf(stderr, "slackline: %s: %zu of %zu plans do not verify\n", flags.schedule.c_str(), faults,
               found.size());
  return kNoAnswer;
}

}  // namespace

void add_verify(CLI::App& app, Action& action) {
  auto flags = std::make_shared<VerifyFlags>();
  CLI::App* command =
      app.add_subcommand("verify", "Prove a schedule again from its clocks and the profile alone");
  command->add_option("SCHEDULE", flags->schedule, "Schedule to check")->required();
  command->add_option("--profile", flags->profile, "Profile it was planned from")->required();
  command->footer("Example: slackline verify gpt3.yaml --profile profiles/gpt3-175b-a100-sxm.yaml");
  command->callback([&action, flags] { action = [flags] { return run(*flags); }; });
}

}  // namespace slackline
