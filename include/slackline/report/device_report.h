#pragma once
#include <optional>
#include <string>
#include <vector>

#include "slackline/base/ids.h"
#include "slackline/base/quantity.h"

namespace slackline {

/// Something that may or may not be done with a GPU here.
struct AbilityReport {
  std::string what;     // "set clocks"
  std::string why_not;  // empty: it can
  std::string remedy;   // a command or a setting; may be empty

  bool operator==(const AbilityReport&) const = default;
};

/// A GPU as it is now. What could not be read is empty; `faults` say why, but for what `abilities` explain.
struct GpuReport {
  GpuId gpu;
  std::string uuid;
  std::string pci_address;
  std::string model;
  /// Highest first.
  std::vector<Megahertz> clocks;

  std::optional<Megahertz> clock;
  std::optional<Watts> power;
  std::optional<Watts> power_cap;
  std::optional<double> temperature;  // degrees Celsius
  std::optional<Joules> energy;       // since its counter began
  /// Why it does not run at its highest clock; by name.
  std::optional<std::vector<std::string>> event_reasons;

  std::vector<AbilityReport> abilities;
  std::vector<std::string> remarks;
  std::vector<std::string> faults;
};

struct DeviceReport {
  std::string driver;
  /// What --device takes to mean them.
  std::string spec;
  std::vector<GpuReport> gpus;
  /// GPUs that the driver counts but that cannot be used, and why.
  std::vector<std::string> left_out{};
  /// Socket of the agent that sets clocks for others; "" if there is none.
  std::string agent{};
};

/// What there is, what it does now, and what is allowed; what holds for several GPUs is said once.
[[nodiscard]] std::string device_text(const DeviceReport& report);
[[nodiscard]] std::string device_json(const DeviceReport& report);

/// "0-3, 7".
[[nodiscard]] std::string gpus_text(const std::vector<GpuId>& gpus);

}  // namespace slackline
