#pragma once
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "slackline/base/ids.h"
#include "slackline/base/quantity.h"

namespace slackline {

/// What a GPU did while a command ran. Empty is what could not be read; `warnings` say why, and what else to
/// know about these figures.
struct UseReport {
  GpuId gpu;
  std::string uuid;
  std::optional<Joules> energy;  // by its counter
  Joules energy_error;
  std::size_t ticks = 0;
  bool is_short = false;                 // too few ticks for the ends not to weigh
  std::optional<Joules> sampled_energy;  // by its power readings
  std::optional<Watts> mean_power;
  std::optional<Megahertz> lowest_clock;
  std::optional<double> mean_clock_mhz;
  std::optional<Megahertz> highest_clock;
  /// By name; share of the time from 0 to 1.
  std::vector<std::pair<std::string, double>> event_reasons;
  std::optional<double> peak_temperature;  // degrees Celsius
  std::vector<std::string> warnings;
  std::vector<std::string> remarks;
};

/// One command.
struct RunUse {
  std::string command;
  int exit_status = 0;
  Seconds time;
  std::vector<UseReport> gpus;
};

/// A line a GPU, and their sum.
[[nodiscard]] std::string use_text(const RunUse& run);
[[nodiscard]] std::string use_json(const RunUse& run);
/// Warnings and remarks, a line each, said once for the GPUs that share it. What holds for short windows is
/// one line for all.
[[nodiscard]] std::vector<std::string> use_notes(const RunUse& run);

}  // namespace slackline
