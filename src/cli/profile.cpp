#include <algorithm>
#include <atomic>
#include <cstdio>
#include <exception>
#include <memory>
#include <thread>

#include "command.h"
#include "job_device.h"
#include "slackline/base/error.h"
#include "slackline/base/file.h"
#include "slackline/base/log_line.h"
#include "slackline/base/number_text.h"
#include "slackline/base/user.h"
#include "slackline/measure/clock_sweep.h"
#include "slackline/profile/profile_io.h"
#include "slackline/report/progress_bar.h"
#include "slackline/report/table.h"
#include "slackline/runtime/job_runner.h"
#include "slackline/runtime/job_server.h"
#include "slackline/runtime/lease_client.h"

namespace slackline {
namespace {

struct ProfileFlags {
  std::string device;
  std::string agent;
  int tensor_parallel = 1;
  bool read_only = false;
  std::string output;
  std::string model;
  std::vector<std::string> command;
};

/// Passes on what the job does to the sweep, which runs in a thread of its own, and sets the clocks that it
/// wants.
class SweptJob : public JobObserver, public SweepControl {
 public:
  SweptJob(InstructionLog& log, const JobDevice& device) : log_(log), world_(device.world()) {
    if (device.agent_socket().empty()) return;
    const auto uuids = device.stage_uuids();
    for (std::size_t s = 0; s < uuids.size(); ++s) {
      leases_.push_back(LeaseClient::open(device.agent_socket(), uuids[s], Seconds(10), world_.get(),
                                          device.stage_gpus()[s]));
      if (!leases_.back()) throw DeviceError("lease", "", "no agent listens at " + device.agent_socket());
    }
  }
  void serve_with(JobServer& server) { server_ = &server; }

  void on_event(int stage, const JobEvent& event) override {
    const Seconds time(static_cast<double>(event.time_ns) / 1e9);
    if (event.type == JobEventType::kBegin) log_.begin(stage, static_cast<InstructionKind>(event.kind), time);
    if (event.type == JobEventType::kAgain) log_.again(stage, time);
    if (event.type == JobEventType::kEnd) log_.end(stage, time);
  }
  void on_refusal(const std::string& reason) override { refusal_ = reason; }
  void on_stranger(const std::string& reason) override { log_line("slackline: ", reason); }

  void set_clock(int stage, Megahertz clock) override {
    LeaseClient& lease = *leases_[static_cast<std::size_t>(stage)];
    if (lease.is_over()) throw DeviceError("set clock", "", lease.why_over());
    const auto number = lease.number_of(clock);
    if (!number)
      throw DeviceError("set clock", "",
                        "the agent does not let this process set " + std::to_string(clock.value()) + " MHz");
    lease.post(*number, true);
  }
  void set_repeat(int stage, std::uint32_t kinds) override { server_->set_repeat(stage, kinds); }

  [[nodiscard]] const std::string& refusal() const { return refusal_; }
  /// The clocks are nobody's any more: what is measured from here on is not what it is taken for.
  [[nodiscard]] bool has_lost_lease() const { return lost_lease() != leases_.end(); }
  [[nodiscard]] std::string why_lost() const { return (*lost_lease())->why_over(); }

 private:
  [[nodiscard]] std::vector<std::unique_ptr<LeaseClient>>::const_iterator lost_lease() const {
    return std::ranges::find_if(leases_, [](const auto& lease) { return lease->is_over(); });
  }

  InstructionLog& log_;
  std::shared_ptr<SimWorld> world_;
  std::vector<std::unique_ptr<LeaseClient>> leases_;  // by stage
  JobServer* server_ = nullptr;
  std::string refusal_;
};

/// What somebody who plans with the profile should know of the GPUs, each once.
std::vector<std::string> remarks_on(const JobDevice& device) {
  std::vector<std::string> remarks;
  for (const auto& gpus : device.stage_gpus()) {
    for (const GpuId gpu : gpus) {
      for (const std::string& remark : device.device().abilities(gpu).remarks) {
        if (std::ranges::find(remarks, remark) == remarks.end()) remarks.push_back(remark);
      }
    }
  }
  return remarks;
}

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
  Job job;
  JobDevice device({.device = flags.device,
                    .agent = flags.agent,
                    .tensor_parallel = flags.tensor_parallel,
                    .read_only = flags.read_only,
                    .leases_itself = true});
  {
    const ActingAs user(device.user());
    expect_writable(flags.output);  // before an hour of measuring, not after
  }
  const std::vector<std::string> remarks = remarks_on(device);
  for (const std::string& remark : remarks) std::fprintf(stderr, "slackline: %s\n", remark.c_str());
  InstructionLog log(static_cast<int>(device.stage_gpus().size()));
  SweptJob swept(log, device);
  JobServer server(device.world(), {device.stage_uuids(), {}, 0, ""}, device.job_socket(), swept);
  device.hand_over_job_socket();
  swept.serve_with(server);

  SweepOptions options;
  options.read_only = flags.read_only;
  ClockSweep sweep(device.device(), device.stage_gpus(), log, swept, options);
  std::vector<StageProfile> measured;
  std::exception_ptr failure;
  std::atomic<bool> done = false;
  bool lost = false;
  std::unique_ptr<Timeline> timeline = device.device().make_timeline();
  if (const std::string reason =
          job.start(flags.command, kSocketVariable, device.job_socket(), device.user());
      !reason.empty()) {
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
    const ShutDownAtExit shut_down(device.device());  // wakes the thread, which is then joined
    ProgressBar bar("profiling");
    job.run(server, [&] {
      device.look_after_agent();
      bar.show(sweep.progress(), std::to_string(sweep.clocks_done()) + " of at most " +
                                     std::to_string(sweep.clocks()) + " clocks");
      lost = lost || (!done && swept.has_lost_lease());
      if (done || lost || !swept.refusal().empty()) job.terminate();
    });
  }
  const bool restored = device.end_agent();
  if (!swept.refusal().empty()) throw InputError("", 0, "--device", swept.refusal());
  if (failure) std::rethrow_exception(failure);
  if (lost) throw DeviceError("set clocks", "", swept.why_lost() + " (nothing was written)");
  if (!sweep.complete()) {
    const std::string far = std::to_string(sweep.clocks_done()) + " of " + std::to_string(sweep.clocks());
    if (job.interrupted_by() != 0) return 128 + job.interrupted_by();
    throw NoAnswer("the job ended when " + far +
                   " clocks had been measured; let it run for more steps (nothing was written)");
  }
  const Profile* simulated = device.profile();
  Profile profile;
  profile.model = flags.model.empty() && simulated != nullptr ? simulated->model : flags.model;
  if (simulated == nullptr) {
    profile.gpu = device.device().identity(GpuId(0)).model;
  } else {
    profile.gpu = simulated->gpu.empty() ? "simulated" : simulated->gpu + " (simulated)";
  }
  profile.origin = "measured by slackline profile on " + flags.device +
                   (simulated == nullptr ? " (" + device.device().driver() + ")" : "");
  for (const std::string& remark : remarks) profile.origin += "; " + remark;
  profile.stages = std::move(measured);
  for (std::size_t s = 0; s < profile.stages.size(); ++s) {
    if (profile.stages[s].blocking_power) continue;
    throw NoAnswer("stage " + std::to_string(s) + " never waited, so its blocking power is unknown");
  }
  for (const ClockSweep::Slowdown& slowdown : sweep.slowdowns()) {
    std::fprintf(stderr, "slackline: stage %d was slowed down (%s) during %zu of its measurements\n",
                 slowdown.stage, text_of(slowdown.reasons).c_str(), slowdown.windows);
  }
  {
    const ActingAs user(device.user());
    write_file(flags.output, to_yaml(profile));
  }
  if (flags.output != "-") std::fputs(summary(profile).c_str(), stdout);
  return restored ? kOk : kDeviceFault;
}

}  // namespace

void add_profile(CLI::App& app, Action& action) {
  auto flags = std::make_shared<ProfileFlags>();
  CLI::App* command =
      app.add_subcommand("profile", "Time and energy of every instruction at every GPU clock");
  command->add_option("--device", flags->device, kJobDeviceHelp)->required();
  command->add_option("--agent", flags->agent, kAgentHelp);
  command
      ->add_option("--tensor-parallel", flags->tensor_parallel,
                   "GPUs of each stage, on real devices (simulated ones have their profile's)")
      ->check(CLI::Range(1, 64))
      ->capture_default_str();
  command->add_flag("--read-only", flags->read_only,
                    "Set no clock: measure at the one that the GPUs have, which needs no privileges");
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
