#pragma once
#include <optional>
#include <string>
#include <vector>

#include "slackline/base/ids.h"
#include "slackline/base/quantity.h"

namespace slackline {

/// How a GPU can be read here. Empty is what could not be measured.
struct ReadingsReport {
  GpuId gpu;
  std::string uuid;
  std::string driver;

  struct Cost {
    std::string reading;
    Seconds median;
    Seconds longest;
    std::string why_not;  // empty: it can be read
  };
  std::vector<Cost> costs;

  std::optional<Seconds> stated_refresh;  // of the energy counter, as Device::energy_refresh_period() has it
  std::size_t intervals = 0;              // between refreshes that were seen
  Seconds shortest;
  Seconds median;
  Seconds longest;

  /// The same energy by the counter and by power readings, side by side.
  Seconds time;
  std::optional<Joules> counted;
  Joules counted_error;
  std::optional<Joules> sampled;

  std::vector<std::string> warnings;
};

[[nodiscard]] std::string readings_text(const ReadingsReport& report);
[[nodiscard]] std::string readings_json(const ReadingsReport& report);

/// Switches between one pair of clocks; the medians.
struct SwitchReport {
  Megahertz from;
  Megahertz to;
  std::optional<Seconds> call;
  std::optional<Seconds> first_change;
  std::optional<Seconds> stable;
  int switches = 0;
  int arrived = 0;
  std::string why_not;  // not all arrived
};

[[nodiscard]] std::string switches_text(const std::vector<SwitchReport>& switches);
[[nodiscard]] std::string switches_json(const std::vector<SwitchReport>& switches);

}  // namespace slackline
