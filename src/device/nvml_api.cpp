#include "nvml_api.h"

#include <algorithm>
#include <array>
#include <optional>
#include <utility>

namespace slackline::nvml {
namespace {

struct Meaning {
  Return code;
  const char* words;
  const char* remedy;
};

constexpr std::array<Meaning, 20> kMeanings{{
    {1, "NVML is not initialised", ""},
    {kInvalidArgument, "the driver does not accept this", ""},
    {kNotSupported, "this GPU or its driver cannot do it", ""},
    {kNoPermission, "the driver permits this only to root", "run `sudo slackline agent`, or this as root"},
    {kNotFound, "the driver does not know what was asked for", ""},
    {kInsufficientSize, "the driver has more to say than fits", ""},
    {kDriverNotLoaded, "the NVIDIA driver is not loaded", "load it: `sudo modprobe nvidia`"},
    {kFunctionNotFound, "this version of the driver cannot do it", "install a newer driver"},
    {kGpuIsLost, "the GPU has fallen off the bus", "reboot the node"},
    {kResetRequired, "the GPU must be reset before it works again", "run `sudo nvidia-smi --gpu-reset`"},
    {kOperatingSystem, "the operating system or a cgroup keeps this process from the GPU",
     "ask the job's scheduler or container for this GPU"},
    {kLibraryVersionMismatch, "the driver's library and kernel module are of different versions",
     "reload the module, or reboot the node"},
    {19, "the GPU is in use", ""},
    {24, "the GPU does not have this clock", ""},
    {25, "this version of the driver has another layout of it", ""},
    {26, "the driver has given this up", ""},
    {27, "the driver is not ready for it", ""},
    {28, "the driver finds no GPU", ""},
    {29, "the GPU is in a state that does not allow it", ""},
    {kUnknown, "the driver failed and does not know why", ""},
}};

const Meaning* meaning_of(Return code) {
  const auto found = std::find_if(kMeanings.begin(), kMeanings.end(),
                                  [&](const Meaning& meaning) { return meaning.code == code; });
  return found == kMeanings.end() ? nullptr : &*found;
}

std::optional<double> number_of(const FieldValue& value) {
  switch (value.type) {
    case 0:
      return value.as_double;
    case 1:
      return value.as_unsigned;
    case 2:
      return static_cast<double>(value.as_unsigned_long);
    case 3:
      return static_cast<double>(value.as_unsigned_long_long);
    case 4:
      return static_cast<double>(value.as_signed_long_long);
    case 5:
      return value.as_signed;
    case 6:
      return value.as_unsigned_short;
    default:
      return std::nullopt;
  }
}

}  // namespace

Api::Api(const VendorLibrary& lib)
    : error_string(lib.find<const char*(Return)>("nvmlErrorString")),
      init(lib, "nvmlInit_v2", Need::kMandatory),
      shutdown(lib, "nvmlShutdown", Need::kMandatory),
      count(lib, "nvmlDeviceGetCount_v2", Need::kMandatory),
      handle_by_index(lib, "nvmlDeviceGetHandleByIndex_v2", Need::kMandatory),
      name(lib, "nvmlDeviceGetName", Need::kMandatory),
      uuid(lib, "nvmlDeviceGetUUID", Need::kMandatory),
      driver_version(lib, "nvmlSystemGetDriverVersion"),
      nvml_version(lib, "nvmlSystemGetNVMLVersion"),
      pci_info(lib, "nvmlDeviceGetPciInfo_v3"),
      architecture(lib, "nvmlDeviceGetArchitecture"),
      mig_mode(lib, "nvmlDeviceGetMigMode"),
      persistence_mode(lib, "nvmlDeviceGetPersistenceMode"),
      power_profiles(lib, "nvmlDeviceWorkloadPowerProfileGetCurrentProfiles"),
      memory_clocks(lib, "nvmlDeviceGetSupportedMemoryClocks"),
      graphics_clocks(lib, "nvmlDeviceGetSupportedGraphicsClocks"),
      lock_clocks(lib, "nvmlDeviceSetGpuLockedClocks"),
      reset_locked_clocks(lib, "nvmlDeviceResetGpuLockedClocks"),
      clock(lib, "nvmlDeviceGetClockInfo"),
      event_reasons(lib, "nvmlDeviceGetCurrentClocksEventReasons"),
      throttle_reasons(lib, "nvmlDeviceGetCurrentClocksThrottleReasons"),
      field_values(lib, "nvmlDeviceGetFieldValues"),
      total_energy(lib, "nvmlDeviceGetTotalEnergyConsumption"),
      power_usage(lib, "nvmlDeviceGetPowerUsage"),
      enforced_power_limit(lib, "nvmlDeviceGetEnforcedPowerLimit"),
      temperature_v(lib, "nvmlDeviceGetTemperatureV"),
      temperature(lib, "nvmlDeviceGetTemperature"),
      compute_processes(lib, "nvmlDeviceGetComputeRunningProcesses_v3") {
  if (error_string == nullptr)
    throw DeviceError("load driver library", "", lib.name() + " has no nvmlErrorString");
}

std::string Api::words_of(Status status) const {
  const Meaning* meaning = meaning_of(status.code);
  const std::string words =
      meaning != nullptr ? meaning->words : "the driver failed with its error " + std::to_string(status.code);
  const char* own = error_string(status.code);
  return words + " (" + status.function + ": " + (own != nullptr ? own : "no text") + ")";
}

std::string Api::remedy_of(Return code) {
  const Meaning* meaning = meaning_of(code);
  return meaning != nullptr ? meaning->remedy : "";
}

std::string Api::text_of(Status status) const {
  const std::string remedy = remedy_of(status.code);
  return words_of(status) + (remedy.empty() ? "" : "; " + remedy);
}

Answer<FieldNumber> read_field(const Api& api, Handle gpu, unsigned field, unsigned scope) {
  FieldValue value{};
  value.field = field;
  value.scope = scope;
  Status status = api.field_values(gpu, 1, &value);
  if (!status.ok()) return {status, {}};
  status.code = value.status;  // the call as a whole succeeds even when every field of it fails
  const std::optional<double> number = number_of(value);
  if (status.ok() && !number) status.code = kUnknown;
  return {status, {number.value_or(0), value.timestamp_us}};
}

EventReasons event_reasons_of(unsigned long long bits) {
  constexpr std::array<std::pair<unsigned long long, EventReason>, 9> kBits{
      {{0x1, EventReason::kIdle},
       {0x2, EventReason::kUserSet},
       {0x4, EventReason::kPowerCap},
       {0x8, EventReason::kHardwareSlowdown},
       {0x10, EventReason::kSyncBoost},
       {0x20, EventReason::kThermal},
       {0x40, EventReason::kHardwareThermal},
       {0x80, EventReason::kPowerBrake},
       {0x100, EventReason::kDisplay}}};
  EventReasons reasons;
  for (const auto& [bit, reason] : kBits) {
    if ((bits & bit) != 0) reasons |= reason;
    bits &= ~bit;
  }
  if (bits != 0) reasons |= EventReason::kOther;
  return reasons;
}

}  // namespace slackline::nvml
