#pragma once
#include <cstddef>
#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "vendor_library.h"

namespace slackline {

/// What AMD SMI looks like to a program that has no header of it: types, numbers and functions, as they are
/// in the versions that we know. The library's major version is its ABI; structs that differ between majors
/// are never passed along, only read here by offset.
namespace amdsmi {

using Status = std::uint32_t;
using Handle = void*;

constexpr Status kSuccess = 0;
constexpr Status kNotSupported = 2;
constexpr Status kNoSymbol = 5;  // also ours: this version has no such function
constexpr Status kNoPermission = 10;
constexpr Status kNoData = 40;
/// Asked a moment later, the driver may answer: it was too slow, wants to be asked again, or is busy.
constexpr bool passes(Status status) {
  return status == 8 || status == 9 || status == 30;
}

constexpr std::uint64_t kInitAmdGpus = 2;
constexpr std::uint32_t kClockOfCores = 0;  // "GFX", "SYS"
constexpr std::uint32_t kLimitMin = 0;
constexpr std::uint32_t kLimitMax = 1;
constexpr std::uint32_t kLevelAuto = 0;
constexpr std::uint32_t kLevelManual = 3;
constexpr std::uint32_t kLevelLast = 8;  // determinism; above it only "unknown", 0x100
constexpr std::uint32_t kHotspot = 1;
constexpr std::uint32_t kTemperatureNow = 0;

constexpr std::uint32_t kMostFrequencies = 33;

/// The same in all versions since 24.
struct Frequencies {
  bool has_deep_sleep;  // then the lowest is that of a sleeping GPU
  std::uint32_t count;
  std::uint32_t current;  // all ones in deep sleep
  std::uint64_t hertz[kMostFrequencies];
};
static_assert(sizeof(Frequencies) == 280);
static_assert(offsetof(Frequencies, count) == 4 && offsetof(Frequencies, hertz) == 16);

struct ClockInfo {  // 24 to 26
  std::uint32_t mhz;
  std::uint32_t min_mhz;  // as limited now, not what the GPU can do
  std::uint32_t max_mhz;
  std::uint8_t is_locked;
  std::uint8_t deep_sleep;
  std::uint32_t reserved[4];
};
static_assert(sizeof(ClockInfo) == 32);

struct PowerCapInfo {  // 24 to 26
  std::uint64_t cap_uw;
  std::uint64_t default_uw;
  std::uint64_t dpm_mhz;
  std::uint64_t min_uw;
  std::uint64_t max_uw;
  std::uint64_t reserved[3];
};
static_assert(sizeof(PowerCapInfo) == 64);

struct PowerInfo24 {
  std::uint32_t current_w;
  std::uint32_t average_w;
  std::uint32_t rest[15];
};
static_assert(sizeof(PowerInfo24) == 68 && offsetof(PowerInfo24, average_w) == 4);

struct PowerInfo25 {
  std::uint64_t socket_w;
  std::uint32_t current_w;
  std::uint32_t average_w;
  std::uint32_t rest[6];
};
static_assert(sizeof(PowerInfo25) == 40);
static_assert(offsetof(PowerInfo25, current_w) == 8 && offsetof(PowerInfo25, average_w) == 12);

struct PowerInfo26 {
  std::uint64_t socket_w;
  std::uint32_t current_w;
  std::uint32_t average_w;
  std::uint64_t rest[22];
};
static_assert(sizeof(PowerInfo26) == 192);
static_assert(offsetof(PowerInfo26, current_w) == 8 && offsetof(PowerInfo26, average_w) == 12);

/// Function 3 bits, device 5, bus 8, domain 48.
union Bdf {
  std::uint64_t bits;
};
static_assert(sizeof(Bdf) == 8);

/// "0000:c1:00.0".
[[nodiscard]] std::string text_of(Bdf bdf);

/// All ones, or the 0xFFFF of older versions: the GPU does not have this one reading.
[[nodiscard]] constexpr bool is_missing(std::uint32_t value) {
  return value == UINT32_MAX || value == 0xFFFF;
}

}  // namespace amdsmi

/// AMD SMI, loaded. Versions before 26.2 crash or answer for another GPU when two threads are in it at once,
/// so that no two calls of this process ever are, whoever makes them.
class AmdsmiApi {
 public:
  struct Range {
    std::uint64_t min_mhz;
    std::uint64_t max_mhz;
  };
  struct Power {
    std::uint32_t current_w;  // MI300 and newer; missing elsewhere
    std::uint32_t average_w;  // MI200, Navi and older
  };
  struct EnergyCount {
    std::uint64_t accumulator = 0;
    float resolution_uj = 0;
    std::uint64_t timestamp_ns = 0;
  };

  /// Loads, refuses versions that we do not know, and initialises. DeviceError.
  explicit AmdsmiApi(const std::optional<std::string>& path);
  AmdsmiApi(const AmdsmiApi&) = delete;
  AmdsmiApi& operator=(const AmdsmiApi&) = delete;
  ~AmdsmiApi();

  /// See VendorLibrary::name().
  [[nodiscard]] const std::string& library() const { return library_.name(); }
  [[nodiscard]] int major() const { return major_; }
  /// "AMD SMI 26.2".
  [[nodiscard]] const std::string& version() const { return version_; }
  /// Whether power, power cap, temperature and the current range mean here what they meant in the headers we
  /// have read. Of 27 we know what has no struct in it, or has had the same since 24.
  [[nodiscard]] bool is_fully_known() const { return major_ <= 26; }
  /// 24.7 and newer.
  [[nodiscard]] bool can_limit_clocks() const { return set_gpu_clk_limit_ != nullptr; }

  /// In the library's order. DeviceError.
  [[nodiscard]] std::vector<amdsmi::Handle> gpus() const;

  // All others return a status, kNoSymbol where this version lacks the function.
  amdsmi::Status get_bdf(amdsmi::Handle gpu, amdsmi::Bdf& bdf) const;
  amdsmi::Status get_name(amdsmi::Handle gpu, std::string& name) const;
  amdsmi::Status get_frequencies(amdsmi::Handle gpu, amdsmi::Frequencies& frequencies) const;
  amdsmi::Status get_clock(amdsmi::Handle gpu, amdsmi::ClockInfo& info) const;
  /// What the core clock is limited to now.
  amdsmi::Status get_range(amdsmi::Handle gpu, Range& range) const;
  amdsmi::Status set_limit(amdsmi::Handle gpu, std::uint32_t which, std::uint64_t mhz) const;
  amdsmi::Status get_level(amdsmi::Handle gpu, std::uint32_t& level) const;
  amdsmi::Status set_level(amdsmi::Handle gpu, std::uint32_t level) const;
  amdsmi::Status get_energy(amdsmi::Handle gpu, EnergyCount& count) const;
  amdsmi::Status get_power(amdsmi::Handle gpu, Power& power) const;
  amdsmi::Status get_power_cap(amdsmi::Handle gpu, amdsmi::PowerCapInfo& info) const;
  /// Degrees Celsius.
  amdsmi::Status get_temperature(amdsmi::Handle gpu, std::int64_t& celsius) const;

  /// What a status means, for people.
  [[nodiscard]] std::string text_of(amdsmi::Status status) const;

 private:
  template <class Function, class... Args>
  amdsmi::Status call(Function* function, Args... args) const;
  void check_version();

  template <class... Args>
  using Entry = amdsmi::Status(Args...);
  using Handle = amdsmi::Handle;
  using U32 = std::uint32_t;
  using U64 = std::uint64_t;

  VendorLibrary library_;
  int major_ = 0;
  std::string version_;
  Entry<U64>* init_ = nullptr;
  Entry<>* shut_down_ = nullptr;
  Entry<U32, const char**>* status_code_to_string_ = nullptr;
  Entry<void*>* get_lib_version_ = nullptr;
  Entry<U32*, Handle*>* get_socket_handles_ = nullptr;
  Entry<Handle, U32*, Handle*>* get_processor_handles_ = nullptr;
  Entry<Handle, amdsmi::Bdf*>* get_gpu_device_bdf_ = nullptr;
  Entry<Handle, void*>* get_gpu_asic_info_ = nullptr;
  Entry<Handle, U32, amdsmi::Frequencies*>* get_clk_freq_ = nullptr;
  Entry<Handle, U32, amdsmi::ClockInfo*>* get_clock_info_ = nullptr;
  Entry<Handle, void*>* get_gpu_od_volt_info_ = nullptr;
  Entry<Handle, U32, U32, U64>* set_gpu_clk_limit_ = nullptr;
  Entry<Handle, U32*>* get_gpu_perf_level_ = nullptr;
  Entry<Handle, U32>* set_gpu_perf_level_ = nullptr;
  Entry<Handle, U64*, float*, U64*>* get_energy_count_ = nullptr;
  Entry<Handle, void*>* get_power_info_ = nullptr;
  Entry<Handle, U32, amdsmi::PowerCapInfo*>* get_power_cap_info_ = nullptr;
  Entry<Handle, U32, U32, std::int64_t*>* get_temp_metric_ = nullptr;
};

}  // namespace slackline
