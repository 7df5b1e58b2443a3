#include "slackline/measure/reading_cost.h"

#include <algorithm>
#include <functional>

#include "slackline/base/error.h"

namespace slackline {
namespace {

ReadingCost cost_of(const std::string& reading, const std::string& why_not, int calls,
                    const std::function<void()>& read) {
  ReadingCost cost{reading, {}, {}, why_not};
  if (!why_not.empty()) return cost;
  HostTimeline host;
  std::vector<Seconds> times;
  for (int i = 0; i < calls; ++i) {
    const Seconds before = host.now();
    try {
      read();
      times.push_back(host.now() - before);
    } catch (const DeviceError& error) {
      cost.why_not = error.what();  // drivers that are asked often fail now and then
    }
  }
  if (times.empty()) return cost;
  cost.why_not.clear();
  std::ranges::sort(times);
  cost.median = times[times.size() / 2];
  cost.longest = times.back();
  return cost;
}

}  // namespace

std::vector<ReadingCost> reading_costs(Device& device, GpuId gpu, int calls) {
  const GpuAbilities can = device.abilities(gpu);
  return {
      cost_of("clock", {}, calls, [&] { static_cast<void>(device.observed_clock(gpu)); }),
      cost_of("event reasons", can.event_reasons.why_not, calls,
              [&] { static_cast<void>(device.event_reasons(gpu)); }),
      cost_of("energy", can.energy.why_not, calls, [&] { static_cast<void>(device.energy(gpu)); }),
      cost_of("power", can.power.why_not, calls, [&] { static_cast<void>(device.power(gpu)); }),
      cost_of("power cap", can.power_cap.why_not, calls, [&] { static_cast<void>(device.power_cap(gpu)); }),
      cost_of("temperature", can.temperature.why_not, calls,
              [&] { static_cast<void>(device.temperature(gpu)); }),
  };
}

}  // namespace slackline
