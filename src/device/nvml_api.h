#pragma once
#include <cstddef>
#include <cstdint>
#include <string>

#include "slackline/base/error.h"
#include "slackline/device/event_reasons.h"
#include "vendor_library.h"

/// As much of NVIDIA's management library as we use, declared by ourselves: no vendor's header is needed to
/// build. All layouts are those of 64-bit Linux.
namespace slackline::nvml {

using Return = int;
constexpr Return kSuccess = 0;
constexpr Return kInvalidArgument = 2;
constexpr Return kNotSupported = 3;
constexpr Return kNoPermission = 4;
constexpr Return kNotFound = 6;
constexpr Return kInsufficientSize = 7;
constexpr Return kDriverNotLoaded = 9;
constexpr Return kFunctionNotFound = 13;
constexpr Return kGpuIsLost = 15;
constexpr Return kResetRequired = 16;
constexpr Return kOperatingSystem = 17;  // it, or a cgroup, blocks the request
constexpr Return kLibraryVersionMismatch = 18;
constexpr Return kUnknown = 999;

using Handle = struct OpaqueDevice*;

struct PciInfo {  // nvmlPciInfo_t
  char bus_id_legacy[16];
  unsigned domain;
  unsigned bus;
  unsigned device;
  unsigned pci_device_id;
  unsigned pci_subsystem_id;
  char bus_id[32];
};
static_assert(sizeof(PciInfo) == 68 && offsetof(PciInfo, domain) == 16 && offsetof(PciInfo, bus) == 20 &&
              offsetof(PciInfo, device) == 24 && offsetof(PciInfo, bus_id) == 36);

struct FieldValue {  // nvmlFieldValue_t
  unsigned field;
  unsigned scope;
  std::int64_t timestamp_us;  // since 1970
  std::int64_t latency_us;
  unsigned type;
  Return status;
  union {
    double as_double;
    unsigned as_unsigned;
    unsigned long as_unsigned_long;
    unsigned long long as_unsigned_long_long;
    long long as_signed_long_long;
    int as_signed;
    unsigned short as_unsigned_short;
  };
};
static_assert(sizeof(FieldValue) == 40 && offsetof(FieldValue, scope) == 4 &&
              offsetof(FieldValue, timestamp_us) == 8 && offsetof(FieldValue, latency_us) == 16 &&
              offsetof(FieldValue, type) == 24 && offsetof(FieldValue, status) == 28 &&
              offsetof(FieldValue, as_double) == 32);

struct Temperature {  // nvmlTemperature_v1_t
  unsigned version = sizeof(Temperature) | 1U << 24;
  unsigned sensor = 0;  // the GPU's
  int celsius = 0;
};
static_assert(sizeof(Temperature) == 12 && offsetof(Temperature, celsius) == 8);

struct PowerProfiles {  // nvmlWorkloadPowerProfileCurrentProfiles_v1_t
  unsigned version = sizeof(PowerProfiles) | 1U << 24;
  unsigned supported[8] = {};
  unsigned requested[8] = {};
  unsigned enforced[8] = {};
};
static_assert(sizeof(PowerProfiles) == 100 && offsetof(PowerProfiles, enforced) == 68);

struct ProcessInfo {  // nvmlProcessInfo_t, of the functions named _v3
  unsigned pid;
  unsigned long long used_gpu_memory;
  unsigned gpu_instance;
  unsigned compute_instance;
};
static_assert(sizeof(ProcessInfo) == 24 && offsetof(ProcessInfo, used_gpu_memory) == 8 &&
              offsetof(ProcessInfo, gpu_instance) == 16 && offsetof(ProcessInfo, compute_instance) == 20);

constexpr unsigned kClockSm = 1;
constexpr unsigned kClockMemory = 2;
constexpr unsigned kFieldTotalEnergy = 83;    // mJ
constexpr unsigned kFieldPowerInstant = 186;  // mW
constexpr unsigned kFieldEnergy = 191;        // mJ
constexpr unsigned kScopeGpu = 0;
constexpr unsigned kScopeModule = 1;
constexpr unsigned kVolta = 5;
constexpr unsigned kAmpere = 7;

/// What a call returned, and which.
struct Status {
  Return code = kSuccess;
  const char* function = "";

  [[nodiscard]] bool ok() const { return code == kSuccess; }
  /// This GPU, or this version of the driver, does not do it: another way may.
  [[nodiscard]] bool asks_for_another_way() const {
    return code == kNotSupported || code == kFunctionNotFound || code == kInvalidArgument;
  }
};

enum class Need { kMandatory, kOptional };

/// A function of the library. One that is optional and missing answers kFunctionNotFound.
template <class... Arguments>
class Function {
 public:
  Function(const VendorLibrary& library, const char* name, Need need = Need::kOptional)
      : name_(name), address_(library.find<Return(Arguments...)>(name)) {
    if (address_ == nullptr && need == Need::kMandatory)
      throw DeviceError("load driver library", "", library.name() + " has no " + name);
  }
  [[nodiscard]] explicit operator bool() const { return address_ != nullptr; }
  Status operator()(Arguments... arguments) const {
    return {address_ == nullptr ? kFunctionNotFound : address_(arguments...), name_};
  }

 private:
  const char* name_;
  Return (*address_)(Arguments...);
};

/// The functions. Names carry their version wherever there is one: the same name without it is an older
/// function with another layout. The only two that change anything are those that lock and free the clock.
struct Api {
  explicit Api(const VendorLibrary& lib);

  const char* (*error_string)(Return);
  Function<> init;
  Function<> shutdown;
  Function<unsigned*> count;
  Function<unsigned, Handle*> handle_by_index;
  Function<Handle, char*, unsigned> name;
  Function<Handle, char*, unsigned> uuid;

  Function<char*, unsigned> driver_version;
  Function<char*, unsigned> nvml_version;
  Function<Handle, PciInfo*> pci_info;
  Function<Handle, unsigned*> architecture;
  Function<Handle, unsigned*, unsigned*> mig_mode;
  Function<Handle, unsigned*> persistence_mode;
  Function<Handle, PowerProfiles*> power_profiles;
  Function<Handle, unsigned*, unsigned*> memory_clocks;
  Function<Handle, unsigned, unsigned*, unsigned*> graphics_clocks;
  Function<Handle, unsigned, unsigned> lock_clocks;
  Function<Handle> reset_locked_clocks;
  Function<Handle, unsigned, unsigned*> clock;
  Function<Handle, unsigned long long*> event_reasons;
  Function<Handle, unsigned long long*> throttle_reasons;  // its name before NVML 12.2
  Function<Handle, int, FieldValue*> field_values;
  Function<Handle, unsigned long long*> total_energy;
  Function<Handle, unsigned*> power_usage;
  Function<Handle, unsigned*> enforced_power_limit;
  Function<Handle, Temperature*> temperature_v;
  Function<Handle, unsigned, unsigned*> temperature;  // its name before NVML 13
  Function<Handle, unsigned*, ProcessInfo*> compute_processes;

  /// The refusal in our words, with the function and NVML's own words, and what would help where we know it.
  [[nodiscard]] std::string text_of(Status status) const;
  /// The first half of it, and the second.
  [[nodiscard]] std::string words_of(Status status) const;
  [[nodiscard]] static std::string remedy_of(Return code);
};

template <class T>
struct Answer {
  Status status;
  T value{};
};

/// One field, read by its type tag. `value.number` is in the field's unit.
struct FieldNumber {
  double number = 0;
  std::int64_t timestamp_us = 0;
};
[[nodiscard]] Answer<FieldNumber> read_field(const Api& api, Handle gpu, unsigned field, unsigned scope);

[[nodiscard]] EventReasons event_reasons_of(unsigned long long bits);

}  // namespace slackline::nvml
