#include "slackline/device/open_device.h"

#include <algorithm>
#include <optional>
#include <vector>

#include "slackline/base/error.h"
#include "slackline/device/amdsmi_device.h"
#include "slackline/device/nvml_device.h"
#include "slackline/device/sim_world.h"

namespace slackline {
namespace {

constexpr std::string_view kSimulatedNode = "simnode:";
constexpr std::string_view kLibrary = "library=";

[[noreturn]] void refuse(const std::string& spec, const std::string& reason) {
  throw InputError("", 0, "--device", "'" + spec + "': " + reason);
}

/// What follows a vendor's name: [:GPU,GPU,...][,library=PATH].
struct VendorSpec {
  std::vector<std::string> gpus;
  std::optional<std::string> library;
};

VendorSpec vendor_spec(const std::string& spec, std::size_t name_ends) {
  VendorSpec parsed;
  const bool has_list = spec.substr(name_ends).starts_with(":");
  std::size_t at = name_ends;
  while (at < spec.size()) {
    ++at;  // the ':' or ',' before it
    if (spec.substr(at).starts_with(kLibrary)) {
      parsed.library = spec.substr(at + kLibrary.size());  // to the end: a path may have commas
      if (!parsed.library->starts_with("/")) refuse(spec, "library= takes an absolute path");
      break;
    }
    const std::size_t end = std::min(spec.find(',', at), spec.size());
    const std::string word = spec.substr(at, end - at);
    if (word.find('=') != std::string::npos)
      refuse(spec, "unknown key '" + word.substr(0, word.find('=')) + "'; known: library");
    if (!has_list) refuse(spec, "GPUs follow a colon, and the library is library=PATH");
    if (word.empty()) refuse(spec, "a GPU is a number or a UUID, not nothing");
    for (const std::string& gpu : parsed.gpus) {
      if (gpu == word) refuse(spec, "GPU " + word + " is named twice");
    }
    parsed.gpus.push_back(word);
    at = end;
  }
  if (has_list && parsed.gpus.empty()) refuse(spec, "names no GPU after the colon");
  return parsed;
}

/// Where the name of `vendor` ends in `spec`, if that is what it begins with.
std::optional<std::size_t> end_of_name(std::string_view spec, std::string_view vendor) {
  if (!spec.starts_with(vendor)) return std::nullopt;
  const std::string_view rest = spec.substr(vendor.size());
  if (rest.empty() || rest.starts_with(":") || rest.starts_with(",")) return vendor.size();
  return std::nullopt;
}

}  // namespace

bool is_device_spec(std::string_view spec) {
  return spec.starts_with(kSimulatedNode) || is_vendor_spec(spec);
}

bool is_vendor_spec(std::string_view spec) {
  return end_of_name(spec, "nvml") || end_of_name(spec, "amdsmi");
}

std::string narrowed_spec(const std::string& spec, int index) {
  auto end = end_of_name(spec, "nvml");
  if (!end) end = end_of_name(spec, "amdsmi");
  if (!end) refuse(spec, "is no vendor's device");
  const auto [gpus, library] = vendor_spec(spec, *end);
  if (!gpus.empty() && static_cast<std::size_t>(index) >= gpus.size()) {
    refuse(spec, "names " + std::to_string(gpus.size()) + " GPUs, this rank is number " +
                     std::to_string(index) + " on its node");
  }
  const std::string gpu = gpus.empty() ? std::to_string(index) : gpus[static_cast<std::size_t>(index)];
  return spec.substr(0, *end) + ":" + gpu + (library ? "," + std::string(kLibrary) + *library : "");
}

std::unique_ptr<Device> open_device(const std::string& spec, DeviceAccess access) {
  if (spec.starts_with(kSimulatedNode)) {
    return std::make_unique<SimDevice>(std::make_shared<SimWorld>(spec.substr(kSimulatedNode.size())));
  }
  if (const auto end = end_of_name(spec, "nvml")) {
    const auto [gpus, library] = vendor_spec(spec, *end);
    return std::make_unique<NvmlDevice>(library, gpus, access);
  }
  if (const auto end = end_of_name(spec, "amdsmi")) {
    const auto [gpus, library] = vendor_spec(spec, *end);
    return std::make_unique<AmdsmiDevice>(library, gpus, access);
  }
  refuse(spec, "is no device; known: nvml[:GPU,...][,library=PATH], amdsmi[...], simnode:PATH");
}

}  // namespace slackline
