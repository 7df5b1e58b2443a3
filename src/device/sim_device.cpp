#include <utility>

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

GpuAbilities SimDevice::abilities(GpuId gpu) {
  GpuAbilities abilities;
  if (world_->is_lost(gpu)) {
    const Ability lost{SimWorld::kLost, ""};
    return {lost, lost, lost, lost, lost, lost, {}};
  }
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

EnergyReading SimDevice::energy(GpuId gpu) {
  const std::lock_guard lock(energy_mutex_);
  const EnergyReading reading = world_->energy(gpu);
  const Joules last = std::exchange(last_energy_[gpu.index()], reading.total);
  if (reading.total < last) {
    throw DeviceError("read energy", identity(gpu).uuid,
                      "the counter was reset: it stood at " + std::to_string(last.value()) +
                          " J and now at " + std::to_string(reading.total.value()) + " J");
  }
  return reading;
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
