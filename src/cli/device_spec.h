#pragma once
#include <memory>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "slackline/device/device.h"
#include "slackline/device/sim_world.h"
#include "slackline/profile/profile.h"
#include "slackline/runtime/runtime_folder.h"

namespace slackline {

/// What --device names.
struct DeviceSpec {
  Profile profile;  // that drives the simulated GPUs
  SimOptions options;
  std::string node;  // folder of a node to be kept; empty: one of its own
  /// For each rank of a pipeline the stages that its GPUs hold.
  std::vector<std::vector<StageId>> rank_stages;
  /// Replicas of the pipeline.
  int pipelines = 1;
};

/// DeviceError for a device that does not exist, InputError for one that is described wrongly.
[[nodiscard]] DeviceSpec parse_device(const std::string& text);

/// Simulated GPUs in a folder of their own, which goes when this does; or in one that is named, and stays.
class SimulatedNode {
 public:
  SimulatedNode(const DeviceSpec& spec, const std::string& runtime_folder);
  SimulatedNode(const SimulatedNode&) = delete;
  SimulatedNode& operator=(const SimulatedNode&) = delete;

  [[nodiscard]] const std::shared_ptr<SimWorld>& world() const { return world_; }
  [[nodiscard]] SimDevice& device() { return *device_; }
  [[nodiscard]] const std::string& folder() const { return folder_; }
  /// GPUs of each rank, one pipeline's after the other's.
  [[nodiscard]] std::vector<std::vector<GpuId>> rank_gpus() const;

 private:
  std::optional<PrivateFolder> own_;
  std::string folder_;
  std::vector<int> gpus_per_rank_;
  std::shared_ptr<SimWorld> world_;
  std::unique_ptr<SimDevice> device_;
};

/// Ends the sleeps on a device's timelines when a scope is left, so that their threads can be joined.
class ShutDownAtExit {
 public:
  explicit ShutDownAtExit(Device& device) : device_(device) {}
  ShutDownAtExit(const ShutDownAtExit&) = delete;
  ShutDownAtExit& operator=(const ShutDownAtExit&) = delete;
  ~ShutDownAtExit() { device_.shut_down_timelines(); }

 private:
  Device& device_;
};

/// What open_device() takes for each simulated node that is in a folder.
[[nodiscard]] std::vector<std::string> node_specs(const std::string& runtime_folder);

}  // namespace slackline
