#include <algorithm>
#include <cstdio>
#include <memory>
#include <optional>
#include <set>

#include "command.h"
#include "job_device.h"
#include "job_name.h"
#include "run_log.h"
#include "slackline/base/error.h"
#include "slackline/base/number_text.h"
#include "slackline/base/user.h"
#include "slackline/measure/energy_meter.h"
#include "slackline/profile/profile_io.h"
#include "slackline/report/run_report.h"
#include "slackline/runtime/job_runner.h"
#include "slackline/runtime/job_server.h"
#include "slackline/runtime/rank.h"
#include "slackline/schedule/schedule_io.h"
#include "slackline/schedule/verification.h"

namespace slackline {
namespace {

constexpr int kDetectSteps = 3;

struct ApplyFlags {
  std::string schedule;
  std::optional<int> plan;
  int baseline_steps = 0;
  double tolerance_percent = 1;
  std::string name;
  std::optional<double> detect_percent;
  std::string profile;
  std::string device;
  std::string agent;
  bool json = false;
  std::vector<std::string> command;
};

/// What the job is told of the schedule: the plan `base`, and what is slower, for stragglers.
JobPlans plans_of(const Schedule& schedule, std::size_t base) {
  JobPlans plans;
  const auto first = schedule.plans.begin() + static_cast<std::ptrdiff_t>(base);
  for (auto plan = first; plan != schedule.plans.end(); ++plan) plans.times.push_back(plan->time);
  std::size_t index = 0;
  for (const auto& rank : schedule.order()) {
    JobPlans::Rank& told = plans.ranks.emplace_back();
    told.clocks.resize(plans.times.size());
    for (const Instruction& i : rank) {
      const std::size_t place = index++;
      if (is_fixed_time(i.kind)) continue;  // the job announces what a clock changes, and nothing else
      told.order.push_back({static_cast<std::int32_t>(i.kind), i.stage.value(), i.microbatch.value()});
      for (std::size_t p = 0; p < told.clocks.size(); ++p) {
        told.clocks[p].push_back((first + static_cast<std::ptrdiff_t>(p))->clocks[place].mhz);
      }
    }
  }
  return plans;
}

/// Stages that each rank of the order holds, rising.
std::vector<std::vector<StageId>> stages_of_ranks(const Schedule& schedule) {
  std::vector<std::vector<StageId>> ranks;
  for (const auto& rank : schedule.order()) {
    std::set<StageId> held;
    for (const Instruction& i : rank) {
      held.insert(i.stage);
      if (i.kind == InstructionKind::kOverlapped) held.insert(i.backward_stage);
    }
    ranks.emplace_back(held.begin(), held.end());
  }
  return ranks;
}

/// GPUs of each rank of each pipeline.
std::vector<int> gpus_of(const Schedule& schedule) {
  std::vector<int> gpus;
  for (int pipeline = 0; pipeline < schedule.data_parallel; ++pipeline) {
    for (const auto& held : stages_of_ranks(schedule)) {
      gpus.push_back(schedule.stages[held.front().index()].tensor_parallel);
    }
  }
  return gpus;
}

/// What drives simulated GPUs must have what the schedule was made for.
void check_fits_profile(const Schedule& schedule, const Profile& profile) {
  if (schedule.stages.size() != profile.stages.size()) {
    throw InputError("", 0, "--device",
                     "the schedule is for " + std::to_string(schedule.stages.size()) +
                         " stages, the device has " + std::to_string(profile.stages.size()));
  }
  for (std::size_t s = 0; s < schedule.stages.size(); ++s) {
    if (schedule.stages[s].tensor_parallel == profile.stages[s].tensor_parallel) continue;
    throw InputError("", 0, "--device",
                     "the schedule is for " + std::to_string(schedule.stages[s].tensor_parallel) +
                         " GPUs in stage " + std::to_string(s) + ", the device has " +
                         std::to_string(profile.stages[s].tensor_parallel));
  }
}

/// What holds what on the simulated ranks must be what the schedule's order says.
void check_fits_ranks(const Schedule& schedule, const std::vector<std::vector<StageId>>& simulated) {
  const std::vector<std::vector<StageId>> planned = stages_of_ranks(schedule);
  if (planned.size() != simulated.size()) {
    throw InputError("", 0, "--device",
                     "the schedule is for " + std::to_string(planned.size()) + " ranks, the device has " +
                         std::to_string(simulated.size()) + " (say ranks=" + std::to_string(planned.size()) +
                         ")");
  }
  for (std::size_t rank = 0; rank < planned.size(); ++rank) {
    std::vector<StageId> held = simulated[rank];
    std::ranges::sort(held);
    if (held == planned[rank]) continue;
    throw InputError("", 0, "--device",
                     "the schedule's rank " + std::to_string(rank) +
                         " holds other stages than the device's; placement is loop or v");
  }
}

void check_has_clocks(const JobPlans& plans, const JobDevice& device) {
  for (std::size_t rank = 0; rank < device.rank_gpus().size(); ++rank) {
    const JobPlans::Rank& planned = plans.ranks[rank % plans.ranks.size()];
    const std::vector<Megahertz> supported =
        device.device().supported_clocks(device.rank_gpus()[rank].front());
    for (const auto& clocks : planned.clocks) {
      for (const Megahertz clock : clocks) {
        if (std::ranges::count(supported, clock) > 0) continue;
        throw InputError("", 0, "--device",
                         "the schedule wants " + std::to_string(clock.value()) + " MHz on rank " +
                             std::to_string(rank % plans.ranks.size()) + ", which the device does not have");
      }
    }
  }
}

/// `fault`: why energy is not known any more, if that is so.
void print_report(const RunLog& log, const Schedule& schedule, const ApplyFlags& flags,
                  const JobServer& server, const std::string& fault) {
  const std::vector<RunPhase> phases = log.phases();
  if (flags.json) {
    std::fputs(run_json(phases, schedule.all_max_energy).c_str(), stdout);
  } else if (!phases.empty()) {
    std::fputs(run_text(phases, schedule.all_max_energy).c_str(), stdout);
  }
  if (log.steps() == 0) {
    std::fputs("slackline: no whole step was seen beside the first, which only shows the order\n", stderr);
  }
  if (log.too_slow()) {
    std::fprintf(
        stderr,
        "slackline: the schedule was released: %d steps in a row took over %s %% longer than promised\n",
        ReleaseRule().slow_steps, exact_text(flags.tolerance_percent).c_str());
  }
  if (log.out_of_sequence()) {
    std::fputs("slackline: the job left the schedule's order; from there on its GPUs ran at their baseline\n",
               stderr);
  }
  if (log.lacks_lease()) {
    std::fputs("slackline: no agent set the clocks, or it stopped; from there on the GPUs ran at their own\n",
               stderr);
  }
  if (const std::size_t unknown = log.steps_without_energy(); unknown > 0) {
    std::fprintf(stderr, "slackline: the energy of %zu of %zu steps is not known%s%s\n", unknown, log.steps(),
                 fault.empty() ? "" : ": ", fault.c_str());
  }
  if (server.events_lost() > 0) {
    std::fprintf(stderr, "slackline: %llu events came too fast to be seen\n",
                 static_cast<unsigned long long>(server.events_lost()));
  }
}

/// Where the job is not what was planned for: the plan's promise rests on it.
void say_drift(const RunLog& log, const Profile& profile) {
  constexpr std::size_t kMostSaid = 3;
  const std::vector<Drift> drifts = log.drift().compare(profile);
  if (drifts.empty()) return;
  std::string text;
  for (std::size_t d = 0; d < std::min(drifts.size(), kMostSaid); ++d) {
    const Drift& drift = drifts[d];
    text += (d > 0 ? "; stage " : "stage ") + std::to_string(drift.stage) + " " +
            std::string(name_of(drift.kind)) + " at " + std::to_string(drift.clock.value()) + " MHz took " +
            fixed_text(drift.measured.value(), 4) + " s, the profile says " +
            fixed_text(drift.profiled.value(), 4) + " (" + (drift.share() > 0 ? "+" : "") +
            fixed_text(drift.share() * 100, 1) + " %)";
  }
  if (drifts.size() > kMostSaid) text += "; and " + std::to_string(drifts.size() - kMostSaid) + " more";
  std::fprintf(stderr, "slackline: warning: the profile does not hold any more: %s. Profile and plan anew\n",
               text.c_str());
}

int run(const ApplyFlags& flags) {
  const Schedule schedule = [&] {
    const ActingAs user(calling_user());
    return read_schedule(flags.schedule);
  }();
  const std::optional<Profile> planned_with = [&]() -> std::optional<Profile> {
    if (flags.profile.empty()) return std::nullopt;
    const ActingAs user(calling_user());
    return as_planned(schedule, read_profile(flags.profile));
  }();
  const std::size_t base = flags.plan ? plan_index(schedule, *flags.plan) : schedule.chosen;
  if (!schedule.configs.empty()) {
    std::fputs("slackline: only the clocks of the schedule are enforced, not its labels\n", stderr);
  }
  std::optional<Rank> rank = rank_from_environment();
  if (rank && rank->ranks == 1) rank.reset();
  Job job;
  JobDevice device(
      {.device = flags.device, .agent = flags.agent, .rank_gpus = gpus_of(schedule), .rank = rank});
  if (device.profile() != nullptr) {
    check_fits_profile(schedule, *device.profile());
    check_fits_ranks(schedule, device.rank_stages());
  }
  JobOptions options;
  options.rank_gpus = device.rank_uuids();
  options.gpus = device.uuids_of(device.gpus());
  options.plans = plans_of(schedule, base);
  options.baseline_steps = 1 + flags.baseline_steps;  // the first one only shows the order
  options.agent_socket = device.agent_socket();
  options.has_one_rank = rank.has_value();
  if (rank && device.world()) options.simulated_rank = rank->rank;
  if (flags.detect_percent) {
    options.detect_steps = kDetectSteps;
    options.detect_share = *flags.detect_percent / 100;
  }
  if (!rank) check_has_clocks(options.plans, device);

  EnergyMeter meter(device.device(), device.gpus(), device.device().make_timeline());
  const ShutDownAtExit shut_down(device.device());
  ReleaseRule rule;
  rule.tolerance = flags.tolerance_percent / 100;
  RunLog log(schedule, base, rule, meter, options.gpus);
  JobServer server(device.world(), options, device.job_socket(), log);
  device.hand_over_job_socket();
  const JobName name(device.runtime_folder(), flags.name, device.job_socket());

  const std::string failure = job.start(flags.command, kSocketVariable, device.job_socket(), device.user());
  if (!failure.empty()) {
    std::fprintf(stderr, "slackline: %s\n", failure.c_str());
    return job.exit_status();
  }
  bool refused = false;
  job.run(server, [&] {
    log.settle();
    device.look_after_agent();
    if (log.wants_release()) {
      server.release();
      log.set_released();
    }
    if (!refused && !log.refusal().empty()) {
      refused = true;
      job.terminate();
    }
  });
  server.serve();  // what was said before the end
  const bool restored = device.end_agent();
  if (refused) throw InputError(flags.schedule, 0, "", log.refusal());
  if (device.world()) device.world()->let_observers_run_on();
  meter.finish();
  log.settle(true);
  print_report(log, schedule, flags, server, meter.fault());
  if (planned_with) say_drift(log, *planned_with);
  return job.exit_status() == 0 && !restored ? static_cast<int>(kDeviceFault) : job.exit_status();
}

}  // namespace

void add_apply(CLI::App& app, Action& action) {
  auto flags = std::make_shared<ApplyFlags>();
  CLI::App* command = app.add_subcommand("apply", "Run a training job under a frequency schedule");
  command->add_option("SCHEDULE", flags->schedule, "Schedule to enforce")->required();
  command->add_option("--plan", flags->plan, "Plan to enforce, from 0 (default: the chosen one)");
  command
      ->add_option(
          "--baseline-steps", flags->baseline_steps,
          "Run this many steps at the baseline first, so that the saving is measured; beside the very "
          "first, which always is")
      ->check(CLI::Range(0, 1'000'000))
      ->capture_default_str();
  command
      ->add_option("--tolerance", flags->tolerance_percent,
                   "Release the schedule when 5 steps in a row take this many percent longer than promised")
      ->check(CLI::Range(0.0, 1000.0))
      ->capture_default_str();
  command->add_option("--job", flags->name,
                      "Name of the job, for slackline straggler (default: our process number)");
  command
      ->add_option("--detect-stragglers", flags->detect_percent,
                   "A pipeline that stays behind the fastest by more than this many percent for 3 steps is a "
                   "straggler, which the others follow")
      ->check(CLI::Range(0.1, 1000.0));
  command->add_option(
      "--profile", flags->profile,
      "Profile that the schedule was made with: say at the end which instructions take something "
      "else now");
  command->add_option("--device", flags->device, kJobDeviceHelp)->required();
  command->add_option("--agent", flags->agent, kAgentHelp);
  command->add_flag("--json", flags->json, "Print the report as JSON");
  command->add_option("CMD", flags->command, "The training job, after --")->required();
  command->footer(
      "Every GPU is given back when the job ends, crashes or is killed, and when this process is.\n"
      "Ends with the job's own status; 127 if it was not found.\n"
      "Example: slackline apply gpt3.yaml --device sim:profiles/gpt3-175b-a100-sxm.yaml --baseline-steps 2 "
      "-- \\\n"
      "           slackline-demo-train --stages 8 --microbatches 12 --steps 8");
  command->callback([&action, flags] { action = [flags] { return run(*flags); }; });
}

}  // namespace slackline
