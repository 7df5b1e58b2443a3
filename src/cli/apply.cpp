#include <algorithm>
#include <array>
#include <cstdio>
#include <iterator>
#include <memory>
#include <optional>

#include "command.h"
#include "job_device.h"
#include "slackline/base/error.h"
#include "slackline/base/log_line.h"
#include "slackline/base/user.h"
#include "slackline/measure/energy_meter.h"
#include "slackline/report/run_report.h"
#include "slackline/runtime/job_runner.h"
#include "slackline/runtime/job_server.h"
#include "slackline/runtime/step_log.h"
#include "slackline/schedule/schedule_io.h"

namespace slackline {
namespace {

/// A schedule is released after this many steps in a row that take over 1 % longer than promised.
constexpr int kSlowStepsAllowed = 5;
constexpr double kSlowStep = 1.01;

struct ApplyFlags {
  std::string schedule;
  std::optional<int> plan;
  int baseline_steps = 0;
  std::string device;
  std::string agent;
  bool json = false;
  std::vector<std::string> command;
};

std::vector<std::vector<PlanEntry>> entries_of(const Schedule& schedule, const Plan& plan) {
  std::vector<std::vector<PlanEntry>> entries;
  std::size_t index = 0;
  for (const auto& stage : schedule.order()) {
    entries.emplace_back();
    for (const Instruction& i : stage) {
      const Megahertz clock = plan.clocks[index++].mhz;
      if (is_fixed_time(i.kind)) continue;  // the job announces what a clock changes, and nothing else
      entries.back().push_back({static_cast<std::int32_t>(i.kind), i.microbatch.value(), clock.value()});
    }
  }
  return entries;
}

enum Regime : std::size_t { kBaseline, kPlanned, kReleased, kRegimes };

/// Follows the job step by step: which regime a step ran under, how long it took and what it drew.
class RunLog : public JobObserver {
 public:
  RunLog(const Schedule& schedule, const Plan& plan, int baseline_steps, EnergyMeter& meter)
      : schedule_(schedule),
        plan_(plan),
        baseline_steps_(static_cast<std::size_t>(baseline_steps)),
        meter_(meter),
        log_(schedule.stages.size()) {}

  void on_event(int stage, const JobEvent& event) override {
    if (event.type == JobEventType::kOutOfSequence) out_of_sequence_ = wants_release_ = true;
    if (event.type == JobEventType::kNoLease) lacks_lease_ = wants_release_ = true;
    if (event.type == JobEventType::kStepBegin)
      meter_.mark(Seconds(static_cast<double>(event.time_ns) / 1e9));
    if (!log_.add(stage, event)) return;
    meter_.mark(log_.steps().back().end);
    on_step(log_.steps().back());
  }
  void on_end(int stage) override { log_.abandon_step_of(stage); }
  void on_refusal(const std::string& reason) override { refusal_ = reason; }
  void on_stranger(const std::string& reason) override { log_line("slackline: ", reason); }
  [[nodiscard]] const std::string& refusal() const { return refusal_; }
  [[nodiscard]] bool wants_release() const { return wants_release_; }
  void set_released() {
    wants_release_ = false;
    released_ = true;
  }
  [[nodiscard]] bool too_slow() const { return slow_steps_ >= kSlowStepsAllowed; }
  [[nodiscard]] bool out_of_sequence() const { return out_of_sequence_; }
  [[nodiscard]] bool lacks_lease() const { return lacks_lease_; }
  [[nodiscard]] std::size_t steps() const { return log_.steps().size(); }

  /// Books the energy of steps whose ends the counters have passed. Every step, `at_end`.
  void settle(bool at_end = false) {
    for (; settled_ < log_.steps().size(); ++settled_) {
      const StepTimes& step = log_.steps()[settled_];
      if (!at_end && (meter_.is_open(step.begin) || meter_.is_open(step.end))) return;
      Totals& totals = totals_[regimes_[settled_]];
      if (const auto energy = meter_.energy_between(step.begin, step.end)) {
        totals.energy += *energy;
        ++totals.steps_with_energy;
      }
      meter_.forget_before(step.end);
    }
  }

  /// Of those that are settled.
  [[nodiscard]] std::size_t steps_without_energy() const {
    std::size_t count = settled_;
    for (const Totals& totals : totals_) count -= totals.steps_with_energy;
    return count;
  }

  /// One for each regime, in order; those without steps have only their predictions.
  [[nodiscard]] std::array<RunPhase, kRegimes> phases() const {
    std::array<RunPhase, kRegimes> phases;
    constexpr std::array<const char*, kRegimes> kNames{"all-max", "planned", "released"};
    for (std::size_t r = 0; r < kRegimes; ++r) {
      const Totals& totals = totals_[r];
      RunPhase& phase = phases[r];
      phase.name = kNames[r];
      phase.steps = totals.steps;
      phase.predicted_time = r == kPlanned ? plan_.time : schedule_.all_max_time;
      phase.predicted_energy = r == kPlanned ? plan_.energy : schedule_.all_max_energy;
      if (r == kPlanned) phase.gap_percent = plan_.gap_percent();
      if (totals.steps > 0) phase.time = totals.time / static_cast<double>(totals.steps);
      if (totals.steps_with_energy > 0) {
        phase.energy = totals.energy / static_cast<double>(totals.steps_with_energy);
      }
    }
    return phases;
  }

 private:
  struct Totals {
    std::size_t steps = 0;
    Seconds time;
    std::size_t steps_with_energy = 0;
    Joules energy;
  };

  void on_step(const StepTimes& step) {
    const std::size_t number = regimes_.size();
    const bool follows_plan = !released_ && !wants_release_;
    const Regime regime = number < baseline_steps_ ? kBaseline : follows_plan ? kPlanned : kReleased;
    regimes_.push_back(regime);
    ++totals_[regime].steps;
    totals_[regime].time += step.duration();
    if (regime != kPlanned) return;
    slow_steps_ = step.duration() > promised() * kSlowStep ? slow_steps_ + 1 : 0;
    wants_release_ = wants_release_ || slow_steps_ >= kSlowStepsAllowed;
  }

  /// What the plan promises for a step here: relative to the measured baseline if there is one, since that
  /// holds what the profile does not know.
  [[nodiscard]] Seconds promised() const {
    const Totals& baseline = totals_[kBaseline];
    if (baseline.steps == 0) return plan_.time;
    return baseline.time / static_cast<double>(baseline.steps) * (plan_.time / schedule_.all_max_time);
  }

  const Schedule& schedule_;
  const Plan& plan_;
  std::size_t baseline_steps_;
  EnergyMeter& meter_;
  StepLog log_;
  std::vector<Regime> regimes_;  // of each step
  std::array<Totals, kRegimes> totals_;
  std::size_t settled_ = 0;
  int slow_steps_ = 0;
  bool wants_release_ = false;
  bool released_ = false;
  bool out_of_sequence_ = false;
  bool lacks_lease_ = false;
  std::string refusal_;
};

/// GPUs of each stage.
std::vector<int> gpus_of(const Schedule& schedule) {
  std::vector<int> gpus;
  for (const auto& stage : schedule.stages) gpus.push_back(stage.tensor_parallel);
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

void check_is_applicable(const Schedule& schedule) {
  const Order order = schedule.order();
  for (std::size_t rank = 0; rank < order.size(); ++rank) {
    const auto is_elsewhere = [&](const Instruction& i) { return i.stage.index() != rank; };
    if (order.size() == schedule.stages.size() && std::ranges::none_of(order[rank], is_elsewhere)) continue;
    throw InputError("", 0, "SCHEDULE",
                     schedule.order_spec.name + " does not run stage " + std::to_string(rank) +
                         " and nothing else on rank " + std::to_string(rank) +
                         "; so far only such schedules are applied");
  }
  if (!schedule.configs.empty()) {
    std::fputs("slackline: only the clocks of the schedule are enforced, not its labels\n", stderr);
  }
}

void check_has_clocks(const Schedule& schedule, const Plan& plan, const JobDevice& device) {
  std::vector<std::vector<Megahertz>> supported;
  for (const auto& gpus : device.stage_gpus()) {
    supported.push_back(device.device().supported_clocks(gpus.front()));
  }
  std::size_t index = 0;
  for (const auto& stage : schedule.order()) {
    for (const Instruction& i : stage) {
      const Megahertz clock = plan.clocks[index++].mhz;
      if (is_fixed_time(i.kind) || std::ranges::count(supported[i.stage.index()], clock) > 0) continue;
      throw InputError("", 0, "--device",
                       "the schedule wants " + std::to_string(clock.value()) + " MHz in stage " +
                           std::to_string(i.stage.value()) + ", which the device does not have");
    }
  }
}

/// `fault`: why energy is not known any more, if that is so.
void print_report(const RunLog& log, const JobServer& server, const std::string& fault, bool json) {
  const std::array<RunPhase, kRegimes> regimes = log.phases();
  std::vector<RunPhase> seen;
  std::copy_if(regimes.begin(), regimes.end(), std::back_inserter(seen),
               [](const RunPhase& phase) { return phase.steps > 0; });
  if (json) {
    std::fputs(run_json(seen, regimes[kBaseline]).c_str(), stdout);
  } else if (!seen.empty()) {
    std::fputs(run_text(seen, regimes[kBaseline]).c_str(), stdout);
  }
  if (log.steps() == 0) std::fputs("slackline: no whole step was seen\n", stderr);
  if (log.too_slow()) {
    std::fprintf(
        stderr,
        "slackline: the schedule was released: %d steps in a row took over 1 %% longer than promised\n",
        kSlowStepsAllowed);
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

int run(const ApplyFlags& flags) {
  const Schedule schedule = [&] {
    const ActingAs user(calling_user());
    return read_schedule(flags.schedule);
  }();
  const Plan& plan = schedule.plans[flags.plan ? plan_index(schedule, *flags.plan) : schedule.chosen];
  if (flags.baseline_steps < 0) throw InputError("", 0, "--baseline-steps", "must not be negative");
  check_is_applicable(schedule);
  Job job;
  JobDevice device({.device = flags.device, .agent = flags.agent, .stage_gpus = gpus_of(schedule)});
  if (device.profile() != nullptr) check_fits_profile(schedule, *device.profile());
  check_has_clocks(schedule, plan, device);

  std::vector<GpuId> gpus;
  for (const auto& stage : device.stage_gpus()) gpus.insert(gpus.end(), stage.begin(), stage.end());
  EnergyMeter meter(device.device(), gpus, device.device().make_timeline());
  const ShutDownAtExit shut_down(device.device());
  RunLog log(schedule, plan, flags.baseline_steps, meter);
  JobServer server(
      device.world(),
      {device.stage_uuids(), entries_of(schedule, plan), flags.baseline_steps, device.agent_socket()},
      device.job_socket(), log);
  device.hand_over_job_socket();

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
  print_report(log, server, meter.fault(), flags.json);
  return job.exit_status() == 0 && !restored ? static_cast<int>(kDeviceFault) : job.exit_status();
}

}  // namespace

void add_apply(CLI::App& app, Action& action) {
  auto flags = std::make_shared<ApplyFlags>();
  CLI::App* command = app.add_subcommand("apply", "Run a training job under a frequency schedule");
  command->add_option("SCHEDULE", flags->schedule, "Schedule to enforce")->required();
  command->add_option("--plan", flags->plan, "Plan to enforce, from 0 (default: the chosen one)");
  command
      ->add_option("--baseline-steps", flags->baseline_steps,
                   "Run this many steps at the baseline first, so that the saving is measured")
      ->capture_default_str();
  command->add_option("--device", flags->device, kJobDeviceHelp)->required();
  command->add_option("--agent", flags->agent, kAgentHelp);
  command->add_flag("--json", flags->json, "Print the report as JSON");
  command->add_option("CMD", flags->command, "The training job, after --")->required();
  command->footer(
      "Every GPU is given back when the job ends, crashes or is killed, and when this process is.\n"
      "Ends with the job's own status; 127 if it was not found.\n"
      "Example: slackline apply gpt3.yaml --device sim:profiles/gpt3-175b-a100-sxm.yaml --baseline-steps 2 "
      "-- \\\n"
      "           slackline-demo-train --stages 8 --microbatches 12 --steps 6");
  command->callback([&action, flags] { action = [flags] { return run(*flags); }; });
}

}  // namespace slackline
