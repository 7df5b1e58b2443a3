#include "slackline/device/amdsmi_device.h"

#include <algorithm>
#include <chrono>
#include <cmath>
#include <mutex>
#include <set>
#include <thread>
#include <utility>

#include "amdsmi_api.h"
#include "slackline/base/error.h"
#include "slackline/base/number_text.h"
#include "slackline/device/refresh_period.h"
#include "vendor_library.h"

namespace slackline {
namespace {

using amdsmi::kSuccess;
using amdsmi::Status;

constexpr std::uint64_t kHertzInMhz = 1'000'000;
constexpr int kGrid = 50;  // MHz
/// A fine-grained clock shows its lowest and highest only, and the current one if it is between them.
constexpr std::size_t kMostOfContinuous = 3;
constexpr double kClockDrift = 100e-6;
/// Counters refresh within 20 ms even on the slowest of these GPUs, and one that idles still draws power.
constexpr auto kFrozen = std::chrono::milliseconds(200);
constexpr auto kPoll = std::chrono::milliseconds(2);

std::string uuid_of(const std::string& pci_address) {
  std::string uuid = "AMD-" + pci_address;
  std::replace(uuid.begin(), uuid.end(), ':', '-');
  return uuid;
}

/// What state() says, read back.
struct SavedState {
  std::int64_t level = amdsmi::kLevelAuto;
  std::optional<AmdsmiApi::Range> range;
};

constexpr std::string_view kLevel = "level-";

/// Nothing for a text that is not ours.
std::optional<SavedState> parse_state(std::string_view text) {
  if (!text.starts_with(kLevel)) return std::nullopt;
  text.remove_prefix(kLevel.size());
  std::vector<std::uint64_t> numbers;
  while (true) {
    const std::size_t end = text.find('-');
    const auto number = parse_integer(text.substr(0, end));
    if (!number || *number < 0) return std::nullopt;
    numbers.push_back(static_cast<std::uint64_t>(*number));
    if (end == std::string_view::npos) break;
    text.remove_prefix(end + 1);
  }
  SavedState state{static_cast<std::int64_t>(numbers[0]), std::nullopt};
  if (numbers.size() == 3) state.range = AmdsmiApi::Range{numbers[1], numbers[2]};
  return state;
}

}  // namespace

/// One of the GPUs, and what we remember of it.
class AmdsmiDevice::Gpu {
 public:
  Gpu(const AmdsmiApi& api, amdsmi::Handle handle, GpuIdentity identity)
      : api_(api), handle_(handle), identity_(std::move(identity)) {}

  [[nodiscard]] const GpuIdentity& identity() const { return identity_; }
  /// An MI250, whose even-numbered die speaks for both.
  [[nodiscard]] bool is_double() const { return identity_.model.find("MI250") != std::string::npos; }
  [[noreturn]] void refuse(const char* operation, const std::string& why) const {
    throw DeviceError(operation, identity_.uuid, why);
  }
  void check(Status status, const char* operation) const {
    if (status != kSuccess) refuse(operation, api_.text_of(status));
  }

  Status look_for_clocks();
  [[nodiscard]] std::vector<Megahertz> clocks();
  [[nodiscard]] std::string state() const;
  /// Empty where not even the level can be read.
  Status read_state(std::string& text) const;
  void lock_clock(Megahertz clock);
  [[nodiscard]] bool is_manual() const;
  void restore(const std::string& state, const Ability& may_write);

  [[nodiscard]] Ability counts_energy();
  [[nodiscard]] EnergyReading energy();
  [[nodiscard]] Megahertz observed_clock() const;
  [[nodiscard]] std::pair<Status, Watts> power() const;
  [[nodiscard]] std::pair<Status, Watts> power_cap() const;
  [[nodiscard]] std::pair<Status, double> temperature() const;

 private:
  Status list_clocks(std::set<int>& clocks) const;
  [[nodiscard]] std::optional<AmdsmiApi::Range> manual_range() const;
  [[nodiscard]] std::string undo_half(const std::string& before) const;
  [[nodiscard]] Status set_state(const SavedState& saved) const;
  [[nodiscard]] std::pair<Status, AmdsmiApi::EnergyCount> read_energy() const;
  /// When a reading was made, on our clock. It goes on from the last unless that is of another count.
  [[nodiscard]] Seconds date(const AmdsmiApi::EnergyCount& count, bool goes_on);

  const AmdsmiApi& api_;
  amdsmi::Handle handle_;
  GpuIdentity identity_;

  std::mutex control_;  // one lock or restore at a time

  std::mutex clocks_mutex_;
  std::vector<Megahertz> clocks_;  // highest first
  bool clocks_are_all_ = false;    // nothing narrowed them when they were read

  std::mutex energy_mutex_;  // from the reading on, so that readings do not overtake each other
  std::optional<AmdsmiApi::EnergyCount> last_;
  EnergyReading last_reading_;
  HostTimeline host_;
  std::uint64_t first_ns_ = 0;
  double offset_s_ = 0;  // from the GPU's clock, counted from first_ns_, to ours
  double offset_at_s_ = 0;
  bool energy_moves_ = false;
};

/// As the driver lists them now, but for deep sleep.
Status AmdsmiDevice::Gpu::list_clocks(std::set<int>& clocks) const {
  amdsmi::Frequencies frequencies{};
  if (const Status status = api_.get_frequencies(handle_, frequencies); status != kSuccess) return status;
  for (std::size_t i = 0; i < frequencies.count; ++i) {
    constexpr std::uint64_t kFastest = 100'000;  // MHz; beyond it are sentinels
    const std::uint64_t mhz = (frequencies.hertz[i] + kHertzInMhz / 2) / kHertzInMhz;
    if (mhz > 0 && mhz < kFastest) clocks.insert(static_cast<int>(mhz));
  }
  if (frequencies.has_deep_sleep && clocks.size() > 1) clocks.erase(clocks.begin());
  return kSuccess;
}

Status AmdsmiDevice::Gpu::look_for_clocks() {
  const std::lock_guard lock(clocks_mutex_);
  if (clocks_are_all_) return kSuccess;
  std::set<int> clocks;
  if (const Status status = list_clocks(clocks); status != kSuccess) return status;
  if (clocks.empty()) return clocks_.empty() ? amdsmi::kNoData : kSuccess;
  if (clocks.size() <= kMostOfContinuous) {
    int low = *clocks.begin();
    int high = *clocks.rbegin();
    if (!clocks_.empty()) {
      low = std::min(low, clocks_.back().value());
      high = std::max(high, clocks_.front().value());
    }
    clocks = {low, high};
    for (int clock = low / kGrid * kGrid + kGrid; clock < high; clock += kGrid) clocks.insert(clock);
  }
  clocks_.clear();
  for (auto clock = clocks.rbegin(); clock != clocks.rend(); ++clock) clocks_.emplace_back(*clock);
  std::uint32_t level = 0;
  clocks_are_all_ = api_.get_level(handle_, level) == kSuccess && level == amdsmi::kLevelAuto;
  return kSuccess;
}

std::vector<Megahertz> AmdsmiDevice::Gpu::clocks() {
  check(look_for_clocks(), "read clocks");
  const std::lock_guard lock(clocks_mutex_);
  return clocks_;
}

std::string AmdsmiDevice::Gpu::state() const {
  std::string text;
  check(read_state(text), "read performance level and range");
  return text;
}

Status AmdsmiDevice::Gpu::read_state(std::string& text) const {
  text.clear();
  std::uint32_t level = 0;
  if (const Status status = api_.get_level(handle_, level); status != kSuccess) return status;
  text = std::string(kLevel) + std::to_string(level);
  if (level != amdsmi::kLevelManual) return kSuccess;
  const auto range = manual_range();
  if (!range) return amdsmi::kNoData;
  text += "-" + std::to_string(range->min_mhz) + "-" + std::to_string(range->max_mhz);
  return kSuccess;
}

/// What a GPU whose level is manual is limited to. Where the library does not tell, its list of clocks does:
/// while a range is set it begins and ends with that.
std::optional<AmdsmiApi::Range> AmdsmiDevice::Gpu::manual_range() const {
  AmdsmiApi::Range range{};
  if (api_.get_range(handle_, range) == kSuccess) return range;
  std::set<int> clocks;
  if (list_clocks(clocks) != kSuccess || clocks.size() < 2) return std::nullopt;
  return AmdsmiApi::Range{static_cast<std::uint64_t>(*clocks.begin()),
                          static_cast<std::uint64_t>(*clocks.rbegin())};
}

void AmdsmiDevice::Gpu::lock_clock(Megahertz clock) {
  const std::vector<Megahertz> known = clocks();
  if (std::find(known.begin(), known.end(), clock) == known.end()) {
    refuse("lock clock", std::to_string(clock.value()) + " MHz is none of its clocks");
  }
  const auto limit = [&](std::uint32_t which, Megahertz to) {
    return api_.set_limit(handle_, which, static_cast<std::uint64_t>(to.value()));
  };
  const std::lock_guard lock(control_);
  std::string before;
  read_state(before);  // who asks for a first lock has had to read it; a later one does not fail for it
  Status status = limit(amdsmi::kLimitMin, known.back());
  if (status == kSuccess) status = limit(amdsmi::kLimitMax, clock);
  if (status == kSuccess) return;
  std::string why = api_.text_of(status);
  if (status == amdsmi::kNoPermission) why += " (a systemd service also needs ProtectKernelTunables=no)";
  refuse("lock clock", why + undo_half(before));
}

/// Takes back the first write of a lock whose second failed. The upper end is as it was.
std::string AmdsmiDevice::Gpu::undo_half(const std::string& before) const {
  std::string now;
  read_state(now);
  if (now == before) return {};
  const auto saved = parse_state(before);
  if (!saved) return "; what it was set to before could not be read";
  Status status = kSuccess;
  if (saved->level != amdsmi::kLevelManual) {
    status = set_state(*saved);
  } else if (saved->range) {
    status = api_.set_limit(handle_, amdsmi::kLimitMin, saved->range->min_mhz);
  }
  return status == kSuccess ? "" : "; its range could not be put back: " + api_.text_of(status);
}

/// "auto" is on the way to all others: it alone takes ranges back.
Status AmdsmiDevice::Gpu::set_state(const SavedState& saved) const {
  const Status status = api_.set_level(handle_, amdsmi::kLevelAuto);
  if (status != kSuccess || saved.level == amdsmi::kLevelAuto || saved.level > amdsmi::kLevelLast)
    return status;
  if (saved.level != amdsmi::kLevelManual) {
    return api_.set_level(handle_, static_cast<std::uint32_t>(saved.level));
  }
  if (!saved.range) return kSuccess;
  // From the widest range inwards, which never turns it upside down.
  const Status upper = api_.set_limit(handle_, amdsmi::kLimitMax, saved.range->max_mhz);
  const Status lower = api_.set_limit(handle_, amdsmi::kLimitMin, saved.range->min_mhz);
  return upper == kSuccess ? lower : upper;
}

bool AmdsmiDevice::Gpu::is_manual() const {
  std::uint32_t level = 0;
  check(api_.get_level(handle_, level), "read performance level");
  return level == amdsmi::kLevelManual;
}

void AmdsmiDevice::Gpu::restore(const std::string& state, const Ability& may_write) {
  const std::lock_guard lock(control_);
  std::uint32_t level = 0;
  const bool is_readable = api_.get_level(handle_, level) == kSuccess;
  if (is_readable && level != amdsmi::kLevelManual) return;
  if (!may_write) refuse("restore clock", may_write.why_not);
  check(set_state(parse_state(state).value_or(SavedState{})), "restore clock");
}

Ability AmdsmiDevice::Gpu::counts_energy() {
  const std::lock_guard lock(energy_mutex_);
  if (energy_moves_) return {};
  const auto until = std::chrono::steady_clock::now() + kFrozen;
  std::optional<std::uint64_t> first;
  Ability ability{"its energy counter does not move", ""};
  while (std::chrono::steady_clock::now() < until) {
    if (const auto [status, count] = read_energy(); status == kSuccess) {
      if (count.accumulator == 0 && is_double()) return {"the other die of its card counts for both", ""};
      energy_moves_ = first && count.accumulator != *first;
      if (energy_moves_) return {};
      first = count.accumulator;
      ability = {"its energy counter does not move", ""};
    } else if (ability = {api_.text_of(status), ""}; !amdsmi::passes(status)) {
      return ability;
    }
    std::this_thread::sleep_for(kPoll);
  }
  return ability;
}

std::pair<Status, AmdsmiApi::EnergyCount> AmdsmiDevice::Gpu::read_energy() const {
  AmdsmiApi::EnergyCount count;
  Status status = api_.get_energy(handle_, count);
  const bool is_missing = count.accumulator == UINT64_MAX || count.timestamp_ns == UINT64_MAX ||
                          !std::isfinite(count.resolution_uj) || count.resolution_uj <= 0;
  if (status == kSuccess && is_missing) status = amdsmi::kNoData;
  return {status, count};
}

Seconds AmdsmiDevice::Gpu::date(const AmdsmiApi::EnergyCount& count, bool goes_on) {
  const double now_s = host_.now().value();
  if (count.timestamp_ns == 0) return Seconds(now_s);  // not every driver dates its readings
  if (!goes_on) first_ns_ = count.timestamp_ns;
  const double device_s = static_cast<double>(count.timestamp_ns - first_ns_) * 1e-9;
  const double offset_s = now_s - device_s;
  const double largest_s = offset_s_ + kClockDrift * (now_s - offset_at_s_);
  offset_s_ = goes_on ? std::min(offset_s, largest_s) : offset_s;
  offset_at_s_ = now_s;
  return Seconds(device_s + offset_s_);
}

EnergyReading AmdsmiDevice::Gpu::energy() {
  const std::lock_guard lock(energy_mutex_);
  const auto [status, count] = read_energy();
  check(status, "read energy");
  const auto last = std::exchange(last_, count);
  const bool goes_on = last && count.timestamp_ns >= last->timestamp_ns;
  if (goes_on && count.timestamp_ns == last->timestamp_ns && count.accumulator == last->accumulator) {
    return last_reading_;
  }
  constexpr double kJoulesInMicrojoule = 1e-6;
  const double steps = static_cast<double>(count.accumulator);
  last_reading_ = {Joules(steps * static_cast<double>(count.resolution_uj) * kJoulesInMicrojoule),
                   std::max(last_reading_.at, date(count, goes_on && last->timestamp_ns > 0))};
  if (last && (!goes_on || count.accumulator < last->accumulator)) {
    refuse("read energy", "its counter went backwards, from " + std::to_string(last->accumulator) + " to " +
                              std::to_string(count.accumulator));
  }
  return last_reading_;
}

Megahertz AmdsmiDevice::Gpu::observed_clock() const {
  amdsmi::ClockInfo info{};
  if (api_.get_clock(handle_, info) == kSuccess && !amdsmi::is_missing(info.mhz)) {
    return Megahertz(static_cast<std::int32_t>(info.mhz));
  }
  amdsmi::Frequencies frequencies{};
  Status status = api_.get_frequencies(handle_, frequencies);
  if (status == kSuccess && frequencies.current >= frequencies.count) status = amdsmi::kNoData;
  check(status, "read clock");
  return Megahertz(static_cast<std::int32_t>(frequencies.hertz[frequencies.current] / kHertzInMhz));
}

std::pair<Status, Watts> AmdsmiDevice::Gpu::power() const {
  AmdsmiApi::Power info{};
  const Status status = api_.get_power(handle_, info);
  if (status != kSuccess) return {status, Watts()};
  for (const std::uint32_t watts : {info.current_w, info.average_w}) {
    if (watts > 0 && !amdsmi::is_missing(watts)) return {kSuccess, Watts(watts)};
  }
  return {amdsmi::kNoData, Watts()};
}

std::pair<Status, Watts> AmdsmiDevice::Gpu::power_cap() const {
  amdsmi::PowerCapInfo info{};
  const Status status = api_.get_power_cap(handle_, info);
  const bool is_missing = info.cap_uw == 0 || info.cap_uw == UINT64_MAX;
  if (status != kSuccess || is_missing) return {status == kSuccess ? amdsmi::kNoData : status, Watts()};
  return {kSuccess, Watts(static_cast<double>(info.cap_uw) * 1e-6)};
}

std::pair<Status, double> AmdsmiDevice::Gpu::temperature() const {
  constexpr std::int64_t kHottest = 200;  // beyond it are sentinels
  std::int64_t celsius = 0;
  const Status status = api_.get_temperature(handle_, celsius);
  const bool is_missing = celsius == -1 || celsius > kHottest;
  if (status != kSuccess || is_missing) return {status == kSuccess ? amdsmi::kNoData : status, 0};
  return {kSuccess, static_cast<double>(celsius)};
}

AmdsmiDevice::AmdsmiDevice(std::optional<std::string> library, const std::vector<std::string>& selection,
                           DeviceAccess access)
    : library_(std::move(library)), access_(access), api_(std::make_unique<AmdsmiApi>(library_)) {
  if (library_) library_ = api_->library();
  std::vector<std::unique_ptr<Gpu>> all;
  std::set<std::string> seen;
  for (const amdsmi::Handle handle : api_->gpus()) {
    amdsmi::Bdf bdf{};
    if (const Status status = api_->get_bdf(handle, bdf); status != kSuccess) {
      throw DeviceError("read PCI address", std::to_string(all.size()), api_->text_of(status));
    }
    GpuIdentity identity;
    identity.pci_address = amdsmi::text_of(bdf);
    // A part of a partitioned GPU has no clock of its own.
    if (!seen.insert(identity.pci_address).second) continue;
    identity.uuid = uuid_of(identity.pci_address);
    if (api_->get_name(handle, identity.model) != kSuccess || identity.model.empty()) {
      identity.model = "AMD GPU";
    }
    all.push_back(std::make_unique<Gpu>(*api_, handle, std::move(identity)));
  }
  if (selection.empty()) {
    gpus_ = std::move(all);
    return;
  }
  std::string known;
  for (const auto& gpu : all) known += (known.empty() ? "" : ", ") + gpu->identity().pci_address;
  std::vector<std::size_t> chosen;
  for (const std::string& wanted : selection) {
    const auto number = parse_integer(wanted);
    std::size_t g = 0;
    while (g < all.size() && number != static_cast<std::int64_t>(g) &&
           wanted != all[g]->identity().pci_address && wanted != all[g]->identity().uuid) {
      ++g;
    }
    if (g == all.size()) {
      throw DeviceError("select GPU", wanted,
                        "it is not there; there are: " + (known.empty() ? "none" : known));
    }
    if (std::find(chosen.begin(), chosen.end(), g) != chosen.end()) {
      throw InputError("", 0, "GPU", "'" + wanted + "' is selected twice");
    }
    chosen.push_back(g);
  }
  for (const std::size_t g : chosen) gpus_.push_back(std::move(all[g]));
}

AmdsmiDevice::~AmdsmiDevice() = default;

AmdsmiDevice::Gpu& AmdsmiDevice::at(GpuId gpu) const {
  return *gpus_.at(gpu.index());
}

std::string AmdsmiDevice::spec() const {
  return "amdsmi" + (library_ ? ",library=" + *library_ : "");
}

std::string AmdsmiDevice::driver() const {
  return api_->version();
}

int AmdsmiDevice::gpu_count() const {
  return static_cast<int>(gpus_.size());
}

GpuIdentity AmdsmiDevice::identity(GpuId gpu) const {
  return at(gpu).identity();
}

GpuAbilities AmdsmiDevice::abilities(GpuId id) {
  Gpu& gpu = at(id);
  GpuAbilities abilities;
  const auto refuse_if = [&](Ability& ability, Status status) {
    if (status != kSuccess) ability.why_not = api_->text_of(status);
  };
  abilities.set_clock = may_write();
  if (abilities.set_clock) {
    if (const Status status = gpu.look_for_clocks(); status != kSuccess) {
      abilities.set_clock.why_not = "its clocks cannot be read: " + api_->text_of(status);
    }
  }
  abilities.energy = gpu.counts_energy();
  refuse_if(abilities.power, gpu.power().first);
  refuse_if(abilities.power_cap, gpu.power_cap().first);
  refuse_if(abilities.temperature, gpu.temperature().first);
  // Its throttle status is a bit mask that each chip defines for itself.
  abilities.event_reasons.why_not = "AMD SMI does not tell why a GPU is slow";
  if (abilities.energy) {
    abilities.remarks.emplace_back(
        "AMD SMI counts energy in steps of 15.3 uJ, documented as 15.259: it may be 0.27 % too high");
    if (gpu.is_double()) abilities.remarks.emplace_back("energy and power cover both dies of the card");
  }
  return abilities;
}

Ability AmdsmiDevice::may_write() const {
  if (access_ == DeviceAccess::kReadOnly) return {"the device was opened for reading only", "", true};
  if (!library_ && !may_set_clocks()) {
    return {"this process has no right to set clocks", "run it as root, or give it CAP_SYS_ADMIN", true};
  }
  if (!api_->can_limit_clocks()) {
    return {"this version of AMD SMI cannot limit clocks", "install ROCm 6.3 or newer"};
  }
  return {};
}

std::vector<Megahertz> AmdsmiDevice::supported_clocks(GpuId gpu) const {
  return at(gpu).clocks();
}

std::string AmdsmiDevice::state(GpuId gpu) {
  return at(gpu).state();
}

void AmdsmiDevice::lock_clock(GpuId gpu, Megahertz clock) {
  if (const Ability ability = may_write(); !ability) at(gpu).refuse("lock clock", ability.why_not);
  at(gpu).lock_clock(clock);
}

void AmdsmiDevice::restore(GpuId gpu, const std::string& state) {
  at(gpu).restore(state, may_write());
}

Megahertz AmdsmiDevice::observed_clock(GpuId gpu) {
  return at(gpu).observed_clock();
}

EventReasons AmdsmiDevice::event_reasons(GpuId gpu) {
  EventReasons reasons;
  if (at(gpu).is_manual()) reasons |= EventReason::kUserSet;
  return reasons;
}

EnergyReading AmdsmiDevice::energy(GpuId gpu) {
  return at(gpu).energy();
}

Seconds AmdsmiDevice::energy_refresh_period() {
  const std::lock_guard lock(refresh_mutex_);
  if (refresh_period_) return *refresh_period_;
  for (const GpuId gpu : all_gpus(*this)) {
    if (!at(gpu).counts_energy()) continue;
    refresh_period_ = measure_refresh_period([&] { return energy(gpu); }, *make_timeline());
    return *refresh_period_;
  }
  throw DeviceError("measure refresh period of the energy counter", "", "no GPU here tells its energy");
}

Watts AmdsmiDevice::power(GpuId gpu) {
  const auto [status, power] = at(gpu).power();
  at(gpu).check(status, "read power");
  return power;
}

Watts AmdsmiDevice::power_cap(GpuId gpu) {
  const auto [status, cap] = at(gpu).power_cap();
  at(gpu).check(status, "read power cap");
  return cap;
}

double AmdsmiDevice::temperature(GpuId gpu) {
  const auto [status, celsius] = at(gpu).temperature();
  at(gpu).check(status, "read temperature");
  return celsius;
}

std::unique_ptr<Timeline> AmdsmiDevice::make_timeline() {
  return std::make_unique<HostTimeline>(end_);
}

}  // namespace slackline
