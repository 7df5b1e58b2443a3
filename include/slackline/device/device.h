#pragma once
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "slackline/base/ids.h"
#include "slackline/base/quantity.h"
#include "slackline/device/event_reasons.h"
#include "slackline/device/timeline.h"

namespace slackline {

/// Which GPU this is, whatever its number on this boot or in this process.
struct GpuIdentity {
  /// "GPU-8f6c1b2e-...": finds it again from any process. Letters, digits, '-', '_' and '.' only.
  std::string uuid;
  /// "0000:3b:00.0"; empty for one without.
  std::string pci_address;
  std::string model;
};

/// What an energy counter showed when it last refreshed. Counters tick every 20 to 100 ms.
struct EnergyReading {
  Joules total;
  /// When, on the device's own timeline.
  Seconds at;
};

/// Whether something can be done with a GPU here, and if not, why, and what would change that.
struct Ability {
  std::string why_not;  // empty: it can
  std::string remedy;   // a command or a setting; empty if there is none
  /// It is this process that may not; another could.
  bool lacks_rights = false;

  [[nodiscard]] explicit operator bool() const { return why_not.empty(); }
};

struct GpuAbilities {
  Ability set_clock;
  Ability energy;
  Ability power;
  Ability power_cap;
  Ability temperature;
  Ability event_reasons;
  /// What its readings cover if that is more than the GPU ("GPU and CPU of a Grace Hopper module"), and other
  /// things that a profile made here should say (an active power profile, say).
  std::vector<std::string> remarks;
};

/// The GPUs of one node, and all that Slackline does with them. SI units; a driver's own units stay beside
/// the driver. Calls are thread-safe. They throw DeviceError when the driver refuses or the GPU is gone.
class Device {
 public:
  virtual ~Device() = default;

  /// What open_device() (or, for simulated GPUs, this program's next start) takes to open the same device.
  [[nodiscard]] virtual std::string spec() const = 0;
  /// "NVML 13.580.65.06, driver 580.65.06".
  [[nodiscard]] virtual std::string driver() const = 0;
  [[nodiscard]] virtual int gpu_count() const = 0;
  /// GPUs that the driver counts and this process may not use, though it asked for all: "GPU 1: it has fallen
  /// off the bus". Numbers are the driver's.
  [[nodiscard]] virtual std::vector<std::string> left_out() const { return {}; }
  [[nodiscard]] virtual GpuIdentity identity(GpuId gpu) const = 0;
  /// Asks without changing anything.
  [[nodiscard]] virtual GpuAbilities abilities(GpuId gpu) = 0;
  /// Highest first.
  [[nodiscard]] virtual std::vector<Megahertz> supported_clocks(GpuId gpu) const = 0;

  /// What a lock overwrites and can be read back, for restore(); empty where it cannot (NVML has no reading
  /// of a locked range). Letters, digits, '-', '_' and '.' only. DeviceError if it could at another time: who
  /// goes on to lock would lose it.
  [[nodiscard]] virtual std::string state(GpuId /*gpu*/) { return {}; }
  /// Asks for a clock. It arrives milliseconds later and stays until it is restored, even when this process
  /// dies.
  virtual void lock_clock(GpuId gpu, Megahertz clock) = 0;
  /// Undoes every lock, back to the driver's own choice, or to what `state` tells.
  virtual void restore(GpuId gpu, const std::string& state) = 0;

  [[nodiscard]] virtual Megahertz observed_clock(GpuId gpu) = 0;
  [[nodiscard]] virtual EventReasons event_reasons(GpuId gpu) = 0;
  [[nodiscard]] virtual EnergyReading energy(GpuId gpu) = 0;
  /// How often the energy counter refreshes; measured where the driver does not say, which takes a second.
  [[nodiscard]] virtual Seconds energy_refresh_period() = 0;
  /// Whether readings of the counter say when it refreshed, rather than when they were made.
  [[nodiscard]] virtual bool dates_refreshes() const { return false; }
  [[nodiscard]] virtual Watts power(GpuId gpu) = 0;
  [[nodiscard]] virtual Watts power_cap(GpuId gpu) = 0;
  /// Processes that compute on the GPU right now, by the numbers that the driver gives, which may be of
  /// another PID namespace. Nothing where the driver does not tell.
  [[nodiscard]] virtual std::optional<std::vector<int>> processes(GpuId /*gpu*/) { return std::nullopt; }
  /// Degrees Celsius.
  [[nodiscard]] virtual double temperature(GpuId gpu) = 0;

  /// For one thread.
  [[nodiscard]] virtual std::unique_ptr<Timeline> make_timeline() = 0;
  /// Ends every sleep on its timelines, so that their threads can be joined.
  virtual void shut_down_timelines() = 0;
};

/// All GPUs of a device, in its order.
[[nodiscard]] std::vector<GpuId> all_gpus(const Device& device);
/// The GPU with this UUID.
[[nodiscard]] std::optional<GpuId> find_gpu(const Device& device, const std::string& uuid);

}  // namespace slackline
