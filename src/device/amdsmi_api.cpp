#include "amdsmi_api.h"

#include <dlfcn.h>
#include <elf.h>
#include <link.h>
#include <sys/auxv.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <charconv>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <filesystem>
#include <mutex>

#include "slackline/base/error.h"

namespace slackline {
namespace {

using amdsmi::Status;

constexpr std::string_view kSoname = "libamd_smi.so.";
constexpr int kOldest = 24;
constexpr int kNewest = 27;
/// More than any version writes where we only know the beginning of a struct.
constexpr std::size_t kRoom = 8192;

/// One for the process, not one a device: the library's state is the process's, too.
std::mutex& library_mutex() {
  static std::mutex mutex;
  return mutex;
}

/// Folders of ROCm, newest first: "/opt/rocm-7.2.0/lib" before "/opt/rocm-6.10.0/lib" before "-6.4.1".
std::vector<std::string> rocm_folders() {
  std::vector<std::pair<std::vector<int>, std::string>> versions;
  std::error_code ignored;
  for (const auto& entry : std::filesystem::directory_iterator("/opt", ignored)) {
    const std::string name = entry.path().filename().string();
    if (!name.starts_with("rocm-")) continue;
    std::vector<int> numbers;
    const char* const end = name.data() + name.size();
    for (const char* at = name.data() + 5; at < end;) {
      int number = 0;
      const auto [next, error] = std::from_chars(at, end, number);
      if (error != std::errc()) break;
      numbers.push_back(number);
      at = next + 1;
    }
    versions.emplace_back(std::move(numbers), entry.path().string() + "/lib");
  }
  std::sort(versions.rbegin(), versions.rend());
  std::vector<std::string> folders;
  // Who has privileges does not let its caller's environment choose what it runs.
  const bool privileged = ::geteuid() == 0 || ::getauxval(AT_SECURE) != 0;
  const char* const root = privileged ? nullptr : std::getenv("ROCM_PATH");
  if (root != nullptr && root[0] == '/') folders.push_back(std::string(root) + "/lib");
  folders.emplace_back("/opt/rocm/lib");
  for (auto& version : versions) folders.push_back(std::move(version.second));
  return folders;
}

VendorLibrary::Search search() {
  VendorLibrary::Search search;
  for (int major = kNewest; major >= kOldest; --major) {
    search.names.push_back(std::string(kSoname) + std::to_string(major));
  }
  search.folders = rocm_folders();
  return search;
}

/// A library as the loader knows it, found by one of its functions.
struct LoadedFile {
  std::string path;
  /// What its maker calls it: the file's own name may be anything.
  std::string soname;
};

LoadedFile file_of(void* function) {
  Dl_info info{};
  void* extra = nullptr;
  if (::dladdr1(function, &info, &extra, RTLD_DL_LINKMAP) == 0 || extra == nullptr) return {};
  const auto* const map = static_cast<const link_map*>(extra);
  const char* strings = nullptr;
  std::optional<std::size_t> offset;
  for (const ElfW(Dyn)* entry = map->l_ld; entry->d_tag != DT_NULL; ++entry) {
    if (entry->d_tag == DT_STRTAB) strings = reinterpret_cast<const char*>(entry->d_un.d_ptr);
    if (entry->d_tag == DT_SONAME) offset = entry->d_un.d_val;
  }
  return {map->l_name, strings != nullptr && offset ? strings + *offset : ""};
}

/// The 26 of "libamd_smi.so.26"; 0 for another name.
int major_of(std::string_view soname) {
  int major = 0;
  if (!soname.starts_with(kSoname)) return 0;
  soname.remove_prefix(kSoname.size());
  std::from_chars(soname.data(), soname.data() + soname.size(), major);
  return major;
}

/// For the library to write into: a struct as we know it, and room for what a minor version may have added.
template <class Known>
struct Roomy {
  Known known{};
  std::array<char, kRoom> room{};
};

std::uint64_t to_mhz(std::uint64_t value) {
  constexpr std::uint64_t kHertzInMhz = 1'000'000;  // no clock is a million megahertz
  return value >= kHertzInMhz ? value / kHertzInMhz : value;
}

}  // namespace

std::string amdsmi::text_of(Bdf bdf) {
  std::array<char, 40> text{};
  std::snprintf(text.data(), text.size(), "%04llx:%02x:%02x.%x",
                static_cast<unsigned long long>(bdf.bits >> 16), static_cast<unsigned>(bdf.bits >> 8 & 0xFF),
                static_cast<unsigned>(bdf.bits >> 3 & 0x1F), static_cast<unsigned>(bdf.bits & 7));
  return text.data();
}

AmdsmiApi::AmdsmiApi(const std::optional<std::string>& path) : library_(search(), path) {
  const auto find = [&](auto& function, const char* name) {
    function = library_.find<std::remove_pointer_t<std::remove_reference_t<decltype(function)>>>(name);
  };
  find(init_, "amdsmi_init");
  check_version();
  find(shut_down_, "amdsmi_shut_down");
  find(status_code_to_string_, "amdsmi_status_code_to_string");
  find(get_lib_version_, "amdsmi_get_lib_version");
  find(get_socket_handles_, "amdsmi_get_socket_handles");
  find(get_processor_handles_, "amdsmi_get_processor_handles");
  find(get_gpu_device_bdf_, "amdsmi_get_gpu_device_bdf");
  find(get_gpu_asic_info_, "amdsmi_get_gpu_asic_info");
  find(get_clk_freq_, "amdsmi_get_clk_freq");
  find(set_gpu_clk_limit_, "amdsmi_set_gpu_clk_limit");
  find(get_gpu_perf_level_, "amdsmi_get_gpu_perf_level");
  find(set_gpu_perf_level_, "amdsmi_set_gpu_perf_level");
  find(get_energy_count_, "amdsmi_get_energy_count");
  if (is_fully_known()) {
    find(get_clock_info_, "amdsmi_get_clock_info");
    find(get_gpu_od_volt_info_, "amdsmi_get_gpu_od_volt_info");
    find(get_power_info_, "amdsmi_get_power_info");
    find(get_power_cap_info_, "amdsmi_get_power_cap_info");
    find(get_temp_metric_, "amdsmi_get_temp_metric");
  }
  if (const Status status = call(init_, amdsmi::kInitAmdGpus); status != amdsmi::kSuccess) {
    throw DeviceError("initialise AMD SMI", "", text_of(status));
  }
  // The year or the major version, and the next number: in 26 the year went, and all else moved up.
  alignas(8) std::array<std::uint32_t, kRoom / 4> numbers{};
  version_ = "AMD SMI " + std::to_string(major_);
  if (call(get_lib_version_, static_cast<void*>(numbers.data())) == amdsmi::kSuccess &&
      numbers[0] == static_cast<std::uint32_t>(major_)) {
    version_ += "." + std::to_string(numbers[1]);
  }
}

AmdsmiApi::~AmdsmiApi() {
  call(shut_down_);  // the library counts who has initialised it
}

void AmdsmiApi::check_version() {
  if (init_ == nullptr) throw DeviceError("open AMD SMI", "", library_.name() + " is not AMD SMI");
  const LoadedFile file = file_of(reinterpret_cast<void*>(init_));
  major_ = major_of(file.soname);
  if (major_ >= kOldest && major_ <= kNewest) return;
  throw DeviceError("open AMD SMI", "",
                    (file.path.empty() ? library_.name() : file.path) + " is " +
                        (file.soname.empty() ? "of no version" : file.soname) + "; known are " +
                        std::string(kSoname) + std::to_string(kOldest) + " to " + std::to_string(kNewest));
}

template <class Function, class... Args>
Status AmdsmiApi::call(Function* function, Args... args) const {
  if (function == nullptr) return amdsmi::kNoSymbol;
  const std::lock_guard lock(library_mutex());
  return function(args...);
}

std::vector<amdsmi::Handle> AmdsmiApi::gpus() const {
  const auto check = [&](Status status) {
    if (status != amdsmi::kSuccess) throw DeviceError("list GPUs", "", text_of(status));
  };
  // Both functions count when given no array.
  U32 count = 0;
  check(call(get_socket_handles_, &count, static_cast<Handle*>(nullptr)));
  std::vector<Handle> sockets(count);
  check(call(get_socket_handles_, &count, sockets.data()));
  sockets.resize(std::min<std::size_t>(count, sockets.size()));
  std::vector<Handle> gpus;
  for (const Handle socket : sockets) {
    check(call(get_processor_handles_, socket, &count, static_cast<Handle*>(nullptr)));
    std::vector<Handle> processors(count);
    check(call(get_processor_handles_, socket, &count, processors.data()));
    processors.resize(std::min<std::size_t>(count, processors.size()));
    gpus.insert(gpus.end(), processors.begin(), processors.end());
  }
  return gpus;
}

Status AmdsmiApi::get_bdf(Handle gpu, amdsmi::Bdf& bdf) const {
  return call(get_gpu_device_bdf_, gpu, &bdf);
}

Status AmdsmiApi::get_name(Handle gpu, std::string& name) const {
  alignas(8) std::array<char, kRoom> info{};  // begins with the name in all versions
  const Status status = call(get_gpu_asic_info_, gpu, static_cast<void*>(info.data()));
  if (status == amdsmi::kSuccess) name.assign(info.data(), ::strnlen(info.data(), 256));
  return status;
}

Status AmdsmiApi::get_frequencies(Handle gpu, amdsmi::Frequencies& frequencies) const {
  Roomy<amdsmi::Frequencies> answer;
  const Status status = call(get_clk_freq_, gpu, amdsmi::kClockOfCores, &answer.known);
  frequencies = answer.known;
  frequencies.count = std::min(frequencies.count, amdsmi::kMostFrequencies);
  return status;
}

Status AmdsmiApi::get_clock(Handle gpu, amdsmi::ClockInfo& info) const {
  Roomy<amdsmi::ClockInfo> answer;
  const Status status = call(get_clock_info_, gpu, amdsmi::kClockOfCores, &answer.known);
  info = answer.known;
  return status;
}

Status AmdsmiApi::get_range(Handle gpu, Range& range) const {
  // What follows the first range has moved between minor versions.
  alignas(8) std::array<U64, kRoom / 8> info{};
  const Status status = call(get_gpu_od_volt_info_, gpu, static_cast<void*>(info.data()));
  range = {to_mhz(info[0]), to_mhz(info[1])};
  const bool makes_sense = range.max_mhz > 0 && range.min_mhz <= range.max_mhz && info[1] != UINT64_MAX;
  return status == amdsmi::kSuccess && !makes_sense ? amdsmi::kNotSupported : status;
}

Status AmdsmiApi::set_limit(Handle gpu, U32 which, U64 mhz) const {
  return call(set_gpu_clk_limit_, gpu, amdsmi::kClockOfCores, which, mhz);
}

Status AmdsmiApi::get_level(Handle gpu, U32& level) const {
  return call(get_gpu_perf_level_, gpu, &level);
}

Status AmdsmiApi::set_level(Handle gpu, U32 level) const {
  return call(set_gpu_perf_level_, gpu, level);
}

Status AmdsmiApi::get_energy(Handle gpu, EnergyCount& count) const {
  return call(get_energy_count_, gpu, &count.accumulator, &count.resolution_uj, &count.timestamp_ns);
}

Status AmdsmiApi::get_power(Handle gpu, Power& power) const {
  const auto read = [&](auto answer) {
    const Status status = call(get_power_info_, gpu, static_cast<void*>(&answer.known));
    power = {answer.known.current_w, answer.known.average_w};
    return status;
  };
  if (major_ == 24) return read(Roomy<amdsmi::PowerInfo24>{});
  if (major_ == 25) return read(Roomy<amdsmi::PowerInfo25>{});
  return read(Roomy<amdsmi::PowerInfo26>{});
}

Status AmdsmiApi::get_power_cap(Handle gpu, amdsmi::PowerCapInfo& info) const {
  Roomy<amdsmi::PowerCapInfo> answer;
  const Status status = call(get_power_cap_info_, gpu, U32{0}, &answer.known);
  info = answer.known;
  return status;
}

Status AmdsmiApi::get_temperature(Handle gpu, std::int64_t& celsius) const {
  const Status status = call(get_temp_metric_, gpu, amdsmi::kHotspot, amdsmi::kTemperatureNow, &celsius);
  if (celsius >= 1000) celsius /= 1000;  // some versions answer in thousandths
  return status;
}

std::string AmdsmiApi::text_of(Status status) const {
  switch (status) {
    case amdsmi::kNotSupported:
    case 3:
      return "not supported by this GPU and driver";
    case amdsmi::kNoSymbol:
      return "not known for this version of AMD SMI";
    case 8:
      return "the driver did not answer in time";
    case amdsmi::kNoPermission:
      return "permission denied";
    case 30:
      return "the GPU is busy";
    case 31:
      return "the GPU is gone";
    case 34:
      return "the amdgpu driver is not loaded";
    case amdsmi::kNoData:
      return "not available";
    case 43:
      return "unexpected data: this AMD SMI may be older than the GPU";
    default:
      break;
  }
  const char* text = nullptr;
  if (call(status_code_to_string_, status, &text) == amdsmi::kSuccess && text != nullptr) return text;
  return "status " + std::to_string(status);
}

}  // namespace slackline
