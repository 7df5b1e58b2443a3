#include "slackline/base/digest.h"
#include "slackline/base/error.h"
#include "slackline/device/sim_world.h"

namespace slackline {

std::string SimDevice::spec() const {
  return "simnode:" + world_->path();
}

GpuIdentity SimDevice::identity(GpuId gpu) const {
  return {"SIM-" + digest(world_->path()) + "-" + std::to_string(gpu.value()), "", "simulated GPU"};
}

GpuAbilities SimDevice::abilities(GpuId) {
  GpuAbilities abilities;
  abilities.power_cap.why_not = "simulated GPUs have no power cap";
  abilities.temperature.why_not = "simulated GPUs have no temperature";
  return abilities;
}

std::vector<Megahertz> SimDevice::supported_clocks(GpuId gpu) const {
  return world_->supported_clocks(gpu);
}

void SimDevice::restore(GpuId gpu, const std::string&) {
  world_->unlock_clock(gpu);
}

Watts SimDevice::power_cap(GpuId gpu) {
  throw DeviceError("read power cap", identity(gpu).uuid, abilities(gpu).power_cap.why_not);
}

double SimDevice::temperature(GpuId gpu) {
  throw DeviceError("read temperature", identity(gpu).uuid, abilities(gpu).temperature.why_not);
}

std::unique_ptr<Timeline> SimDevice::make_timeline() {
  return std::make_unique<SimTimeline>(world_);
}

}  // namespace slackline
