#pragma once
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "slackline/device/device.h"
#include "slackline/device/sim_world.h"
#include "slackline/profile/profile.h"

namespace slackline {

/// What --device names.
struct DeviceSpec {
  Profile profile;  // that drives the simulated GPUs
  SimOptions options;
};

inline constexpr const char* kDeviceHelp =
    "sim:PROFILE[,pace=X][,switch_ms=X][,tick_ms=X][,noise=X][,seed=N]: simulated GPUs that behave as "
    "PROFILE "
    "measured. pace: simulated seconds a second (0: virtual time, as fast as it goes); switch_ms: until a "
    "clock takes "
    "effect (10); tick_ms: refresh of the energy counter (100); noise: relative, of times (0)";

/// DeviceError for a device that does not exist, InputError for one that is described wrongly.
[[nodiscard]] DeviceSpec parse_device(const std::string& text);

/// Simulated GPUs in a folder of their own, which goes when this does.
class SimulatedNode {
 public:
  SimulatedNode(const DeviceSpec& spec, const std::string& runtime_folder);
  SimulatedNode(const SimulatedNode&) = delete;
  SimulatedNode& operator=(const SimulatedNode&) = delete;
  ~SimulatedNode();

  [[nodiscard]] const std::shared_ptr<SimWorld>& world() const { return world_; }
  [[nodiscard]] SimDevice& device() { return *device_; }
  [[nodiscard]] const std::string& folder() const { return folder_; }
  /// GPUs of each stage.
  [[nodiscard]] std::vector<std::vector<GpuId>> stage_gpus() const;

 private:
  std::string folder_;
  std::vector<int> gpus_per_stage_;
  std::shared_ptr<SimWorld> world_;
  std::unique_ptr<SimDevice> device_;
};

/// Ends the sleeps of a world's observers when a scope is left, so that their threads can be joined.
class ShutDownAtExit {
 public:
  explicit ShutDownAtExit(std::shared_ptr<SimWorld> world) : world_(std::move(world)) {}
  ShutDownAtExit(const ShutDownAtExit&) = delete;
  ShutDownAtExit& operator=(const ShutDownAtExit&) = delete;
  ~ShutDownAtExit() { world_->shut_down(); }

 private:
  std::shared_ptr<SimWorld> world_;
};

/// Removes the folders of simulated nodes whose processes are gone.
void remove_abandoned_nodes(const std::string& runtime_folder);

}  // namespace slackline
