#include <cmath>
#include <cstdio>
#include <memory>
#include <optional>

#include "command.h"
#include "opened_device.h"
#include "slackline/base/error.h"
#include "slackline/base/file.h"
#include "slackline/base/number_text.h"
#include "slackline/base/user.h"
#include "slackline/measure/power_log.h"
#include "slackline/report/use_report.h"
#include "watched_command.h"

namespace slackline {
namespace {

struct MeasureFlags {
  std::string device;
  std::string gpus;
  double interval_ms = 50;
  std::string output = "-";
  bool json = false;
  std::vector<std::string> command;
};

std::vector<std::string> warnings_of(const GpuUse& use) {
  std::vector<std::string> warnings;
  if (!use.energy) warnings.push_back("no energy: " + use.why_no_energy);
  if (!use.sampled_energy) warnings.push_back("no power: " + use.why_no_power);
  if (!use.why_no_reasons.empty()) warnings.push_back("no event reasons: " + use.why_no_reasons);
  if (!use.clocks) warnings.push_back("its clock could not be read");
  if (use.energy == Joules(0) && use.sampled_energy) {
    warnings.emplace_back("the energy counter shows nothing");
  } else if (const auto disagreement = use.disagreement()) {
    warnings.push_back("the power readings add up to " + fixed_text(use.sampled_energy->value(), 1) + " J, " +
                       fixed_text(std::abs(*disagreement) * 100, 0) + " % " +
                       (*disagreement > 0 ? "more" : "less") + " than the energy counter's " +
                       fixed_text(use.energy->value(), 1) + " J: one of them is wrong");
  }
  return warnings;
}

UseReport report_of(const GpuUse& use, Device& device) {
  UseReport report;
  report.gpu = use.gpu;
  report.energy = use.energy;
  report.energy_error = use.energy_error;
  report.ticks = use.ticks;
  report.is_short = use.is_short();
  report.sampled_energy = use.sampled_energy;
  report.mean_power = use.mean_power();
  if (use.clocks) {
    report.lowest_clock = use.clocks->lowest;
    report.mean_clock_mhz = use.clocks->mean_mhz;
    report.highest_clock = use.clocks->highest;
  }
  for (const auto& [reason, share] : use.reasons) {
    EventReasons one;
    one |= reason;
    report.event_reasons.emplace_back(text_of(one), share);
  }
  report.peak_temperature = use.peak_temperature;
  report.warnings = warnings_of(use);
  try {
    report.uuid = device.identity(use.gpu).uuid;
    report.remarks = device.abilities(use.gpu).remarks;
  } catch (const DeviceError& error) {
    report.warnings.emplace_back(error.what());
  }
  return report;
}

int run(const MeasureFlags& flags) {
  if (!(flags.interval_ms >= 1 && flags.interval_ms <= 1e4)) {
    throw InputError("", 0, "--interval", "must be from 1 to 10000 ms");
  }
  WatchedCommand command;
  // Neither the command nor a file that the caller names is root's business.
  OpenedDevice opened(flags.device);
  if (const std::optional<User> caller = calling_user()) become_or_throw(*caller);
  Device& device = opened.get();
  say_what_is_left_out(device);
  expect_writable(flags.output);
  const std::unique_ptr<Timeline> clock = device.make_timeline();
  PowerLog log(device, chosen_gpus(flags.gpus, device), device.make_timeline(),
               Seconds(flags.interval_ms / 1e3));
  const Seconds begin = clock->now();
  log.begin(begin);
  if (const std::string failure = command.start(flags.command); !failure.empty()) {
    std::fprintf(stderr, "slackline: %s\n", failure.c_str());
    return command.exit_status();
  }
  command.wait();
  const Seconds end = clock->now();
  log.end(end);
  log.finish();

  RunUse use{"", command.exit_status(), end - begin, {}};
  for (const std::string& word : flags.command) use.command += (use.command.empty() ? "" : " ") + word;
  for (const GpuUse& gpu : log.uses()) use.gpus.push_back(report_of(gpu, device));
  int status = command.exit_status();
  try {
    write_file(flags.output, flags.json ? use_json(use) : use_text(use));
  } catch (const InputError& error) {  // how the command ended matters more
    std::fprintf(stderr, "slackline: %s\n", error.what());
    if (status == kOk) status = kBadInput;
  }
  for (const std::string& note : use_notes(use)) std::fprintf(stderr, "slackline: %s\n", note.c_str());
  return status;
}

}  // namespace

void add_measure(CLI::App& app, Action& action) {
  auto flags = std::make_shared<MeasureFlags>();
  CLI::App* command =
      app.add_subcommand("measure", "Energy, power, clocks and what slowed the GPUs while a command runs");
  command->add_option("--device", flags->device, kOpenedDeviceHelp);
  command->add_option("--gpus", flags->gpus, "Only these, as in 0,2-3 (default: all)");
  command->add_option("--interval", flags->interval_ms, "Milliseconds between two readings")
      ->capture_default_str();
  command->add_option("-o,--output", flags->output,
                      "Write the result here (default: standard output, after the command's own)");
  command->add_flag("--json", flags->json, "Print as JSON");
  command->add_option("CMD", flags->command, "Any command, after --")->required();
  command->footer(
      "Only reads, so it needs no privileges. Measures the whole GPUs, whoever uses them meanwhile.\n"
      "Ends with the command's own status; 127 if it was not found.\n"
      "Example: slackline measure --device sim:profiles/gpt3-175b-a100-sxm.yaml -- sleep 3");
  command->callback([&action, flags] { action = [flags] { return run(*flags); }; });
}

}  // namespace slackline
