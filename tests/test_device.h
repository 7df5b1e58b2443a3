#pragma once
#include "slackline/base/error.h"
#include "slackline/device/device.h"

namespace slackline {

/// A device that can do nothing; tests override what they need.
class TestDevice : public Device {
 public:
  [[nodiscard]] std::string spec() const override { return "test"; }
  [[nodiscard]] std::string driver() const override { return "test"; }
  [[nodiscard]] int gpu_count() const override { return 1; }
  [[nodiscard]] GpuIdentity identity(GpuId gpu) const override {
    return {"TEST-" + std::to_string(gpu.value()), "", "test GPU"};
  }
  [[nodiscard]] GpuAbilities abilities(GpuId) override { return {}; }
  [[nodiscard]] std::vector<Megahertz> supported_clocks(GpuId) const override { return {Megahertz(1000)}; }
  void lock_clock(GpuId, Megahertz) override {}
  void restore(GpuId, const std::string&) override {}
  [[nodiscard]] Megahertz observed_clock(GpuId) override { return Megahertz(1000); }
  [[nodiscard]] EventReasons event_reasons(GpuId) override { return {}; }
  [[nodiscard]] EnergyReading energy(GpuId) override { return {}; }
  [[nodiscard]] Seconds energy_refresh_period() override { return Seconds(0.1); }
  [[nodiscard]] Watts power(GpuId) override { return Watts(100); }
  [[nodiscard]] Watts power_cap(GpuId) override { return Watts(400); }
  [[nodiscard]] double temperature(GpuId) override { return 40; }
  [[nodiscard]] std::unique_ptr<Timeline> make_timeline() override {
    return std::make_unique<HostTimeline>(end_);
  }
  void shut_down_timelines() override { end_->shut_down(); }

 private:
  std::shared_ptr<HostTimeline::End> end_ = std::make_shared<HostTimeline::End>();
};

}  // namespace slackline
