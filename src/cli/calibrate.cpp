#include <algorithm>
#include <chrono>
#include <cmath>
#include <cstdio>
#include <memory>
#include <optional>
#include <set>
#include <thread>

#include "clock_agent.h"
#include "command.h"
#include "leftovers.h"
#include "opened_device.h"
#include "slackline/base/error.h"
#include "slackline/base/file.h"
#include "slackline/base/number_text.h"
#include "slackline/base/user.h"
#include "slackline/measure/counter_refresh.h"
#include "slackline/measure/power_log.h"
#include "slackline/measure/reading_cost.h"
#include "slackline/measure/switch_time.h"
#include "slackline/profile/profile_io.h"
#include "slackline/report/calibration_report.h"
#include "slackline/report/progress_bar.h"
#include "slackline/runtime/lease_client.h"
#include "slackline/runtime/runtime_folder.h"

namespace slackline {
namespace {

/// Clocks between which switches are timed, where --clocks does not name them.
constexpr std::size_t kSpreadClocks = 4;

struct CalibrateFlags {
  std::string device;
  int gpu = 0;
  bool read_only = false;
  double seconds = 5;
  std::vector<int> clocks;
  std::string profile;
  std::string agent;
  bool json = false;
};

ReadingsReport read_everything(Device& device, GpuId gpu, Seconds time) {
  ReadingsReport report{
      gpu, device.identity(gpu).uuid,    device.driver(), {}, {}, 0, {}, {}, {}, time, {}, {},
      {},  device.abilities(gpu).remarks};
  ProgressBar bar("calibrating");
  for (const ReadingCost& cost : reading_costs(device, gpu)) {
    report.costs.push_back({cost.reading, cost.median, cost.longest, cost.why_not});
  }
  const std::unique_ptr<Timeline> timeline = device.make_timeline();
  if (device.abilities(gpu).energy) {
    const CounterRefresh seen = watch_counter(device, gpu, *timeline, time, Seconds(0.002), [&](double done) {
      bar.show(done / 2, "refresh of the energy counter");
    });
    report.intervals = seen.intervals;
    report.shortest = seen.shortest;
    report.median = seen.median;
    report.longest = seen.longest;
    if (!seen.fault.empty()) report.warnings.push_back("readings failed: " + seen.fault);
    try {
      report.stated_refresh = device.energy_refresh_period();
    } catch (const DeviceError& error) {
      report.warnings.emplace_back(error.what());
    }
  }
  PowerLog log(device, {gpu}, device.make_timeline());
  const Seconds begin = timeline->now();
  log.begin(begin);
  for (Seconds now = begin; now < begin + time; now = timeline->now()) {
    bar.show(0.5 + (now - begin) / time / 2, "energy against power");
    if (!timeline->sleep_until(std::min(now + Seconds(0.1), begin + time))) break;
  }
  log.end(begin + time);
  log.finish();
  const GpuUse use = log.uses().front();
  report.counted = use.energy;
  report.counted_error = use.energy_error;
  report.sampled = use.sampled_energy;
  if (!use.energy) report.warnings.push_back("no energy: " + use.why_no_energy);
  if (!use.sampled_energy) report.warnings.push_back("no power: " + use.why_no_power);
  if (use.disagreement()) {
    report.warnings.emplace_back("counter and power readings disagree by more than either can be off");
  }
  return report;
}

/// Sets the clock of one GPU by way of an agent, which restores it when this ends.
class LeasedClock : public ClockSetter {
 public:
  LeasedClock(const std::string& socket, Device& device, GpuId gpu)
      : lease_(LeaseClient::open(socket, {device.identity(gpu).uuid})) {
    if (!lease_) throw DeviceError("lease", device.identity(gpu).uuid, "no agent listens at " + socket);
  }

  void set_clock(GpuId, Megahertz clock) override {
    const auto number = lease_->number_of(clock);
    if (!number) {
      throw DeviceError("set clock", "",
                        "the agent does not let this process set " + std::to_string(clock.value()) + " MHz");
    }
    lease_->post(*number, true);
    const GpuResult& result = lease_->result(0);
    while (result.sequence != lease_->sequence()) {
      if (lease_->is_over()) throw DeviceError("set clock", "", lease_->why_over());
      std::this_thread::sleep_for(kAnswerPoll);
    }
    if (result.failures > 0) throw DeviceError("set clock", "", "the driver refused");
  }

 private:
  static constexpr std::chrono::microseconds kAnswerPoll{20};
  std::unique_ptr<LeaseClient> lease_;
};

/// The clocks between which a plan from this profile would switch.
std::set<Megahertz> clocks_of(const Profile& profile) {
  std::set<Megahertz> clocks;
  for (const StageProfile& stage : profile.stages) {
    for (const auto& [kind, options] : stage.instructions) {
      for (const Measurement& option : options) clocks.insert(option.clock);
    }
  }
  return clocks;
}

/// With a profile, only clocks that it has.
std::vector<ClockPair> pairs_to_time(const CalibrateFlags& flags, const std::optional<Profile>& profile,
                                     const Device& device, GpuId gpu) {
  std::vector<Megahertz> supported = device.supported_clocks(gpu);
  if (profile) {
    const std::set<Megahertz> known = clocks_of(*profile);
    std::erase_if(supported, [&](Megahertz clock) { return !known.contains(clock); });
    if (supported.size() < 2) {
      throw InputError(flags.profile, 0, "",
                       "has hardly a clock in common with this GPU; it is of another kind");
    }
  }
  if (flags.clocks.empty()) return spread_pairs(supported, kSpreadClocks);
  std::vector<Megahertz> wanted;
  for (const int clock : flags.clocks) {
    if (std::ranges::find(supported, Megahertz(clock)) == supported.end()) {
      throw InputError("", 0, "--clocks",
                       std::string(profile ? "the GPU or the profile" : "the GPU") + " has no clock of " +
                           std::to_string(clock) + " MHz");
    }
    wanted.emplace_back(clock);
  }
  std::ranges::sort(wanted, std::greater<>());
  wanted.erase(std::unique(wanted.begin(), wanted.end()), wanted.end());
  if (wanted.size() < 2) throw InputError("", 0, "--clocks", "needs two different clocks at least");
  return spread_pairs(wanted, wanted.size());
}

int time_switches(const CalibrateFlags& flags, const OpenedDevice& opened, Device& device, GpuId gpu) {
  const std::optional<User> user = calling_user();
  std::optional<Profile> profile;
  if (!flags.profile.empty()) {  // what is wrong with it is better known now than later
    const ActingAs acting(user);
    profile = read_profile(flags.profile);
    expect_writable(flags.profile);
  }
  const std::vector<ClockPair> pairs = pairs_to_time(flags, profile, device, gpu);
  const std::string folder = runtime_folder();
  restore_leftovers(folder);
  const PrivateFolder own(folder, kJobFolder);
  ClockAgent agent({flags.agent, opened.spec(), own.path(), folder, {}}, device);
  LeasedClock setter(agent.socket(), device, gpu);
  const std::unique_ptr<Timeline> timeline = device.make_timeline();
  std::vector<SwitchTime> switches;
  {
    ProgressBar bar("calibrating");
    switches = measure_switches(device, gpu, setter, *timeline, pairs, {},
                                [&](double done) { bar.show(done, "clock switches"); });
  }
  std::vector<SwitchReport> report;
  for (const SwitchTime& one : switches) {
    report.push_back({one.pair.from, one.pair.to, one.call, one.first_change, one.stable, one.switches,
                      one.arrived, one.why_not});
  }
  std::fputs((flags.json ? switches_json(report) : switches_text(report)).c_str(), stdout);
  const std::optional<SwitchTimes> summary = summary_of(switches);
  if (!summary) throw NoAnswer("no clock ever arrived");
  const bool restored = agent.end();
  if (profile) {
    const ActingAs acting(user);
    write_switch_times(flags.profile, *summary);
  }
  return restored ? kOk : kDeviceFault;
}

int run(const CalibrateFlags& flags) {
  if (!(flags.seconds >= 0.1 && flags.seconds <= 3600)) {
    throw InputError("", 0, "--seconds", "must be from 0.1 to 3600");
  }
  if (flags.read_only && !(flags.profile.empty() && flags.clocks.empty())) {
    throw InputError("", 0, "--read-only",
                     "no switch is timed without setting clocks; leave out --profile and --clocks");
  }
  OpenedDevice opened(flags.device, flags.read_only ? DeviceAccess::kReadOnly : DeviceAccess::kIfPrivileged);
  Device& device = opened.get();
  say_what_is_left_out(device);
  if (flags.gpu < 0 || flags.gpu >= device.gpu_count()) {
    throw InputError("", 0, "--gpu", "the device has GPUs 0 to " + std::to_string(device.gpu_count() - 1));
  }
  const GpuId gpu(flags.gpu);
  if (!flags.read_only) return time_switches(flags, opened, device, gpu);
  const ReadingsReport report = read_everything(device, gpu, Seconds(flags.seconds));
  std::fputs((flags.json ? readings_json(report) : readings_text(report)).c_str(), stdout);
  for (const std::string& warning : report.warnings) {
    std::fprintf(stderr, "slackline: GPU %d: %s\n", flags.gpu, warning.c_str());
  }
  return kOk;
}

}  // namespace

void add_calibrate(CLI::App& app, Action& action) {
  auto flags = std::make_shared<CalibrateFlags>();
  CLI::App* command =
      app.add_subcommand("calibrate", "How exactly a GPU can be read, and how fast it changes its clock");
  command->add_option("--device", flags->device, kOpenedDeviceHelp);
  command->add_option("--gpu", flags->gpu, "The GPU to calibrate")->capture_default_str();
  command->add_flag(
      "--read-only", flags->read_only,
      "Set no clocks: cost of each reading, refresh of the energy counter, energy against power");
  command->add_option("--seconds", flags->seconds, "How long to watch the counter, and then the power")
      ->capture_default_str();
  command
      ->add_option("--clocks", flags->clocks, "Time switches between these, in MHz (default: 4 spread ones)")
      ->delimiter(',');
  command->add_option("--profile", flags->profile, "Write the switch times into this profile");
  command->add_option("--agent", flags->agent, kAgentHelp);
  command->add_flag("--json", flags->json, "Print as JSON");
  command->footer(
      "Let the GPU work meanwhile: an idle one may not change its clock, and draws too little to compare.\n"
      "Example: slackline calibrate --read-only --device sim:profiles/gpt3-175b-a100-sxm.yaml");
  command->callback([&action, flags] { action = [flags] { return run(*flags); }; });
}

}  // namespace slackline
