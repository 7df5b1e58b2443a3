#include "slackline/device/nvml_device.h"

#include <algorithm>
#include <array>
#include <atomic>
#include <chrono>
#include <cstdint>
#include <cstdio>
#include <functional>
#include <string_view>
#include <thread>
#include <utility>

#include "nvml_api.h"
#include "slackline/base/error.h"
#include "slackline/device/refresh_period.h"
#include "vendor_library.h"

namespace slackline {
namespace {

using nvml::Answer;
using nvml::Api;
using nvml::Handle;
using nvml::Status;

constexpr double kPerMilli = 1e-3;
constexpr double kPerMicro = 1e-6;
constexpr const char* kModuleRemark = "GPU and CPU of the module (Grace Hopper)";
constexpr const char* kMigIsOn = "MIG is on: locks and energy are of the whole GPU";

/// Ways to read what a GPU draws. The first that works stays: their counters do not compare.
enum class Source { kGpuField, kModuleField, kCall, kUnknown };
constexpr std::array kSources{Source::kGpuField, Source::kModuleField, Source::kCall};

unsigned scope_of(Source source) {
  return source == Source::kGpuField ? nvml::kScopeGpu : nvml::kScopeModule;
}

[[noreturn]] void fail(const char* operation, const std::string& gpu, const Api& api, Status status) {
  throw DeviceError(operation, gpu, api.text_of(status));
}

void demand(const char* operation, const GpuIdentity& gpu, const Api& api, Status status) {
  if (!status.ok()) fail(operation, gpu.uuid, api, status);
}

Ability refused(const Api& api, Status status) {
  if (status.ok()) return {};
  return {api.words_of(status), Api::remedy_of(status.code)};
}

std::string version(const nvml::Function<char*, unsigned>& function) {
  std::array<char, 96> buffer{};
  const bool known = function(buffer.data(), static_cast<unsigned>(buffer.size() - 1)).ok();
  return known ? buffer.data() : "of unknown version";
}

/// As identities are written: nothing that a file name or a line of YAML could take for its own.
std::string sanitised(std::string uuid) {
  constexpr std::string_view kAllowed = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_.";
  for (char& c : uuid) {
    if (kAllowed.find(c) == std::string_view::npos) c = '-';
  }
  return uuid;
}

std::string pci_address(const Api& api, Handle gpu) {
  nvml::PciInfo info{};
  if (!api.pci_info(gpu, &info).ok()) return {};
  std::array<char, 32> text{};
  std::snprintf(text.data(), text.size(), "%04x:%02x:%02x.0", info.domain, info.bus, info.device);
  return text.data();
}

bool mig_is_on(const Api& api, Handle gpu) {
  unsigned now = 0;
  unsigned after_reset = 0;
  return api.mig_mode(gpu, &now, &after_reset).ok() && now != 0;
}

/// Calls `list(count, values)`, which says by kInsufficientSize that it has more. Asking with no array for
/// the number first is not answered by every driver.
template <class Value = unsigned, class List>
Answer<std::vector<Value>> whole_list(const List& list) {
  constexpr std::size_t kMost = 1U << 16;
  for (std::size_t room = 256;; room *= 2) {
    std::vector<Value> values(room);
    auto count = static_cast<unsigned>(room);
    const Status status = list(&count, values.data());
    if (status.code == nvml::kInsufficientSize && room < kMost) continue;
    values.resize(status.ok() ? std::min<std::size_t>(count, room) : 0);
    return {status, std::move(values)};
  }
}

Answer<unsigned long long> event_bits(const Api& api, Handle gpu) {
  Answer<unsigned long long> bits;
  bits.status =
      api.event_reasons ? api.event_reasons(gpu, &bits.value) : api.throttle_reasons(gpu, &bits.value);
  return bits;
}

Answer<std::vector<unsigned>> graphics_clocks(const Api& api, Handle gpu) {
  const auto clocks_with = [&](unsigned memory) {
    return whole_list(
        [&](unsigned* count, unsigned* values) { return api.graphics_clocks(gpu, memory, count, values); });
  };
  // An idle GPU may have its memory at a clock that no work will see, and whose list is short.
  const Answer<unsigned long long> events = event_bits(api, gpu);
  const bool idles = events.status.ok() && nvml::event_reasons_of(events.value).has(EventReason::kIdle);
  unsigned in_use = 0;
  if (!idles && api.clock(gpu, nvml::kClockMemory, &in_use).ok()) {
    Answer<std::vector<unsigned>> clocks = clocks_with(in_use);
    if (clocks.status.ok() && !clocks.value.empty()) return clocks;
  }
  Answer<std::vector<unsigned>> memory =
      whole_list([&](unsigned* count, unsigned* values) { return api.memory_clocks(gpu, count, values); });
  if (!memory.status.ok() || memory.value.empty()) return memory;
  return clocks_with(*std::max_element(memory.value.begin(), memory.value.end()));
}

/// Ours: a time on the host's steady clock. Theirs: microseconds since 1970, at times zero or nonsense, and
/// then it is now.
Seconds on_our_timeline(std::int64_t timestamp_us) {
  constexpr Seconds kBelievable(5);
  const Seconds now = HostTimeline().now();
  const Seconds now_since_1970(
      std::chrono::duration<double>(std::chrono::system_clock::now().time_since_epoch()).count());
  const Seconds age = now_since_1970 - Seconds(static_cast<double>(timestamp_us) * kPerMicro);
  return age > Seconds(0) && age < kBelievable ? now - age : now;
}

Answer<EnergyReading> read_counter(const Api& api, Handle gpu, Source source) {
  if (source == Source::kCall) {
    unsigned long long millijoules = 0;
    const Status status = api.total_energy(gpu, &millijoules);
    return {status, {Joules(static_cast<double>(millijoules) * kPerMilli), HostTimeline().now()}};
  }
  // Only the newer of the two fields, the same for the GPU, knows scopes.
  const unsigned number = source == Source::kModuleField ? nvml::kFieldEnergy : nvml::kFieldTotalEnergy;
  const auto [status, field] = nvml::read_field(api, gpu, number, scope_of(source));
  return {status, {Joules(field.number * kPerMilli), on_our_timeline(field.timestamp_us)}};
}

/// Drivers that are asked often say now and then that they cannot: that passes. `is_doubtful`: other answers
/// that do.
template <class Read, class Doubt>
auto read_patiently(const Read& read, const Doubt& is_doubtful) {
  using std::chrono::milliseconds;
  auto answer = read();
  for (const auto wait : {milliseconds(10), milliseconds(20), milliseconds(40)}) {
    if (!is_doubtful(answer) && answer.status.code != nvml::kNotSupported) break;
    std::this_thread::sleep_for(wait);
    answer = read();
  }
  return answer;
}
template <class Read>
auto read_patiently(const Read& read) {
  return read_patiently(read, [](const auto&) { return false; });
}

struct PowerReading {
  Watts watts;
  Source source = Source::kGpuField;
};

Answer<PowerReading> read_power_by(Source source, const Api& api, Handle gpu) {
  if (source == Source::kCall) {
    unsigned milliwatts = 0;
    const Status status = api.power_usage(gpu, &milliwatts);
    return {status, {Watts(milliwatts * kPerMilli), source}};
  }
  const auto [status, field] = nvml::read_field(api, gpu, nvml::kFieldPowerInstant, scope_of(source));
  return {status, {Watts(field.number * kPerMilli), source}};
}

Answer<Watts> read_power_cap(const Api& api, Handle gpu) {
  unsigned milliwatts = 0;
  const Status status = api.enforced_power_limit(gpu, &milliwatts);
  return {status, Watts(milliwatts * kPerMilli)};
}

Answer<double> read_temperature(const Api& api, Handle gpu) {
  nvml::Temperature now;
  if (const Status status = api.temperature_v(gpu, &now); status.ok()) return {status, double(now.celsius)};
  unsigned celsius = 0;
  constexpr unsigned kGpuSensor = 0;
  const Status status = api.temperature(gpu, kGpuSensor, &celsius);
  return {status, double(celsius)};
}

std::vector<Megahertz> highest_first(std::vector<unsigned> values) {
  std::sort(values.begin(), values.end(), std::greater<>());
  values.erase(std::unique(values.begin(), values.end()), values.end());
  std::vector<Megahertz> clocks;
  for (const unsigned value : values) {
    if (value != 0) clocks.emplace_back(static_cast<std::int32_t>(value));
  }
  return clocks;
}

}  // namespace

/// From start to shutdown; NVML counts how often it was started.
class NvmlDevice::Session {
 public:
  explicit Session(const Api& api) : api_(api) {
    if (const Status status = api.init(); !status.ok()) fail("start NVML", "", api, status);
  }
  Session(const Session&) = delete;
  Session& operator=(const Session&) = delete;
  ~Session() { api_.shutdown(); }

 private:
  const Api& api_;
};

struct NvmlDevice::Gpu {
  unsigned number = 0;  // NVML's
  Handle handle = nullptr;
  GpuIdentity identity;
  unsigned architecture = 0;  // 0 where the driver does not say

  /// Guards the two that follow, and keeps readings of the counter in the order in which they were taken.
  std::mutex energy_mutex;
  std::optional<Source> energy_source;
  std::optional<EnergyReading> last_energy;

  /// Another, for a lock must not wait until a counter has come to its senses.
  std::mutex clocks_mutex;
  std::vector<Megahertz> clocks;

  std::atomic<Source> power_source = Source::kUnknown;

  [[nodiscard]] Answer<EnergyReading> first_energy(const Api& api);
  [[nodiscard]] Answer<EnergyReading> next_energy(const Api& api) const;
  [[nodiscard]] Answer<PowerReading> power(const Api& api);
};

/// Finds out which source works. With its mutex held.
Answer<EnergyReading> NvmlDevice::Gpu::first_energy(const Api& api) {
  Answer<EnergyReading> answer;
  for (const Source source : kSources) {
    answer = read_patiently([&] { return read_counter(api, handle, source); });
    if (answer.status.ok()) energy_source = source;
    if (!answer.status.asks_for_another_way()) break;
  }
  return answer;
}

/// From the source that has worked before. With its mutex held.
Answer<EnergyReading> NvmlDevice::Gpu::next_energy(const Api& api) const {
  const auto is_zero = [&](const Answer<EnergyReading>& answer) {
    return answer.status.ok() && answer.value.total == Joules(0) && last_energy &&
           last_energy->total > Joules(0);
  };
  return read_patiently([&] { return read_counter(api, handle, *energy_source); }, is_zero);
}

/// From the source that has worked before: those of different scopes do not add up to one curve.
Answer<PowerReading> NvmlDevice::Gpu::power(const Api& api) {
  if (const Source known = power_source; known != Source::kUnknown) return read_power_by(known, api, handle);
  Answer<PowerReading> answer;
  for (const Source source : kSources) {
    answer = read_patiently([&] { return read_power_by(source, api, handle); });
    if (answer.status.ok()) power_source = source;
    if (!answer.status.asks_for_another_way()) break;
  }
  return answer;
}

NvmlDevice::NvmlDevice(std::optional<std::string> library, const std::vector<std::string>& selection,
                       DeviceAccess access)
    : library_(std::move(library)), access_(access) {
  const VendorLibrary::Search search{{"libnvidia-ml.so.1"}, {}};
  const VendorLibrary loaded(search, library_);
  if (library_) library_ = loaded.name();
  api_ = std::make_unique<Api>(loaded);
  session_ = std::make_unique<Session>(*api_);
  open_all();
  if (!selection.empty()) open_selected(selection);
}

NvmlDevice::~NvmlDevice() = default;

void NvmlDevice::open_all() {
  unsigned count = 0;
  if (const Status status = api_->count(&count); !status.ok()) fail("count GPUs", "", *api_, status);
  for (unsigned number = 0; number < count; ++number) {
    auto gpu = std::make_unique<Gpu>();
    gpu->number = number;
    Status status = api_->handle_by_index(number, &gpu->handle);
    std::array<char, 96> uuid{};
    if (status.ok()) status = api_->uuid(gpu->handle, uuid.data(), static_cast<unsigned>(uuid.size() - 1));
    if (!status.ok()) {
      left_out_.push_back("GPU " + std::to_string(number) + ": " + api_->text_of(status));
      continue;
    }
    std::array<char, 96> model{};
    api_->name(gpu->handle, model.data(), static_cast<unsigned>(model.size() - 1));
    gpu->identity = {sanitised(uuid.data()), pci_address(*api_, gpu->handle), model.data()};
    api_->architecture(gpu->handle, &gpu->architecture);
    gpus_.push_back(std::move(gpu));
  }
  if (!gpus_.empty()) return;
  std::string why = "there is none that this process may use";
  for (const std::string& gpu : left_out_) why += "; " + gpu;
  throw DeviceError("open GPUs", "", why);
}

void NvmlDevice::open_selected(const std::vector<std::string>& selection) {
  std::vector<std::unique_ptr<Gpu>> selected;
  for (const std::string& name : selection) {
    const auto is_meant = [&](const std::unique_ptr<Gpu>& gpu) {
      return std::to_string(gpu->number) == name || gpu->identity.uuid == name;
    };
    // Those that were selected before are gone from here: what is meant twice is not found.
    const auto found = std::find_if(gpus_.begin(), gpus_.end(), is_meant);
    if (found != gpus_.end()) {
      selected.push_back(std::move(*found));
      gpus_.erase(found);
      continue;
    }
    if (std::any_of(selected.begin(), selected.end(), is_meant))
      throw InputError("", 0, "--device", "GPU " + name + " is named twice");
    Handle handle = nullptr;
    const bool is_number = name.size() < 6 && name.find_first_not_of("0123456789") == std::string::npos;
    Status status{nvml::kInvalidArgument, ""};
    if (is_number) status = api_->handle_by_index(static_cast<unsigned>(std::stoul(name)), &handle);
    if (status.ok() || status.asks_for_another_way())
      throw DeviceError("open GPU", name, "there is no such GPU that this process may use");
    fail("open GPU", name, *api_, status);
  }
  gpus_ = std::move(selected);
  left_out_.clear();  // who names GPUs knows what is missing
}

std::string NvmlDevice::spec() const {
  return library_ ? "nvml,library=" + *library_ : "nvml";
}

std::string NvmlDevice::driver() const {
  return "NVML " + version(api_->nvml_version) + ", driver " + version(api_->driver_version);
}

int NvmlDevice::gpu_count() const {
  return static_cast<int>(gpus_.size());
}

GpuIdentity NvmlDevice::identity(GpuId gpu) const {
  return at(gpu).identity;
}

Ability NvmlDevice::may_change_clocks() const {
  if (access_ == DeviceAccess::kReadOnly) return {"it was opened for reading only", "", true};
  if (!library_ && !may_set_clocks()) {
    return {"this process may not set clocks, which needs root or CAP_SYS_ADMIN",
            Api::remedy_of(nvml::kNoPermission), true};
  }
  return {};
}

Ability NvmlDevice::may_lock(const Gpu& gpu) const {
  for (const auto& [there, name] :
       {std::pair(bool(api_->lock_clocks), "nvmlDeviceSetGpuLockedClocks"),
        std::pair(bool(api_->reset_locked_clocks), "nvmlDeviceResetGpuLockedClocks")}) {
    if (!there) return refused(*api_, {nvml::kFunctionNotFound, name});
  }
  if (gpu.architecture != 0 && gpu.architecture < nvml::kVolta)
    return {"GPUs before Volta cannot lock their clock", ""};
  if (mig_is_on(*api_, gpu.handle))
    return {kMigIsOn, "switch it off: `sudo nvidia-smi -i " + gpu.identity.uuid + " -mig 0`"};
  return may_change_clocks();
}

GpuAbilities NvmlDevice::abilities(GpuId id) {
  Gpu& gpu = at(id);
  GpuAbilities abilities;
  abilities.set_clock = may_lock(gpu);
  if (abilities.set_clock) abilities.set_clock = refused(*api_, graphics_clocks(*api_, gpu.handle).status);
  if (mig_is_on(*api_, gpu.handle)) {
    abilities.energy = {kMigIsOn, ""};
  } else {
    const std::lock_guard lock(gpu.energy_mutex);
    abilities.energy =
        refused(*api_, gpu.energy_source ? gpu.next_energy(*api_).status : gpu.first_energy(*api_).status);
  }
  abilities.power = refused(*api_, gpu.power(*api_).status);
  abilities.power_cap = refused(*api_, read_power_cap(*api_, gpu.handle).status);
  abilities.temperature = refused(*api_, read_temperature(*api_, gpu.handle).status);
  abilities.event_reasons = refused(*api_, event_bits(*api_, gpu.handle).status);
  abilities.remarks = remarks(gpu);
  return abilities;
}

std::vector<std::string> NvmlDevice::remarks(Gpu& gpu) const {
  std::vector<std::string> remarks;
  {
    const std::lock_guard lock(gpu.energy_mutex);
    if (gpu.energy_source == Source::kModuleField)
      remarks.push_back(std::string("energy covers ") + kModuleRemark);
  }
  const auto power = gpu.power(*api_);
  if (power.status.ok() && power.value.source == Source::kModuleField)
    remarks.push_back(std::string("power covers ") + kModuleRemark);
  if (power.status.ok() && power.value.source == Source::kCall && gpu.architecture >= nvml::kAmpere) {
    // The architecture does not tell GA100 from the other Amperes.
    remarks.emplace_back(
        gpu.architecture == nvml::kAmpere
            ? "power is the average of the last second, unless the GPU is a GA100 (A100, A30)"
            : "power is the average of the last second");
  }
  unsigned persists = 1;
  if (api_->persistence_mode(gpu.handle, &persists).ok() && persists == 0)
    remarks.emplace_back("persistence mode is off: settings may be lost when nobody uses the GPU");
  nvml::PowerProfiles profiles;
  if (api_->power_profiles(gpu.handle, &profiles).ok()) {
    for (unsigned id = 0; id < 8 * 32; ++id) {
      if ((profiles.enforced[id / 32] >> id % 32 & 1U) != 0)
        remarks.push_back("workload power profile " + std::to_string(id) + " is active and moves clocks too");
    }
  }
  const Answer<unsigned long long> events = event_bits(*api_, gpu.handle);
  const EventReasons reasons = nvml::event_reasons_of(events.value);
  if (events.status.ok() && reasons.throttles()) remarks.push_back("throttled now: " + text_of(reasons));
  return remarks;
}

std::vector<Megahertz> NvmlDevice::supported_clocks(GpuId id) const {
  const Gpu& gpu = at(id);
  Answer<std::vector<unsigned>> clocks = graphics_clocks(*api_, gpu.handle);
  demand("list clocks", gpu.identity, *api_, clocks.status);
  return highest_first(std::move(clocks.value));
}

void NvmlDevice::lock_clock(GpuId id, Megahertz clock) {
  constexpr const char* kOperation = "lock clock";
  Gpu& gpu = at(id);
  if (const Ability ability = may_lock(gpu); !ability) {
    throw DeviceError(kOperation, gpu.identity.uuid,
                      ability.why_not + (ability.remedy.empty() ? "" : "; " + ability.remedy));
  }
  {
    const std::lock_guard lock(gpu.clocks_mutex);
    const auto is_known = [&] {
      return std::find(gpu.clocks.begin(), gpu.clocks.end(), clock) != gpu.clocks.end();
    };
    // The list is long to ask for, and changes only with the memory clock.
    if (!is_known()) gpu.clocks = supported_clocks(id);
    if (!is_known()) {
      throw DeviceError(kOperation, gpu.identity.uuid,
                        std::to_string(clock.value()) + " MHz is none of its clocks");
    }
  }
  const auto mhz = static_cast<unsigned>(clock.value());
  demand(kOperation, gpu.identity, *api_, api_->lock_clocks(gpu.handle, mhz, mhz));
}

/// Even with MIG on, which may have come after the lock.
void NvmlDevice::restore(GpuId id, const std::string&) {
  constexpr const char* kOperation = "unlock clock";
  const Gpu& gpu = at(id);
  if (const Ability ability = may_change_clocks(); !ability) {
    throw DeviceError(kOperation, gpu.identity.uuid,
                      ability.why_not + (ability.remedy.empty() ? "" : "; " + ability.remedy));
  }
  demand(kOperation, gpu.identity, *api_, api_->reset_locked_clocks(gpu.handle));
}

Megahertz NvmlDevice::observed_clock(GpuId id) {
  const Gpu& gpu = at(id);
  unsigned mhz = 0;
  demand("read clock", gpu.identity, *api_, api_->clock(gpu.handle, nvml::kClockSm, &mhz));
  return Megahertz(static_cast<std::int32_t>(mhz));
}

EventReasons NvmlDevice::event_reasons(GpuId id) {
  const Gpu& gpu = at(id);
  const Answer<unsigned long long> bits = event_bits(*api_, gpu.handle);
  demand("read event reasons", gpu.identity, *api_, bits.status);
  return nvml::event_reasons_of(bits.value);
}

EnergyReading NvmlDevice::energy(GpuId id) {
  constexpr const char* kOperation = "read energy";
  Gpu& gpu = at(id);
  const std::lock_guard lock(gpu.energy_mutex);
  // Not asked at every reading, of which there are hundreds a second.
  if (!gpu.last_energy && mig_is_on(*api_, gpu.handle))
    throw DeviceError(kOperation, gpu.identity.uuid, kMigIsOn);
  const auto [status, reading] = gpu.energy_source ? gpu.next_energy(*api_) : gpu.first_energy(*api_);
  demand(kOperation, gpu.identity, *api_, status);
  // Not every driver dates a reading by its tick; one that shows nothing new is the last one again.
  if (gpu.last_energy && reading.total == gpu.last_energy->total) return *gpu.last_energy;
  const std::optional<EnergyReading> last = std::exchange(gpu.last_energy, reading);
  if (last && reading.total < last->total) {
    throw DeviceError(kOperation, gpu.identity.uuid,
                      "the counter was reset: it stood at " + std::to_string(last->total.value()) +
                          " J and now at " + std::to_string(reading.total.value()) + " J");
  }
  // The wall clock by which the driver stamps may be set back between two readings.
  if (last && reading.at < last->at) gpu.last_energy->at = last->at;
  return *gpu.last_energy;
}

Seconds NvmlDevice::energy_refresh_period() {
  const std::lock_guard lock(refresh_mutex_);
  if (refresh_period_) return *refresh_period_;
  for (const GpuId gpu : all_gpus(*this)) {
    if (!abilities(gpu).energy) continue;
    refresh_period_ = measure_refresh_period([&] { return energy(gpu); }, *make_timeline());
    return *refresh_period_;
  }
  throw DeviceError("measure refresh period of the energy counter", "", "no GPU here tells its energy");
}

Watts NvmlDevice::power(GpuId id) {
  Gpu& gpu = at(id);
  const auto power = gpu.power(*api_);
  demand("read power", gpu.identity, *api_, power.status);
  return power.value.watts;
}

Watts NvmlDevice::power_cap(GpuId id) {
  const Gpu& gpu = at(id);
  const Answer<Watts> cap = read_power_cap(*api_, gpu.handle);
  demand("read power cap", gpu.identity, *api_, cap.status);
  return cap.value;
}

double NvmlDevice::temperature(GpuId id) {
  const Gpu& gpu = at(id);
  const Answer<double> celsius = read_temperature(*api_, gpu.handle);
  demand("read temperature", gpu.identity, *api_, celsius.status);
  return celsius.value;
}

std::optional<std::vector<int>> NvmlDevice::processes(GpuId id) {
  const Gpu& gpu = at(id);
  const auto [status, infos] = whole_list<nvml::ProcessInfo>([&](unsigned* count, nvml::ProcessInfo* values) {
    return api_->compute_processes(gpu.handle, count, values);
  });
  if (!status.ok()) return std::nullopt;
  std::vector<int> processes;
  for (const nvml::ProcessInfo& info : infos) processes.push_back(static_cast<int>(info.pid));
  return processes;
}

std::unique_ptr<Timeline> NvmlDevice::make_timeline() {
  return std::make_unique<HostTimeline>(end_);
}

}  // namespace slackline
