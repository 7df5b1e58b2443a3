#pragma once
#include <memory>
#include <mutex>
#include <optional>
#include <string>
#include <vector>

#include "slackline/device/device.h"
#include "slackline/device/open_device.h"

namespace slackline {

namespace nvml {
struct Api;
}

/// NVIDIA's GPUs, by the driver's management library (NVML), which is loaded while we run.
///
/// Of all that NVML can change this changes one thing: the range of the core clock. Memory clocks, power
/// caps, persistence mode and application clocks stay as they are. NVML has no reading of a locked range, so
/// there is no state() to restore: restore() unlocks.
///
/// A GPU that the system or a cgroup keeps from us, or that has fallen off the bus, is left out, and those
/// after it move up; it is an error only if it was asked for. A GPU with MIG switched on is there but neither
/// its clock nor its energy is: both are of the whole GPU.
///
/// NVML does not survive a fork: a process that wants it after one opens it there.
class NvmlDevice : public Device {
 public:
  /// `library` is absolute and, being its user's choice, decides itself who may set clocks. `selection`: GPUs
  /// by NVML's number or UUID, in the order they are to have here; empty for all. DeviceError if the driver
  /// does not start or there is no such GPU, InputError if one is named twice.
  NvmlDevice(std::optional<std::string> library, const std::vector<std::string>& selection,
             DeviceAccess access);
  NvmlDevice(const NvmlDevice&) = delete;
  NvmlDevice& operator=(const NvmlDevice&) = delete;
  ~NvmlDevice() override;

  /// Without the selection: whoever opens it again looks for UUIDs.
  [[nodiscard]] std::string spec() const override;
  [[nodiscard]] std::string driver() const override;
  [[nodiscard]] int gpu_count() const override;
  [[nodiscard]] std::vector<std::string> left_out() const override { return left_out_; }
  [[nodiscard]] GpuIdentity identity(GpuId gpu) const override;
  [[nodiscard]] GpuAbilities abilities(GpuId gpu) override;
  /// Those that go with the memory clock in use; while the GPU idles (and its memory with it), with the
  /// highest.
  [[nodiscard]] std::vector<Megahertz> supported_clocks(GpuId gpu) const override;
  void lock_clock(GpuId gpu, Megahertz clock) override;
  void restore(GpuId gpu, const std::string& state) override;
  [[nodiscard]] Megahertz observed_clock(GpuId gpu) override;
  [[nodiscard]] EventReasons event_reasons(GpuId gpu) override;
  /// A counter that went backwards was reset: that is one DeviceError, then it counts from there.
  [[nodiscard]] EnergyReading energy(GpuId gpu) override;
  /// Of the first GPU whose energy can be read.
  [[nodiscard]] Seconds energy_refresh_period() override;
  [[nodiscard]] Watts power(GpuId gpu) override;
  [[nodiscard]] Watts power_cap(GpuId gpu) override;
  [[nodiscard]] double temperature(GpuId gpu) override;
  [[nodiscard]] std::optional<std::vector<int>> processes(GpuId gpu) override;
  [[nodiscard]] std::unique_ptr<Timeline> make_timeline() override;
  void shut_down_timelines() override { end_->shut_down(); }

 private:
  class Session;
  struct Gpu;

  void open_all();
  void open_selected(const std::vector<std::string>& selection);
  [[nodiscard]] Gpu& at(GpuId gpu) const { return *gpus_.at(gpu.index()); }
  [[nodiscard]] Ability may_change_clocks() const;
  [[nodiscard]] Ability may_lock(const Gpu& gpu) const;
  [[nodiscard]] std::vector<std::string> remarks(Gpu& gpu) const;

  std::optional<std::string> library_;
  DeviceAccess access_;
  std::unique_ptr<const nvml::Api> api_;
  std::unique_ptr<Session> session_;
  std::vector<std::unique_ptr<Gpu>> gpus_;
  std::vector<std::string> left_out_;
  std::mutex refresh_mutex_;
  std::optional<Seconds> refresh_period_;
  std::shared_ptr<HostTimeline::End> end_ = std::make_shared<HostTimeline::End>();
};

}  // namespace slackline
