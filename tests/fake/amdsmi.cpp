// AMD SMI for tests, one library a major version (FAKE_MAJOR), written from the published interface. Its GPUs
// are in the file FAKE_AMDSMI_STATE, which processes share. Every call is a line "pid function gpu arguments"
// at the end of FAKE_AMDSMI_LOG. FAKE_AMDSMI_SCRIPT makes calls fail, a rule a line, the first that fits:
//
//     set_gpu_clk_limit 1 error=10        function, GPU's number or *, and what to do:
//     get_energy_count * stale            answers as ever, but the counter stands still
//     set_gpu_clk_limit * delay_ms=50 after=2 times=1
//
// `after` lets that many calls of a process pass first, `times` is for how many the rule then holds.
//
// Versions that are not thread-safe are what this stands for: a call while another is under way logs
// "CONCURRENT".
#include <fcntl.h>
#include <sys/mman.h>
#include <time.h>
#include <unistd.h>

#include <algorithm>
#include <atomic>
#include <cstdlib>
#include <cstring>
#include <fstream>
#include <map>
#include <set>
#include <sstream>
#include <string>

#include "amdsmi_state.h"

#define EXPORT extern "C" __attribute__((visibility("default")))

namespace {

using slackline::fake::AmdGpu;
using slackline::fake::AmdNode;
using Status = std::uint32_t;
using U32 = std::uint32_t;
using U64 = std::uint64_t;

constexpr Status kInvalid = 1;
constexpr Status kNotSupported = 2;
[[maybe_unused]] constexpr Status kNoPermission = 10;  // early versions have no call that needs it
constexpr Status kNotInitialised = 32;
constexpr U32 kAuto = 0;
[[maybe_unused]] constexpr U32 kManual = 3;

U64 now_ns() {
  timespec now{};
  ::clock_gettime(CLOCK_MONOTONIC, &now);
  return static_cast<U64>(now.tv_sec) * 1'000'000'000 + static_cast<U64>(now.tv_nsec);
}

AmdNode& node() {
  static AmdNode* const mapped = [] {
    const int fd = ::open(std::getenv("FAKE_AMDSMI_STATE"), O_RDWR | O_CREAT | O_CLOEXEC, 0600);
    if (fd < 0) std::abort();
    const bool fresh = ::lseek(fd, 0, SEEK_END) == 0;
    if (fresh && ::ftruncate(fd, sizeof(AmdNode)) != 0) std::abort();
    void* const memory = ::mmap(nullptr, sizeof(AmdNode), PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
    if (memory == MAP_FAILED) std::abort();
    ::close(fd);
    auto* const node = static_cast<AmdNode*>(memory);
    if (node->magic != AmdNode::kMagic) *node = slackline::fake::fresh_amd_node(now_ns());
    return node;
  }();
  return *mapped;
}

void log(const std::string& text) {
  const char* const path = std::getenv("FAKE_AMDSMI_LOG");
  if (path == nullptr) return;
  const std::string line = std::to_string(::getpid()) + " " + text + "\n";
  const int fd = ::open(path, O_WRONLY | O_APPEND | O_CREAT | O_CLOEXEC, 0600);
  if (fd < 0 || ::write(fd, line.data(), line.size()) != static_cast<ssize_t>(line.size())) std::abort();
  ::close(fd);
}

/// What the script says about a call.
struct Fault {
  Status error = 0;
  bool stale = false;
  int delay_ms = 0;
};

Fault fault_of(const std::string& function, int gpu) {
  const char* const path = std::getenv("FAKE_AMDSMI_SCRIPT");
  std::ifstream script(path != nullptr ? path : "");
  for (std::string line; std::getline(script, line);) {
    std::istringstream words(line);
    std::string name;
    std::string which;
    words >> name >> which;
    if (name != function || (which != "*" && which != std::to_string(gpu))) continue;
    Fault fault;
    int after = 0;
    int times = -1;
    for (std::string word; words >> word;) {
      const auto value = [&](const char* key) { return std::atoi(word.c_str() + std::strlen(key)); };
      if (word == "stale") fault.stale = true;
      if (word.rfind("error=", 0) == 0) fault.error = static_cast<Status>(value("error="));
      if (word.rfind("delay_ms=", 0) == 0) fault.delay_ms = value("delay_ms=");
      if (word.rfind("after=", 0) == 0) after = value("after=");
      if (word.rfind("times=", 0) == 0) times = value("times=");
    }
    static std::map<std::string, int> calls;  // guarded by the users' own lock, which is what we test
    const int call = calls[line]++;
    if (call >= after && (times < 0 || call < after + times)) return fault;
  }
  return {};
}

std::atomic<int> inside = 0;
std::atomic<int> initialised = 0;

/// One call: counted, logged, and as slow or broken as the script wants it.
class Call {
 public:
  Call(const std::string& function, void* handle, const std::string& arguments = "")
      : gpu_(handle != nullptr ? static_cast<int>(reinterpret_cast<std::uintptr_t>(handle)) - 1 : -1) {
    if (inside.fetch_add(1) != 0) log("CONCURRENT " + function);
    log(function + " " + (gpu_ < 0 ? "-" : std::to_string(gpu_)) +
        (arguments.empty() ? "" : " " + arguments));
    fault_ = fault_of(function, gpu_);
    if (fault_.delay_ms > 0) ::usleep(static_cast<useconds_t>(fault_.delay_ms) * 1000);
    if (fault_.error == 0 && initialised == 0) fault_.error = kNotInitialised;
    if (fault_.error == 0 && gpu_ >= static_cast<int>(node().gpus)) fault_.error = kInvalid;
  }
  Call(const Call&) = delete;
  Call& operator=(const Call&) = delete;
  ~Call() { inside.fetch_sub(1); }

  [[nodiscard]] Status error() const { return fault_.error; }
  [[nodiscard]] bool is_stale() const { return fault_.stale; }
  [[nodiscard]] AmdGpu& gpu() const { return node().gpu[gpu_]; }

 private:
  int gpu_;
  Fault fault_;
};

void* handle_of(U32 gpu) {
  return reinterpret_cast<void*>(std::uintptr_t{gpu} + 1);
}

/// Writes all of a struct of `size` bytes, what we do not model as "not available".
class Struct {
 public:
  Struct(void* memory, std::size_t size) : memory_(static_cast<char*>(memory)) {
    std::memset(memory, 0xFF, size);
  }
  template <class Value>
  Struct& put(std::size_t offset, Value value) {
    std::memcpy(memory_ + offset, &value, sizeof(value));
    return *this;
  }

 private:
  char* memory_;
};

}  // namespace

EXPORT Status amdsmi_init(U64 flags) {
  ++initialised;
  const Call call("init", nullptr, std::to_string(flags));
  if (call.error() != 0) --initialised;
  return call.error();
}

EXPORT Status amdsmi_shut_down() {
  const Call call("shut_down", nullptr);
  if (call.error() == 0) --initialised;
  return call.error();
}

EXPORT Status amdsmi_status_code_to_string(Status status, const char** text) {
  *text = status == 77 ? "FAKE: seventy-seven" : "FAKE: some status";
  return 0;
}

EXPORT Status amdsmi_get_lib_version(void* version) {
  const Call call("get_lib_version", nullptr);
  if (FAKE_MAJOR <= 25) {  // year, major, minor, release, text
    Struct(version, 24).put(0, U32{FAKE_MAJOR}).put(4, U32{7}).put(8, U32{1});
  } else {
    Struct(version, 24).put(0, U32{FAKE_MAJOR}).put(4, U32{2}).put(8, U32{0});
  }
  return call.error();
}

/// A socket has two GPUs.
EXPORT Status amdsmi_get_socket_handles(U32* count, void** sockets) {
  const Call call("get_socket_handles", nullptr);
  if (call.error() != 0) return call.error();
  *count = (node().gpus + 1) / 2;
  for (U32 s = 0; sockets != nullptr && s < *count; ++s) sockets[s] = handle_of(s);
  return 0;
}

EXPORT Status amdsmi_get_processor_handles(void* socket, U32* count, void** processors) {
  const Call call("get_processor_handles", nullptr);
  if (call.error() != 0) return call.error();
  const U32 first = 2 * static_cast<U32>(reinterpret_cast<std::uintptr_t>(socket) - 1);
  *count = node().gpus - first < 2 ? 1 : 2;
  for (U32 p = 0; processors != nullptr && p < *count; ++p) processors[p] = handle_of(first + p);
  return 0;
}

EXPORT Status amdsmi_get_gpu_device_bdf(void* gpu, U64* bdf) {
  const Call call("get_gpu_device_bdf", gpu);
  if (call.error() == 0) *bdf = call.gpu().bdf;
  return call.error();
}

EXPORT Status amdsmi_get_gpu_asic_info(void* gpu, void* info) {
  const Call call("get_gpu_asic_info", gpu);
  if (call.error() != 0) return call.error();
  std::memset(info, 0xFF, FAKE_MAJOR >= 26 ? 900 : 400);
  std::memcpy(info, call.gpu().name, sizeof(call.gpu().name));
  return 0;
}

EXPORT Status amdsmi_get_clk_freq(void* gpu, U32 type, void* frequencies) {
  const Call call("get_clk_freq", gpu, std::to_string(type));
  if (call.error() != 0) return call.error();
  const AmdGpu& g = call.gpu();
  Struct out(frequencies, 280);
  const auto hertz = [&](U32 index, U64 mhz) { out.put(16 + 8 * index, mhz * 1'000'000); };
  out.put(0, false);
  if (g.dpm_levels > 2) {
    for (U32 i = 0; i < g.dpm_levels; ++i) {
      hertz(i, g.low_mhz + U64{g.high_mhz - g.low_mhz} * i / (g.dpm_levels - 1));
    }
    out.put(4, g.dpm_levels).put(8, g.dpm_levels - 1);
    return 0;
  }
  // The driver shows the range that is set, and the current clock if it is between its ends.
  const std::set<U32> shown{g.min_mhz, std::clamp(g.now_mhz, g.min_mhz, g.max_mhz), g.max_mhz};
  U32 count = 0;
  out.put(8, UINT32_MAX);
  for (const U32 mhz : shown) {
    if (mhz == g.now_mhz) out.put(8, count);
    hertz(count++, mhz);
  }
  out.put(4, count);
  return 0;
}

EXPORT Status amdsmi_get_clock_info(void* gpu, U32 type, void* info) {
  const Call call("get_clock_info", gpu, std::to_string(type));
  if (call.error() != 0) return call.error();
  const AmdGpu& g = call.gpu();
  Struct(info, 32).put(0, g.now_mhz).put(4, g.min_mhz).put(8, g.max_mhz);
  return 0;
}

EXPORT Status amdsmi_get_gpu_od_volt_info(void* gpu, void* info) {
  const Call call("get_gpu_od_volt_info", gpu);
  if (call.error() != 0) return call.error();
  // In hertz in the older library, in megahertz in the newer.
  const U64 unit = FAKE_MAJOR == 24 ? 1'000'000 : 1;
  Struct(info, 184).put(0, unit * call.gpu().min_mhz).put(8, unit * call.gpu().max_mhz);
  return 0;
}

#ifndef FAKE_WITHOUT_CLK_LIMIT
EXPORT Status amdsmi_set_gpu_clk_limit(void* gpu, U32 type, U32 which, U64 mhz) {
  const Call call("set_gpu_clk_limit", gpu, (which == 0 ? "min " : "max ") + std::to_string(mhz));
  if (call.error() == kInvalid || call.error() == kNoPermission) return call.error();
  AmdGpu& g = call.gpu();
  g.level = kManual;  // comes first, and stays if the rest fails
  if (call.error() != 0) return call.error();
  const bool upside_down = which == 0 ? mhz > g.max_mhz : mhz < g.min_mhz;
  if (type != 0 || which > 1 || upside_down || mhz < g.low_mhz || mhz > g.high_mhz) return kInvalid;
  (which == 0 ? g.min_mhz : g.max_mhz) = static_cast<U32>(mhz);
  return 0;
}
#endif

EXPORT Status amdsmi_get_gpu_perf_level(void* gpu, U32* level) {
  const Call call("get_gpu_perf_level", gpu);
  if (call.error() == 0) *level = call.gpu().level;
  return call.error();
}

EXPORT Status amdsmi_set_gpu_perf_level(void* gpu, U32 level) {
  const Call call("set_gpu_perf_level", gpu, std::to_string(level));
  if (call.error() != 0) return call.error();
  if (level > 8) return kInvalid;
  AmdGpu& g = call.gpu();
  g.level = level;
  if (level == kAuto) {
    g.min_mhz = g.low_mhz;
    g.max_mhz = g.high_mhz;
  }
  return 0;
}

EXPORT Status amdsmi_get_energy_count(void* gpu, U64* accumulator, float* resolution, U64* timestamp) {
  const Call call("get_energy_count", gpu);
  if (call.error() != 0) return call.error();
  const AmdGpu& g = call.gpu();
  const U64 ticks = (now_ns() - node().began_ns) / 1'000'000;
  const bool runs = g.steps_a_tick > 0;
  *accumulator = g.accumulator + (call.is_stale() ? 0 : ticks * g.steps_a_tick);
  *resolution = 15.3F;
  *timestamp = g.timestamp_ns + (runs ? ticks * 1'000'000 : 0);
  return 0;
}

EXPORT Status amdsmi_get_power_info(void* gpu, void* info) {
  const Call call("get_power_info", gpu);
  if (call.error() != 0) return call.error();
  const AmdGpu& g = call.gpu();
  if (FAKE_MAJOR <= 24) {
    Struct(info, 68).put(0, g.current_w).put(4, g.average_w);
  } else if (FAKE_MAJOR == 25) {
    Struct(info, 40).put(8, g.current_w).put(12, g.average_w);
  } else if (FAKE_MAJOR == 26) {
    Struct(info, 192).put(8, g.current_w).put(12, g.average_w);
  } else {
    return kNotSupported;  // nobody may know what this would look like
  }
  return 0;
}

EXPORT Status amdsmi_get_power_cap_info(void* gpu, U32 sensor, void* info) {
  const Call call("get_power_cap_info", gpu, std::to_string(sensor));
  if (call.error() == 0) Struct(info, 64).put(0, call.gpu().cap_uw);
  return call.error();
}

EXPORT Status amdsmi_set_power_cap(void* gpu, U32 sensor, U64 cap) {
  const Call call("set_power_cap", gpu, std::to_string(sensor) + " " + std::to_string(cap));
  if (call.error() == 0) call.gpu().cap_uw = cap;
  return call.error();
}

EXPORT Status amdsmi_get_temp_metric(void* gpu, U32 sensor, U32 metric, std::int64_t* value) {
  const Call call("get_temp_metric", gpu, std::to_string(sensor) + " " + std::to_string(metric));
  // Some versions answered in thousandths of a degree.
  if (call.error() == 0) *value = call.gpu().celsius * (FAKE_MAJOR == 24 ? 1000 : 1);
  return call.error();
}
