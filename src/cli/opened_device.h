#pragma once
#include <memory>
#include <string>
#include <vector>

#include "device_spec.h"
#include "slackline/device/device.h"
#include "slackline/device/open_device.h"

namespace slackline {

inline constexpr const char* kOpenedDeviceHelp =
    "nvml[:0,2,...], amdsmi[:0,2,...], simnode:PATH or sim:PROFILE[,key=value...]; default: NVIDIA's GPUs "
    "here, else AMD's";

/// The GPUs that a --device flag names, for commands that look at them. Simulated ones live as long as this,
/// in the host's time unless the flag gives another pace: whoever looks has no job that would drive a virtual
/// one.
class OpenedDevice {
 public:
  /// An empty `text` takes what is there, and says on standard error what is not. DeviceError if nothing is.
  /// Simulated GPUs need no privileges: under sudo, this process is its caller's from here on.
  explicit OpenedDevice(const std::string& text, DeviceAccess access = DeviceAccess::kReadOnly);

  [[nodiscard]] Device& get() { return *device_; }
  [[nodiscard]] bool is_simulated() const { return dynamic_cast<const SimDevice*>(device_) != nullptr; }
  /// What open_device() takes to open it in another process.
  [[nodiscard]] std::string spec() const { return text_.empty() || node_ ? device_->spec() : text_; }

 private:
  std::string text_;
  std::unique_ptr<SimulatedNode> node_;
  std::unique_ptr<Device> opened_;
  Device* device_ = nullptr;
};

/// On standard error.
void say_what_is_left_out(const Device& device);

/// The value of a --gpus flag, as in "0,2-3"; all GPUs if it is empty.
[[nodiscard]] std::vector<GpuId> chosen_gpus(const std::string& list, const Device& device);

}  // namespace slackline
