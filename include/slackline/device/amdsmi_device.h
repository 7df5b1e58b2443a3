#pragma once
#include <memory>
#include <mutex>
#include <optional>
#include <string>
#include <vector>

#include "slackline/device/device.h"
#include "slackline/device/open_device.h"

namespace slackline {

class AmdsmiApi;

/// AMD's GPUs, through AMD SMI 24.5 to 27 (ROCm 6.1 and newer).
///
/// A lock is a cap: the library sets the performance level to "manual" and a range of core clocks of which
/// the GPU honours the upper end alone, so we leave the lower one at the lowest clock. Only the level "auto"
/// takes the range back, and it does so for all clocks of the GPU. Power caps are read, never set.
///
/// Core clocks are continuous on most of these GPUs: supported_clocks() is then a grid of ours, multiples of
/// 50 MHz between the lowest and the highest clock.
class AmdsmiDevice : public Device {
 public:
  /// `selection` are numbers as `amd-smi` counts, PCI addresses or UUIDs of ours; empty: all GPUs.
  /// DeviceError if one of them is not there, or if there is no AMD SMI of a version that we know. Who names
  /// a `library` may try to set clocks without privileges.
  AmdsmiDevice(std::optional<std::string> library, const std::vector<std::string>& selection,
               DeviceAccess access);
  AmdsmiDevice(const AmdsmiDevice&) = delete;
  AmdsmiDevice& operator=(const AmdsmiDevice&) = delete;
  ~AmdsmiDevice() override;

  /// Without the selection: whoever opens it again looks for UUIDs.
  [[nodiscard]] std::string spec() const override;
  [[nodiscard]] std::string driver() const override;
  [[nodiscard]] int gpu_count() const override;
  /// The library's own UUIDs and numbers differ from those of other tools on some nodes; PCI addresses do
  /// not: "AMD-0000-c1-00.0".
  [[nodiscard]] GpuIdentity identity(GpuId gpu) const override;
  /// Waits up to 0.2 s for an energy counter that does not move.
  [[nodiscard]] GpuAbilities abilities(GpuId gpu) override;
  /// While a range is set the driver shows that range instead of what the GPU can do, so this is the widest
  /// range seen so far.
  [[nodiscard]] std::vector<Megahertz> supported_clocks(GpuId gpu) const override;

  /// The performance level: "level-0" for auto, or "level-3-500-1700" for a manual one with its range in MHz;
  /// empty if it cannot be read.
  [[nodiscard]] std::string state(GpuId gpu) override;
  /// Lower end of the range first, then the upper: as the lower one is the lowest there is, no order of locks
  /// ever asks for a range upside down. A GPU that takes only one of the two gets back what it had.
  void lock_clock(GpuId gpu, Megahertz clock) override;
  /// Does nothing if the level is no longer manual: then somebody else has changed it since, and it is
  /// theirs.
  void restore(GpuId gpu, const std::string& state) override;

  [[nodiscard]] Megahertz observed_clock(GpuId gpu) override;
  /// Only whether the level is manual.
  [[nodiscard]] EventReasons event_reasons(GpuId gpu) override;
  /// A reading is dated by the GPU's own clock. Its offset to ours is the smallest seen between our time
  /// after a reading and the reading's; it may grow by 100 ppm, which is more than two clocks drift apart. A
  /// counter that went backwards is a DeviceError, once.
  [[nodiscard]] EnergyReading energy(GpuId gpu) override;
  /// Of the first GPU whose energy can be read.
  [[nodiscard]] Seconds energy_refresh_period() override;
  [[nodiscard]] Watts power(GpuId gpu) override;
  [[nodiscard]] Watts power_cap(GpuId gpu) override;
  [[nodiscard]] double temperature(GpuId gpu) override;

  [[nodiscard]] std::unique_ptr<Timeline> make_timeline() override;
  void shut_down_timelines() override { end_->shut_down(); }

 private:
  class Gpu;
  [[nodiscard]] Gpu& at(GpuId gpu) const;
  [[nodiscard]] Ability may_write() const;

  std::optional<std::string> library_;
  DeviceAccess access_;
  std::unique_ptr<AmdsmiApi> api_;
  std::vector<std::unique_ptr<Gpu>> gpus_;
  std::mutex refresh_mutex_;
  std::optional<Seconds> refresh_period_;
  std::shared_ptr<HostTimeline::End> end_ = std::make_shared<HostTimeline::End>();
};

}  // namespace slackline
