#pragma once
#include <memory>
#include <string>
#include <string_view>

#include "slackline/device/device.h"

namespace slackline {

/// How much a process may do with the GPUs that it opens.
enum class DeviceAccess {
  kIfPrivileged,  // set clocks if this process may (root or CAP_SYS_ADMIN), else only read
  kReadOnly,      // refuse whatever would change a GPU before it is tried
};

/// Opens GPUs by what --device and the journal call them:
///
///     nvml[:0,2,...][,library=PATH]      NVIDIA's driver library, GPUs by number or UUID
///     amdsmi[:0,2,...][,library=PATH]    AMD's
///     simnode:PATH                       an existing node of simulated GPUs
///
/// `library` is for drivers in unusual places, and must be absolute; without it a process that runs as root
/// looks only where the system keeps libraries, whatever its environment says. InputError for a text of
/// another form, DeviceError if the device is not there.
[[nodiscard]] std::unique_ptr<Device> open_device(const std::string& spec,
                                                  DeviceAccess access = DeviceAccess::kIfPrivileged);

/// The same vendor's, but only the GPU that is number `index` of those that `spec` names. InputError if it
/// names fewer.
[[nodiscard]] std::string narrowed_spec(const std::string& spec, int index);

/// Whether `spec` is one of the above (rather than sim:PROFILE, which only the command line knows).
[[nodiscard]] bool is_device_spec(std::string_view spec);
/// The same, but for simulated GPUs, which need no privileges.
[[nodiscard]] bool is_vendor_spec(std::string_view spec);

}  // namespace slackline
