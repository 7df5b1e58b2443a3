#include "slackline/device/open_device.h"

#include "slackline/base/error.h"
#include "slackline/device/sim_world.h"

namespace slackline {
namespace {

constexpr std::string_view kSimulatedNode = "simnode:";

}  // namespace

bool is_device_spec(std::string_view spec) {
  return spec.starts_with(kSimulatedNode);
}

std::unique_ptr<Device> open_device(const std::string& spec, DeviceAccess) {
  if (spec.starts_with(kSimulatedNode)) {
    return std::make_unique<SimDevice>(std::make_shared<SimWorld>(spec.substr(kSimulatedNode.size())));
  }
  throw InputError("", 0, "--device", "'" + spec + "' is no device; known: simnode:PATH");
}

}  // namespace slackline
