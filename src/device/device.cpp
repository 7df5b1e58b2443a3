#include "slackline/device/device.h"

namespace slackline {

std::vector<GpuId> all_gpus(const Device& device) {
  std::vector<GpuId> gpus;
  for (int g = 0; g < device.gpu_count(); ++g) gpus.emplace_back(g);
  return gpus;
}

std::optional<GpuId> find_gpu(const Device& device, const std::string& uuid) {
  for (const GpuId gpu : all_gpus(device)) {
    if (device.identity(gpu).uuid == uuid) return gpu;
  }
  return std::nullopt;
}

}  // namespace slackline
