// A stand-in for NVIDIA's management library, for tests: real names, real layouts, GPUs that are not there.
// tests/fake_nvml.h drives it and says what it understands.
//
// What it knows lives in a file that all processes share, so a lock outlives the process that asked for it,
// as with a real driver. FAKE_NVML_LEVEL says how much of the library there is: 0 lacks a function that
// nobody can do without, 1 has no more than those, 2 is a driver from before NVML 12.2, 3 is all.
#include <fcntl.h>
#include <sys/file.h>
#include <sys/mman.h>
#include <time.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <fstream>
#include <functional>
#include <mutex>
#include <optional>
#include <sstream>
#include <string>

#include "fake_nvml_state.h"

namespace {

using slackline::FakeNvmlState;
using Return = int;
using Device = struct nvmlDevice_st*;

constexpr Return kOk = 0;
constexpr Return kUninitialized = 1;
constexpr Return kInvalid = 2;
constexpr Return kNotFound = 6;
constexpr Return kTooSmall = 7;
constexpr std::int64_t kTickNs = 20'000'000;
constexpr std::int64_t kSwitchNs = 5'000'000;
constexpr unsigned kHighMhz = 1980;
constexpr unsigned kLowMhz = 210;
constexpr unsigned kStepMhz = 15;
constexpr unsigned kMemoryMhz = 2619;
constexpr unsigned kIdleMemoryMhz = 405;  // offers nothing above 420 MHz

struct FieldValue {
  unsigned field, scope;
  std::int64_t timestamp, latency;
  unsigned type;
  Return status;
  unsigned long long value;
};
static_assert(sizeof(FieldValue) == 40);
struct PciInfo {
  char legacy[16];
  unsigned domain, bus, device, ids, subsystem;
  char bus_id[32];
};
static_assert(sizeof(PciInfo) == 68);
struct ProcessInfo {
  unsigned pid;
  unsigned long long memory;
  unsigned gpu_instance, compute_instance;
};
static_assert(sizeof(ProcessInfo) == 24);
struct Temperature {
  unsigned version, sensor;
  int celsius;
};
struct PowerProfiles {
  unsigned version, supported[8], requested[8], enforced[8];
};

std::int64_t now_ns(clockid_t clock) {
  timespec time{};
  ::clock_gettime(clock, &time);
  return std::int64_t{time.tv_sec} * 1'000'000'000 + time.tv_nsec;
}

/// The shared state, locked against other threads and, by flock, other processes, killed ones included.
class Locked {
 public:
  Locked() : lock_(mutex()) {
    const char* wanted = std::getenv("FAKE_NVML_STATE");
    static std::string path;
    static FakeNvmlState* state = nullptr;
    static int fd = -1;
    static pid_t opener = 0;  // after a fork the two must not share a lock
    if (state == nullptr || opener != ::getpid() || path != (wanted == nullptr ? "" : wanted)) {
      path = wanted == nullptr ? "" : wanted;
      opener = ::getpid();
      if (fd >= 0) ::close(fd);
      fd = path.empty() ? -1 : ::open(path.c_str(), O_RDWR | O_CREAT | O_CLOEXEC, 0666);
      if (fd >= 0) ::flock(fd, LOCK_EX);
      if (fd >= 0 && ::lseek(fd, 0, SEEK_END) == 0 && ::ftruncate(fd, sizeof(FakeNvmlState)) != 0)
        std::abort();
      void* memory = ::mmap(nullptr, sizeof(FakeNvmlState), PROT_READ | PROT_WRITE,
                            fd >= 0 ? MAP_SHARED : MAP_SHARED | MAP_ANONYMOUS, fd, 0);
      if (memory == MAP_FAILED) std::abort();
      state = static_cast<FakeNvmlState*>(memory);
      if (state->gpus == 0) {
        const char* gpus = std::getenv("FAKE_NVML_GPUS");
        state->gpus = std::clamp(gpus == nullptr ? 2 : std::atoi(gpus), 1, FakeNvmlState::kMostGpus);
        for (auto& gpu : state->gpu) {
          gpu.clock = gpu.clock_before = kHighMhz;
          gpu.energy_at_ns = now_ns(CLOCK_MONOTONIC) / kTickNs * kTickNs;
          gpu.energy_mj = 1e6;
        }
      }
    } else if (fd >= 0) {
      ::flock(fd, LOCK_EX);
    }
    state_ = state;
    fd_ = fd;
  }
  Locked(const Locked&) = delete;
  Locked& operator=(const Locked&) = delete;
  ~Locked() {
    if (fd_ >= 0) ::flock(fd_, LOCK_UN);
  }
  FakeNvmlState* operator->() const { return state_; }

 private:
  static std::mutex& mutex() {
    static std::mutex the_mutex;
    return the_mutex;
  }
  std::lock_guard<std::mutex> lock_;
  FakeNvmlState* state_;
  int fd_;
};

int sessions = 0;  // of this process; under the lock

/// What the script has for a call, all lines that match taken together.
struct Faults {
  std::optional<Return> error;
  std::optional<unsigned long long> value;
  std::optional<std::int64_t> timestamp;
  int delay_ms = 0;
  bool ignore = false;
  bool stale = false;
};

Faults faults_of(const std::string& function, int gpu) {
  Faults faults;
  const char* path = std::getenv("FAKE_NVML_SCRIPT");
  if (path == nullptr) return faults;
  std::ostringstream script;
  script << std::ifstream(path).rdbuf();
  const Locked state;
  const auto hash = static_cast<std::uint64_t>(std::hash<std::string>{}(script.str()));
  if (state->script != hash) {
    state->script = hash;
    for (int& calls : state->calls) calls = 0;
  }
  std::istringstream lines(script.str());
  std::size_t number = 0;
  for (std::string line; std::getline(lines, line) && number < FakeNvmlState::kMostLines; ++number) {
    std::istringstream words(line);
    std::string pattern;
    std::string which;
    words >> pattern >> which;
    if (pattern.empty() || pattern[0] == '#') continue;
    if (pattern != "*" && function.find(pattern) == std::string::npos) continue;
    if (which != "*" && which != std::to_string(gpu)) continue;
    Faults these;
    int after = 0;
    int times = 1 << 30;
    for (std::string word; words >> word;) {
      const std::size_t equals = word.find('=');
      const std::string key = word.substr(0, equals);
      const long long value = equals == std::string::npos ? 0 : std::atoll(word.c_str() + equals + 1);
      if (key == "error") these.error = static_cast<Return>(value);
      if (key == "value") these.value = static_cast<unsigned long long>(value);
      if (key == "timestamp") these.timestamp = value;
      if (key == "delay_ms") these.delay_ms = static_cast<int>(value);
      if (key == "ignore") these.ignore = true;
      if (key == "stale") these.stale = true;
      if (key == "after") after = static_cast<int>(value);
      if (key == "times") times = static_cast<int>(value);
    }
    const int calls = state->calls[number]++;
    if (calls < after || calls >= after + times) continue;
    if (these.error) faults.error = these.error;
    if (these.value) faults.value = these.value;
    if (these.timestamp) faults.timestamp = these.timestamp;
    faults.delay_ms += these.delay_ms;
    faults.ignore = faults.ignore || these.ignore;
    faults.stale = faults.stale || these.stale;
  }
  return faults;
}

void log_call(const std::string& function, int gpu, const std::string& arguments) {
  const char* path = std::getenv("FAKE_NVML_LOG");
  if (path == nullptr) return;
  const std::string line = std::to_string(::getpid()) + " " + function + " " +
                           (gpu < 0 ? "-" : std::to_string(gpu)) + (arguments.empty() ? "" : " ") +
                           arguments + "\n";
  const int fd = ::open(path, O_WRONLY | O_APPEND | O_CREAT | O_CLOEXEC, 0666);
  if (fd < 0) return;
  [[maybe_unused]] const ssize_t written = ::write(fd, line.data(), line.size());
  ::close(fd);
}

std::array<char, FakeNvmlState::kMostGpus> handles;

int number_of(Device device) {
  const char* at = reinterpret_cast<const char*>(device);
  for (std::size_t i = 0; i < handles.size(); ++i) {
    if (at == &handles[i]) return static_cast<int>(i);
  }
  return -1;
}

/// A call has arrived: writes it down, waits and fails as the script says, else does `action`.
template <class Action>
Return call(const char* function, int gpu, const std::string& arguments, const Action& action) {
  log_call(function, gpu, arguments);
  const Faults faults = faults_of(function, gpu);
  if (faults.delay_ms > 0) ::usleep(static_cast<useconds_t>(faults.delay_ms) * 1000);
  if (faults.error) return *faults.error;
  {
    const Locked state;
    if (sessions == 0 && std::strcmp(function, "nvmlInit_v2") != 0) return kUninitialized;
  }
  return action(faults);
}

/// The same about a GPU.
template <class Action>
Return gpu_call(const char* function, Device device, const std::string& arguments, const Action& action) {
  const int gpu = number_of(device);
  return call(function, gpu, arguments, [&](const Faults& faults) {
    if (gpu < 0) return kInvalid;
    const Locked state;
    return gpu < state->gpus ? action(faults, state->gpu[gpu]) : kInvalid;
  });
}

/// A call that reads one number.
template <class Number>
Return read(const char* function, Device device, Number* to,
            const std::function<unsigned long long(FakeNvmlState::Gpu&)>& from,
            const std::string& arguments = "") {
  return gpu_call(function, device, arguments, [&](const Faults& faults, FakeNvmlState::Gpu& gpu) {
    if (to == nullptr) return kInvalid;
    *to = static_cast<Number>(faults.value ? *faults.value : from(gpu));
    return kOk;
  });
}

Return write_text(char* to, unsigned size, const std::string& text) {
  if (to == nullptr || text.size() >= size) return kTooSmall;
  std::copy(text.begin(), text.end() + 1, to);
  return kOk;
}

unsigned clock_at(const FakeNvmlState::Gpu& gpu, std::int64_t ns) {
  return ns - gpu.clock_asked_ns < kSwitchNs ? gpu.clock_before : gpu.clock;
}

double milliwatts(unsigned mhz) {
  const double relative = double(mhz) / kHighMhz;
  return 60e3 + 340e3 * relative * relative * relative;
}

/// Brings the counter up to the last tick before now.
void tick(FakeNvmlState::Gpu& gpu) {
  const std::int64_t last = now_ns(CLOCK_MONOTONIC) / kTickNs * kTickNs;
  for (; gpu.energy_at_ns < last; gpu.energy_at_ns = (gpu.energy_at_ns / kTickNs + 1) * kTickNs)
    gpu.energy_mj += milliwatts(clock_at(gpu, gpu.energy_at_ns)) * 1e-9 * kTickNs;
}

unsigned long long energy_of(const Faults& faults, FakeNvmlState::Gpu& gpu) {
  if (!faults.stale) {
    tick(gpu);
    gpu.shown_mj = static_cast<std::uint64_t>(gpu.energy_mj);
  }
  return faults.value ? *faults.value : gpu.shown_mj;
}

void ask_for_clock(FakeNvmlState::Gpu& gpu, unsigned mhz) {
  tick(gpu);
  const std::int64_t now = now_ns(CLOCK_MONOTONIC);
  gpu.clock_before = clock_at(gpu, now);
  gpu.clock = mhz;
  gpu.clock_asked_ns = now;
}

template <class Value, class Ask>
Return fill(unsigned* count, Value* values, unsigned length, const Ask& ask) {
  if (count == nullptr || values == nullptr) return kInvalid;
  const bool fits = length <= *count;
  *count = length;
  if (!fits) return kTooSmall;
  for (unsigned i = 0; i < length; ++i) values[i] = ask(i);
  return kOk;
}

std::string numbers(unsigned a, unsigned b) {
  return std::to_string(a) + " " + std::to_string(b);
}

/// The old functions that go by an un-suffixed name: whoever calls one has the wrong layout in mind.
Return old_name(const char* function) {
  log_call(function, -1, "OLD");
  std::abort();
}

/// Things we never do.
Return forbidden(const char* function, Device device) {
  return gpu_call(function, device, "FORBIDDEN", [](const Faults&, FakeNvmlState::Gpu&) { return kOk; });
}

}  // namespace

extern "C" {

Return nvmlInit_v2() {
  return call("nvmlInit_v2", -1, "", [](const Faults&) {
    const Locked state;
    ++sessions;
    return kOk;
  });
}
Return nvmlShutdown() {
  return call("nvmlShutdown", -1, "", [](const Faults&) {
    const Locked state;
    --sessions;
    return kOk;
  });
}
const char* nvmlErrorString(Return code) {
  return code == 4 ? "Insufficient Permissions" : code == 15 ? "GPU is lost" : "Fake error";
}
Return nvmlDeviceGetHandleByIndex_v2(unsigned index, Device* device) {
  return call("nvmlDeviceGetHandleByIndex_v2", static_cast<int>(index), "", [&](const Faults&) {
    const Locked state;
    if (index >= static_cast<unsigned>(state->gpus)) return kInvalid;
    *device = reinterpret_cast<Device>(&handles[index]);
    return kOk;
  });
}
Return nvmlDeviceGetName(Device device, char* name, unsigned size) {
  return gpu_call("nvmlDeviceGetName", device, "",
                  [&](const Faults&, FakeNvmlState::Gpu&) { return write_text(name, size, "Fake H100"); });
}
Return nvmlDeviceGetUUID(Device device, char* uuid, unsigned size) {
  return gpu_call("nvmlDeviceGetUUID", device, "", [&](const Faults& faults, FakeNvmlState::Gpu&) {
    return write_text(uuid, size, slackline::fake_nvml_uuid(number_of(device)) + (faults.value ? " /x" : ""));
  });
}

// What a level lacks is there but hidden.
#if FAKE_NVML_LEVEL < 1
#pragma GCC visibility push(hidden)
#endif
Return nvmlDeviceGetCount_v2(unsigned* count) {
  return call("nvmlDeviceGetCount_v2", -1, "", [&](const Faults& faults) {
    const Locked state;
    *count = faults.value ? static_cast<unsigned>(*faults.value) : static_cast<unsigned>(state->gpus);
    return kOk;
  });
}

#if FAKE_NVML_LEVEL < 2
#pragma GCC visibility push(hidden)
#endif
Return nvmlSystemGetDriverVersion(char* to, unsigned size) {
  return call("nvmlSystemGetDriverVersion", -1, "",
              [&](const Faults&) { return write_text(to, size, "580.65.06"); });
}
Return nvmlSystemGetNVMLVersion(char* to, unsigned size) {
  return call("nvmlSystemGetNVMLVersion", -1, "",
              [&](const Faults&) { return write_text(to, size, "13.580.65.06"); });
}
Return nvmlDeviceGetPciInfo_v3(Device device, PciInfo* info) {
  return gpu_call("nvmlDeviceGetPciInfo_v3", device, "", [&](const Faults&, FakeNvmlState::Gpu&) {
    *info = {};
    info->domain = 1;
    info->bus = 0x3b + static_cast<unsigned>(number_of(device));
    std::snprintf(info->bus_id, sizeof info->bus_id, "%08X:%02X:00.0", info->domain, info->bus);
    return kOk;
  });
}
Return nvmlDeviceGetSupportedMemoryClocks(Device device, unsigned* count, unsigned* values) {
  return gpu_call("nvmlDeviceGetSupportedMemoryClocks", device, "", [&](const Faults&, FakeNvmlState::Gpu&) {
    return fill(count, values, 2, [](unsigned i) { return i == 0 ? kMemoryMhz : kIdleMemoryMhz; });
  });
}
Return nvmlDeviceGetSupportedGraphicsClocks(Device device, unsigned memory, unsigned* count,
                                            unsigned* values) {
  return gpu_call("nvmlDeviceGetSupportedGraphicsClocks", device, std::to_string(memory),
                  [&](const Faults& faults, FakeNvmlState::Gpu&) {
                    if (memory != kMemoryMhz && memory != kIdleMemoryMhz) return kNotFound;
                    const unsigned high = memory == kMemoryMhz ? kHighMhz : 420;
                    const unsigned length = (high - kLowMhz) / kStepMhz + 1;
                    // `value`: that many copies of each, in an order that no caller expects.
                    const auto copies = static_cast<unsigned>(faults.value.value_or(1));
                    return fill(count, values, length * copies,
                                [&](unsigned i) { return kLowMhz + kStepMhz * (i * 8 % length); });
                  });
}
Return nvmlDeviceSetGpuLockedClocks(Device device, unsigned low, unsigned high) {
  return gpu_call("nvmlDeviceSetGpuLockedClocks", device, numbers(low, high),
                  [&](const Faults& faults, FakeNvmlState::Gpu& gpu) {
                    if (low > high) return kInvalid;
                    gpu.locked_low = low;
                    gpu.locked_high = high;
                    if (!faults.ignore) ask_for_clock(gpu, high);
                    return kOk;
                  });
}
Return nvmlDeviceResetGpuLockedClocks(Device device) {
  return gpu_call("nvmlDeviceResetGpuLockedClocks", device, "",
                  [](const Faults& faults, FakeNvmlState::Gpu& gpu) {
                    if (faults.ignore) return kOk;
                    gpu.locked_low = gpu.locked_high = 0;
                    ask_for_clock(gpu, kHighMhz);
                    return kOk;
                  });
}
Return nvmlDeviceGetClockInfo(Device device, unsigned type, unsigned* mhz) {
  return read(
      type == 2 ? "nvmlDeviceGetClockInfo.memory" : "nvmlDeviceGetClockInfo", device, mhz,
      [&](FakeNvmlState::Gpu& gpu) {
        return type == 2 ? kMemoryMhz : clock_at(gpu, now_ns(CLOCK_MONOTONIC));
      },
      std::to_string(type));
}
Return nvmlDeviceGetCurrentClocksThrottleReasons(Device device, unsigned long long* bits) {
  return read("nvmlDeviceGetCurrentClocksThrottleReasons", device, bits,
              [](FakeNvmlState::Gpu& gpu) { return gpu.locked_high != 0 ? 2 : 0; });
}
Return nvmlDeviceGetTotalEnergyConsumption(Device device, unsigned long long* millijoules) {
  return gpu_call("nvmlDeviceGetTotalEnergyConsumption", device, "",
                  [&](const Faults& faults, FakeNvmlState::Gpu& gpu) {
                    *millijoules = energy_of(faults, gpu);
                    return kOk;
                  });
}
Return nvmlDeviceGetPowerUsage(Device device, unsigned* value) {
  return read("nvmlDeviceGetPowerUsage", device, value, [](FakeNvmlState::Gpu& gpu) {
    return static_cast<unsigned long long>(milliwatts(clock_at(gpu, now_ns(CLOCK_MONOTONIC))));
  });
}
Return nvmlDeviceGetTemperature(Device device, unsigned, unsigned* celsius) {
  return read("nvmlDeviceGetTemperature", device, celsius, [](FakeNvmlState::Gpu&) { return 41; });
}
Return nvmlDeviceGetComputeRunningProcesses_v3(Device device, unsigned* count, ProcessInfo* infos) {
  return gpu_call(
      "nvmlDeviceGetComputeRunningProcesses_v3", device, "", [&](const Faults& faults, FakeNvmlState::Gpu&) {
        return fill(count, infos, static_cast<unsigned>(faults.value.value_or(0)), [](unsigned i) {
          return ProcessInfo{4000 + i, 1ULL << 30, ~0U, ~0U};
        });
      });
}
Return nvmlDeviceGetArchitecture(Device device, unsigned* architecture) {
  return read("nvmlDeviceGetArchitecture", device, architecture, [](FakeNvmlState::Gpu&) { return 9; });
}

// None of these may ever be called.
Return nvmlInit() {
  return old_name("nvmlInit");
}
Return nvmlDeviceGetCount(unsigned*) {
  return old_name("nvmlDeviceGetCount");
}
Return nvmlDeviceGetHandleByIndex(unsigned, Device*) {
  return old_name("nvmlDeviceGetHandleByIndex");
}
Return nvmlDeviceGetPciInfo(Device, void*) {
  return old_name("nvmlDeviceGetPciInfo");
}
Return nvmlDeviceGetComputeRunningProcesses(Device, unsigned*, void*) {
  return old_name("nvmlDeviceGetComputeRunningProcesses");
}
Return nvmlDeviceGetComputeRunningProcesses_v2(Device, unsigned*, void*) {
  return old_name("nvmlDeviceGetComputeRunningProcesses_v2");
}
Return nvmlDeviceSetPowerManagementLimit(Device device, unsigned) {
  return forbidden("nvmlDeviceSetPowerManagementLimit", device);
}
Return nvmlDeviceSetPersistenceMode(Device device, int) {
  return forbidden("nvmlDeviceSetPersistenceMode", device);
}
Return nvmlDeviceSetApplicationsClocks(Device device, unsigned, unsigned) {
  return forbidden("nvmlDeviceSetApplicationsClocks", device);
}
Return nvmlDeviceResetApplicationsClocks(Device device) {
  return forbidden("nvmlDeviceResetApplicationsClocks", device);
}
Return nvmlDeviceSetMemoryLockedClocks(Device device, unsigned, unsigned) {
  return forbidden("nvmlDeviceSetMemoryLockedClocks", device);
}
Return nvmlDeviceResetMemoryLockedClocks(Device device) {
  return forbidden("nvmlDeviceResetMemoryLockedClocks", device);
}

#if FAKE_NVML_LEVEL < 3
#pragma GCC visibility push(hidden)
#endif
Return nvmlDeviceGetCurrentClocksEventReasons(Device device, unsigned long long* bits) {
  return read("nvmlDeviceGetCurrentClocksEventReasons", device, bits,
              [](FakeNvmlState::Gpu& gpu) { return gpu.locked_high != 0 ? 2 : 0; });
}
Return nvmlDeviceGetFieldValues(Device device, int count, FieldValue* values) {
  for (FieldValue* value = values; value != values + count; ++value) {
    // Of scopes a GPU has its own only, unless the script gives it others (`value` of "Scope1"); the older
    // field of energy, 83, has none.
    const bool is_energy = value->field == 83 || value->field == 191;
    const std::string name = "Field" + std::to_string(value->field) + "Scope" + std::to_string(value->scope);
    value->timestamp = 0;
    const Return status =
        gpu_call(name.c_str(), device, "", [&](const Faults& faults, FakeNvmlState::Gpu& gpu) -> Return {
          const bool has_scope = value->scope == 0 || (faults.value && value->field != 83);
          if (!has_scope || (!is_energy && value->field != 186)) return 3;
          const std::int64_t now = now_ns(CLOCK_MONOTONIC);
          value->type = is_energy ? 3 : 1;
          value->value = is_energy ? energy_of(faults, gpu)
                                   : static_cast<unsigned>(faults.value.value_or(
                                         static_cast<unsigned long long>(milliwatts(clock_at(gpu, now)))));
          const std::int64_t ticked = is_energy ? gpu.energy_at_ns : now;
          value->timestamp = faults.timestamp.value_or((now_ns(CLOCK_REALTIME) - (now - ticked)) / 1000);
          return kOk;
        });
    value->status = status;
  }
  return kOk;
}
Return nvmlDeviceGetTemperatureV(Device device, Temperature* temperature) {
  return gpu_call("nvmlDeviceGetTemperatureV", device, "",
                  [&](const Faults& faults, FakeNvmlState::Gpu&) -> Return {
                    if (temperature->version != 0x100000c) return 25;
                    temperature->celsius = static_cast<int>(faults.value.value_or(40));
                    return kOk;
                  });
}
Return nvmlDeviceGetEnforcedPowerLimit(Device device, unsigned* value) {
  return read("nvmlDeviceGetEnforcedPowerLimit", device, value, [](FakeNvmlState::Gpu&) { return 700'000; });
}
Return nvmlDeviceGetMigMode(Device device, unsigned* now, unsigned* after_reset) {
  *after_reset = 0;
  return read("nvmlDeviceGetMigMode", device, now, [](FakeNvmlState::Gpu&) { return 0; });
}
Return nvmlDeviceGetPersistenceMode(Device device, unsigned* mode) {
  return read("nvmlDeviceGetPersistenceMode", device, mode, [](FakeNvmlState::Gpu&) { return 1; });
}
Return nvmlDeviceWorkloadPowerProfileGetCurrentProfiles(Device device, PowerProfiles* profiles) {
  return gpu_call("nvmlDeviceWorkloadPowerProfileGetCurrentProfiles", device, "",
                  [&](const Faults& faults, FakeNvmlState::Gpu&) -> Return {
                    if (profiles->version != 0x1000064) return 25;
                    // `value`: the number of the profile in force; without it the GPU is of before them.
                    if (!faults.value) return 3;
                    profiles->enforced[*faults.value / 32] |= 1U << *faults.value % 32;
                    return kOk;
                  });
}
#if FAKE_NVML_LEVEL < 3
#pragma GCC visibility pop
#endif
#if FAKE_NVML_LEVEL < 2
#pragma GCC visibility pop
#endif
#if FAKE_NVML_LEVEL < 1
#pragma GCC visibility pop
#endif

}  // extern "C"
