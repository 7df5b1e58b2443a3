#include <atomic>
#include <cstdio>
#include <exception>
#include <memory>
#include <thread>

#include "command.h"
#include "device_spec.h"
#include "leftovers.h"
#include "slackline/base/error.h"
#include "slackline/base/file.h"
#include "slackline/base/number_text.h"
#include "slackline/measure/clock_sweep.h"
#include "slackline/profile/profile_io.h"
#include "slackline/report/progress_bar.h"
#include "slackline/report/table.h"
#include "slackline/runtime/agent.h"
#include "slackline/runtime/guardian.h"
#include "slackline/runtime/job_runner.h"
#include "slackline/runtime/runtime_folder.h"

namespace slackline {
namespace {

struct ProfileFlags {
  std::string device;
  std::string output;
  std::string model;
  std::vector<std::string> command;
};

/// Passes on what the agent hears to the sweep, which runs in a thread of its own.
class SweptJob : public JobObserver, public SweepControl {
 public:
  explicit SweptJob(InstructionLog& log) : log_(log) {}
  void serve_with(Agent& agent) { agent_ = &agent; }

  void on_event(int stage, const LeaseEvent& event) override {
    const Seconds time(static_cast<double>(event.time_ns) / 1e9);
    if (event.type == LeaseEventType::kBegin)
      log_.begin(stage, static_cast<InstructionKind>(event.kind), time);
    if (event.type == LeaseEventType::kAgain) log_.again(stage, time);
    if (event.type == LeaseEventType::kEnd) log_.end(stage, time);
  }
  void on_refusal(const std::string& reason) override { refusal_ = reason; }
  void on_fault(const std::string& what) override { std::fprintf(stderr, "slackline: %s\n", what.c_str()); }

  void set_clock(int stage, Megahertz clock) override { agent_->set_stage_clock(stage, clock); }
  void set_repeat(int stage, std::uint32_t kinds) override { agent_->set_repeat(stage, kinds); }

  [[nodiscard]] const std::string& refusal() const { return refusal_; }

 private:
  InstructionLog& log_;
  Agent* agent_ = nullptr;
  std::string refusal_;
};

std::string summary(const Profile& profile) {
  Table table(
      {"stage", "clocks (MHz)", "forward at highest (s, J)", "backward at highest (s, J)", "blocking (W)"});
  for (std::size_t s = 0; s < profile.stages.size(); ++s) {
    const StageProfile& stage = profile.stages[s];
    const auto& forward = stage.instructions.at(InstructionKind::kForward);
    const auto& backward = stage.instructions.at(InstructionKind::kBackward);
    const auto cell = [](const Measurement& m) {
      return fixed_text(m.time.value(), 4) + "  " + fixed_text(m.energy.value(), 2);
    };
    table.add_row(
        {std::to_string(s),
         std::to_string(forward.front().clock.value()) + "-" + std::to_string(forward.back().clock.value()),
         cell(forward.front()), cell(backward.front()), fixed_text(stage.blocking_power->value(), 2)});
  }
  return table.text();
}

int run(const ProfileFlags& flags) {
  const DeviceSpec spec = parse_device(flags.device);
  const std::string folder = runtime_folder();
  restore_leftovers(folder);
  const Guardian guardian(journal_folder(folder));
  Journal journal(journal_folder(folder));
  Job job;
  SimulatedNode node(spec, folder);
  const int stages = static_cast<int>(spec.profile.stages.size());
  InstructionLog log(stages);
  SweptJob swept(log);
  const std::string socket = node.folder() + "/agent.sock";
  Agent agent(node.device(), node.world(), journal, {node.stage_gpus(), {}, 0}, socket, swept);
  swept.serve_with(agent);

  ClockSweep sweep(node.device(), node.stage_gpus(), log, swept);
  std::vector<StageProfile> measured;
  std::exception_ptr failure;
  std::atomic<bool> done = false;
  auto timeline = std::make_unique<SimTimeline>(node.world());
  if (const std::string reason = job.start(flags.command, kSocketVariable, socket); !reason.empty()) {
    std::fprintf(stderr, "slackline: %s\n", reason.c_str());
    return job.exit_status();
  }
  {
    const std::jthread thread([&] {
      try {
        measured = sweep.run(*timeline);
      } catch (...) {
        failure = std::current_exception();
      }
      timeline.reset();
      done = true;
    });
    const ShutDownAtExit shut_down(node.world());  // wakes the thread, which is then joined
    ProgressBar bar("profiling");
    job.run(agent, [&] {
      bar.show(sweep.progress(), std::to_string(sweep.clocks_done()) + " of at most " +
                                     std::to_string(sweep.clocks()) + " clocks");
      if (done || !swept.refusal().empty()) job.terminate();
    });
  }
  agent.restore_all();
  if (!swept.refusal().empty()) throw InputError("", 0, "--device", swept.refusal());
  if (failure) std::rethrow_exception(failure);
  if (!sweep.complete()) {
    const std::string far = std::to_string(sweep.clocks_done()) + " of " + std::to_string(sweep.clocks());
    if (job.interrupted_by() != 0) return 128 + job.interrupted_by();
    throw NoAnswer("the job ended when " + far +
                   " clocks had been measured; let it run for more steps (nothing was written)");
  }
  Profile profile{flags.model.empty() ? spec.profile.model : flags.model,
                  spec.profile.gpu.empty() ? "simulated" : spec.profile.gpu + " (simulated)",
                  "measured by slackline profile on " + flags.device, "", std::move(measured)};
  for (std::size_t s = 0; s < profile.stages.size(); ++s) {
    if (profile.stages[s].blocking_power) continue;
    throw NoAnswer("stage " + std::to_string(s) + " never waited, so its blocking power is unknown");
  }
  write_file(flags.output, to_yaml(profile));
  if (flags.output != "-") std::fputs(summary(profile).c_str(), stdout);
  return kOk;
}

}  // namespace

void add_profile(CLI::App& app, Action& action) {
  auto flags = std::make_shared<ProfileFlags>();
  CLI::App* command =
      app.add_subcommand("profile", "Time and energy of every instruction at every GPU clock");
  command->add_option("--device", flags->device, kDeviceHelp)->required();
  command->add_option("-o,--output", flags->output, "Write the profile (YAML) here; - is standard output")
      ->required();
  command->add_option("--model", flags->model, "What to call the model in the profile");
  command->add_option("CMD", flags->command, "The training job, after --; it must run until it is terminated")
      ->required();
  command->footer(
      "Clocks go from the highest to the lowest, until an instruction's time and its energy (less what "
      "waiting as\n"
      "long would have drawn) have both risen five times in a row. The job repeats instructions while it is "
      "measured,\n"
      "which it must be able to do: see slackline_instruction_again in slackline.h.\n"
      "Example: slackline profile --device sim:profiles/gpt3-175b-a100-sxm.yaml -o mine.yaml -- \\\n"
      "           slackline-demo-train --stages 8 --microbatches 8 --steps 0");
  command->callback([&action, flags] { action = [flags] { return run(*flags); }; });
}

}  // namespace slackline
