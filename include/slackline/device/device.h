#pragma once
#include <string>
#include <vector>

#include "slackline/base/ids.h"
#include "slackline/base/quantity.h"

namespace slackline {

/// What an energy counter showed when it last refreshed. Counters tick every 20 to 100 ms.
struct EnergyReading {
  Joules total;
  /// When, on the device's own timeline.
  Seconds at;
};

/// The time that a device lives in: the host's steady clock, or a simulated one.
class Timeline {
 public:
  virtual ~Timeline() = default;
  [[nodiscard]] virtual Seconds now() = 0;
  /// False if the wait was ended early because the timeline has no more use (shut down).
  virtual bool sleep_until(Seconds time) = 0;
};

/// The GPUs of one node, and all that Slackline does with them. SI units; a driver's own units stay beside
/// the driver. Calls are thread-safe. They throw DeviceError when the driver refuses or the GPU is gone.
class Device {
 public:
  virtual ~Device() = default;

  [[nodiscard]] virtual int gpu_count() const = 0;
  /// A name that finds this GPU again from another process, and after this one is gone.
  [[nodiscard]] virtual std::string gpu_name(GpuId gpu) const = 0;
  /// Highest first.
  [[nodiscard]] virtual std::vector<Megahertz> supported_clocks(GpuId gpu) const = 0;

  /// Asks for a clock. It arrives milliseconds later and stays until it is unlocked, even when this process
  /// dies.
  virtual void lock_clock(GpuId gpu, Megahertz clock) = 0;
  /// Back to the driver's own choice.
  virtual void unlock_clock(GpuId gpu) = 0;
  [[nodiscard]] virtual Megahertz observed_clock(GpuId gpu) = 0;
  [[nodiscard]] virtual EnergyReading energy(GpuId gpu) = 0;
  /// How often the energy counter refreshes.
  [[nodiscard]] virtual Seconds energy_refresh_period() const = 0;
};

}  // namespace slackline
