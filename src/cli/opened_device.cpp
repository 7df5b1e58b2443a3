#include "opened_device.h"

#include <algorithm>
#include <array>
#include <cstdio>
#include <optional>
#include <utility>

#include "slackline/base/error.h"
#include "slackline/base/number_text.h"
#include "slackline/base/user.h"
#include "slackline/runtime/runtime_folder.h"

namespace slackline {
namespace {

std::unique_ptr<Device> open_what_is_there(DeviceAccess access) {
  constexpr std::array<std::pair<const char*, const char*>, 2> kVendors{
      {{"nvml", "NVIDIA"}, {"amdsmi", "AMD"}}};
  for (const auto& [spec, vendor] : kVendors) {
    std::string why = "the driver sees none";
    try {
      std::unique_ptr<Device> device = open_device(spec, access);
      if (device->gpu_count() > 0) return device;
    } catch (const DeviceError& error) {
      why = error.what();
    } catch (const InputError& error) {
      why = error.reason();
    }
    std::fprintf(stderr, "slackline: no %s GPUs: %s\n", vendor, why.c_str());
  }
  throw DeviceError("find GPUs", "",
                    "there are none here; try simulated ones with --device sim:PROFILE, for instance "
                    "sim:profiles/gpt3-175b-a100-sxm.yaml");
}

}  // namespace

OpenedDevice::OpenedDevice(const std::string& text, DeviceAccess access) : text_(text) {
  const std::optional<User> caller = calling_user();
  if (caller && !text.empty() && !is_vendor_spec(text)) become_or_throw(*caller);
  if (text.empty()) {
    opened_ = open_what_is_there(access);
  } else if (is_device_spec(text)) {
    opened_ = open_device(text, access);
  } else {
    DeviceSpec spec = parse_device(text);
    if (spec.options.pace == 0) spec.options.pace = 1;
    const std::string folder = runtime_folder();
    remove_abandoned_folders(folder);
    node_ = std::make_unique<SimulatedNode>(spec, folder);
  }
  device_ = node_ ? static_cast<Device*>(&node_->device()) : opened_.get();
}

void say_what_is_left_out(const Device& device) {
  for (const std::string& gpu : device.left_out())
    std::fprintf(stderr, "slackline: left out: the driver's %s\n", gpu.c_str());
}

std::vector<GpuId> chosen_gpus(const std::string& list, const Device& device) {
  if (list.empty()) return all_gpus(device);
  std::vector<GpuId> gpus;
  for (std::size_t at = 0; at <= list.size();) {
    const std::size_t comma = std::min(list.find(',', at), list.size());
    const std::string part = list.substr(at, comma - at);
    at = comma + 1;
    const std::size_t dash = part.find('-');
    const auto first = parse_integer(part.substr(0, dash));
    const auto last = dash == std::string::npos ? first : parse_integer(part.substr(dash + 1));
    if (!first || !last || *first < 0 || *last < *first || *last >= device.gpu_count()) {
      throw InputError("", 0, "--gpus",
                       "'" + part + "' is not a GPU or a range of GPUs from 0 to " +
                           std::to_string(device.gpu_count() - 1));
    }
    for (auto gpu = *first; gpu <= *last; ++gpu) gpus.emplace_back(static_cast<std::int32_t>(gpu));
  }
  std::ranges::sort(gpus);
  gpus.erase(std::unique(gpus.begin(), gpus.end()), gpus.end());
  return gpus;
}

}  // namespace slackline
