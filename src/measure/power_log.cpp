#include "slackline/measure/power_log.h"

#include <algorithm>
#include <cassert>
#include <cmath>
#include <deque>
#include <functional>
#include <utility>

#include "slackline/base/error.h"
#include "slackline/base/number_text.h"

namespace slackline {
namespace {

/// Samples kept before they are added up, and ticks kept at either end of the window.
constexpr std::size_t kKept = 128;
constexpr std::size_t kEnoughTicks = 20;
constexpr double kDisagreement = 0.10;
/// Readings of power stand for the whole window if they cover so much of it.
constexpr double kEnoughOfTheTime = 0.9;
/// From Ampere on, most drivers give the mean of the last second as power.
constexpr Seconds kDriverAverage{1.0};
/// For the tick after the end: this many periods, at least and at most so long.
constexpr double kPatiencePeriods = 10;
constexpr Seconds kPatience{1.0};
constexpr Seconds kMostPatience{5.0};

struct Sample {
  Seconds at;
  std::optional<Watts> power;
  std::optional<Megahertz> clock;
  std::optional<EventReasons> reasons;
  std::optional<double> temperature;
};

/// A reading that may be impossible here, or fail now and then.
template <class Value>
class Reader {
 public:
  Reader(std::function<Value()> read, std::string why_not)
      : read_(std::move(read)), why_not_(std::move(why_not)), possible_(why_not_.empty()) {}

  std::optional<Value> operator()() {
    if (!possible_) return std::nullopt;
    try {
      return read_();
    } catch (const DeviceError& error) {
      why_not_ = error.what();
      return std::nullopt;
    }
  }
  [[nodiscard]] bool possible() const { return possible_; }
  /// Why the last failure failed, or why there is nothing to read.
  [[nodiscard]] const std::string& why_not() const { return why_not_; }

 private:
  std::function<Value()> read_;
  std::string why_not_;
  bool possible_;
};

/// An energy counter's ticks around both ends of a window; those in its middle are only counted.
class CounterTicks {
 public:
  void add(const EnergyReading& reading, std::optional<Seconds> begin) {
    if (!ticks_.empty() && reading.at <= ticks_.back().at) return;
    // A reading of 0 is a driver that was asked too often, unless it stays at that: then later ones are less.
    if (!ticks_.empty() && reading.total == Joules(0)) return;
    if (!ticks_.empty() && reading.total < ticks_.back().total) was_reset_ = true;
    ticks_.push_back(reading);
    if (ticks_.size() <= 4 * kKept) return;
    const std::size_t needed = begin ? bracket(*begin) + 1 : 0;  // the two around the begin
    if (needed >= ticks_.size() - kKept) return;
    const auto first = ticks_.begin() + static_cast<std::ptrdiff_t>(needed);
    const auto last = ticks_.end() - static_cast<std::ptrdiff_t>(kKept);
    if (begin) dropped_ += static_cast<std::size_t>(last - first);
    ticks_.erase(first, last);
  }

  [[nodiscard]] bool has_passed(Seconds moment) const {
    return !ticks_.empty() && ticks_.back().at >= moment;
  }
  [[nodiscard]] bool was_reset() const { return was_reset_; }
  [[nodiscard]] bool covers(Seconds begin, Seconds end) const {
    return !ticks_.empty() && ticks_.front().at <= begin && ticks_.back().at >= end;
  }
  [[nodiscard]] std::size_t between(Seconds begin, Seconds end) const {
    return dropped_ + static_cast<std::size_t>(std::ranges::count_if(ticks_, [&](const EnergyReading& tick) {
             return tick.at > begin && tick.at <= end;
           }));
  }
  [[nodiscard]] Joules total_at(Seconds moment) const {
    const auto& [before, after] = around(moment);
    if (after.at == before.at) return before.total;
    return before.total + (after.total - before.total) * ((moment - before.at) / (after.at - before.at));
  }
  /// Drawn within the tick that holds `moment`.
  [[nodiscard]] Joules tick_at(Seconds moment) const {
    const auto& [before, after] = around(moment);
    return after.total - before.total;
  }

 private:
  /// The number of the first tick after `moment`, at least 1.
  [[nodiscard]] std::size_t bracket(Seconds moment) const {
    const auto after = std::upper_bound(ticks_.begin(), ticks_.end(), moment,
                                        [](Seconds t, const EnergyReading& tick) { return t < tick.at; });
    return std::max<std::size_t>(static_cast<std::size_t>(after - ticks_.begin()), 1);
  }
  [[nodiscard]] std::pair<const EnergyReading&, const EnergyReading&> around(Seconds moment) const {
    const std::size_t after = std::min(bracket(moment), ticks_.size() - 1);
    return {ticks_[after == 0 ? 0 : after - 1], ticks_[after]};
  }

  std::deque<EnergyReading> ticks_;
  std::size_t dropped_ = 0;
  bool was_reset_ = false;
};

}  // namespace

std::optional<Watts> GpuUse::mean_power() const {
  const std::optional<Joules>& drawn = energy ? energy : sampled_energy;
  if (!drawn || time <= Seconds(0)) return std::nullopt;
  return Watts(*drawn / time);
}

bool GpuUse::is_short() const {
  return energy.has_value() && ticks < kEnoughTicks;
}

std::optional<double> GpuUse::disagreement() const {
  if (!energy || !sampled_energy || ticks < kEnoughTicks) return std::nullopt;
  const Joules apart(std::abs((*sampled_energy - *energy).value()));
  const Joules explained = energy_error + (most_power - least_power) * kDriverAverage;
  if (apart <= explained + *energy * kDisagreement) return std::nullopt;
  return (*sampled_energy - *energy) / std::max(*energy, Joules(1e-9));
}

/// One GPU: what to read, and what has been read.
class PowerLog::Gpu {
 public:
  Gpu(Device& device, GpuId gpu, const GpuAbilities& abilities)
      : gpu_(gpu),
        read_energy_([&device, gpu] { return device.energy(gpu); }, abilities.energy.why_not),
        read_power_([&device, gpu] { return device.power(gpu); }, abilities.power.why_not),
        read_clock_([&device, gpu] { return device.observed_clock(gpu); }, {}),
        read_reasons_([&device, gpu] { return device.event_reasons(gpu); }, abilities.event_reasons.why_not),
        read_temperature_([&device, gpu] { return device.temperature(gpu); }, abilities.temperature.why_not) {
  }

  /// Asks the driver; what it says waits for keep().
  void read(Timeline& timeline) {
    fresh_energy_ = read_energy_();
    fresh_ = {};
    fresh_.power = read_power_();
    // A driver that is asked too often gives 0; no GPU that answers draws that.
    if (fresh_.power == Watts(0)) fresh_.power.reset();
    fresh_.at = timeline.now();
    fresh_.clock = read_clock_();
    fresh_.reasons = read_reasons_();
    fresh_.temperature = read_temperature_();
  }
  void keep(std::optional<Seconds> begin, std::optional<Seconds> end) {
    if (fresh_energy_) counter_.add(*fresh_energy_, begin);
    waiting_.push_back(fresh_);
    if (waiting_.size() < 2 * kKept) return;
    while (waiting_.size() > kKept) add_up_first(begin, end);
  }
  [[nodiscard]] bool awaits_tick_after(Seconds moment) const {
    return read_energy_.possible() && !counter_.was_reset() && !counter_.has_passed(moment);
  }
  void add_up_rest(Seconds begin, Seconds end) {
    while (!waiting_.empty()) add_up_first(begin, end);
  }

  [[nodiscard]] GpuUse use(Seconds begin, Seconds end) const {
    GpuUse use = use_;
    use.gpu = gpu_;
    use.time = end - begin;
    add_energy(use, begin, end);
    const bool is_gone = !read_power_.why_not().empty() && power_time_ < use.time * kEnoughOfTheTime;
    if (last_power_ && is_gone) {
      use.why_no_power = "it could be read for " + fixed_text(power_time_.value(), 1) + " of " +
                         fixed_text(use.time.value(), 1) + " s only: " + read_power_.why_not();
    } else if (last_power_) {
      const bool is_sampled = power_time_ > Seconds(0);
      use.sampled_energy = (is_sampled ? power_sum_ / power_time_ : last_power_->second) * use.time;
    } else {
      use.why_no_power = read_power_.why_not().empty() ? "it reads as 0 W" : read_power_.why_not();
    }
    if (use.clocks) use.clocks->mean_mhz = clock_sum_ / clock_time_.value();
    for (auto& [reason, share] : use.reasons) share /= reasons_time_.value();
    if (reasons_time_ <= Seconds(0)) use.why_no_reasons = read_reasons_.why_not();
    return use;
  }

 private:
  void add_energy(GpuUse& use, Seconds begin, Seconds end) const {
    const auto last_failure = [&](const char* else_text) {
      return read_energy_.why_not().empty() ? std::string(else_text) : read_energy_.why_not();
    };
    if (counter_.was_reset()) {
      use.why_no_energy = "the energy counter went backwards: the driver or the GPU was reset";
    } else if (!counter_.has_passed(end)) {
      use.why_no_energy = last_failure("the energy counter stands still");
    } else if (!counter_.covers(begin, end)) {
      use.why_no_energy = last_failure("the energy counter was not read before the begin");
    } else {
      use.energy = counter_.total_at(end) - counter_.total_at(begin);
      use.energy_error = counter_.tick_at(begin) + counter_.tick_at(end);
      use.ticks = counter_.between(begin, end);
    }
  }

  /// The oldest sample says what was until the next, power apart: that runs straight from one to the other.
  void add_up_first(std::optional<Seconds> begin, std::optional<Seconds> end) {
    const Sample sample = waiting_.front();
    waiting_.pop_front();
    if (begin && sample.power) add_power(sample.at, *sample.power, *begin, end.value_or(sample.at));
    if (sample.power) last_power_ = {sample.at, *sample.power};
    if (!begin) return;
    const Seconds until = waiting_.empty() ? end.value_or(sample.at) : waiting_.front().at;
    const Seconds time = std::min(until, end.value_or(until)) - std::max(sample.at, *begin);
    if (time <= Seconds(0)) return;
    if (sample.clock) {
      if (!use_.clocks) use_.clocks = {*sample.clock, 0, *sample.clock};
      use_.clocks->lowest = std::min(use_.clocks->lowest, *sample.clock);
      use_.clocks->highest = std::max(use_.clocks->highest, *sample.clock);
      clock_sum_ += sample.clock->value() * time.value();
      clock_time_ += time;
    }
    if (sample.reasons) {
      reasons_time_ += time;
      for (std::uint32_t bit = 1; bit != 0; bit <<= 1) {
        if ((sample.reasons->bits() & bit) != 0) use_.reasons[EventReason{bit}] += time.value();
      }
    }
    if (sample.temperature) {
      use_.peak_temperature = std::max(*sample.temperature, use_.peak_temperature.value_or(-273));
    }
  }

  void add_power(Seconds at, Watts power, Seconds begin, Seconds end) {
    if (!last_power_) return;
    const auto [last_at, last] = *last_power_;
    const Seconds from = std::max(last_at, begin);
    const Seconds to = std::min(at, end);
    if (to <= from) return;
    const auto power_at = [&, last_at = last_at, last = last](Seconds t) {
      return last + (power - last) * ((t - last_at) / (at - last_at));
    };
    const Watts first = power_at(from);
    const Watts second = power_at(to);
    if (power_time_ <= Seconds(0)) use_.least_power = use_.most_power = first;
    use_.least_power = std::min({use_.least_power, first, second});
    use_.most_power = std::max({use_.most_power, first, second});
    power_sum_ += (first + second) / 2 * (to - from);
    power_time_ += to - from;
  }

  GpuId gpu_;
  Reader<EnergyReading> read_energy_;
  Reader<Watts> read_power_;
  Reader<Megahertz> read_clock_;
  Reader<EventReasons> read_reasons_;
  Reader<double> read_temperature_;
  Sample fresh_;
  std::optional<EnergyReading> fresh_energy_;

  CounterTicks counter_;
  std::deque<Sample> waiting_;
  std::optional<std::pair<Seconds, Watts>> last_power_;
  Joules power_sum_;
  Seconds power_time_;
  double clock_sum_ = 0;  // MHz s
  Seconds clock_time_;
  Seconds reasons_time_;
  GpuUse use_;
};

PowerLog::PowerLog(Device& device, std::vector<GpuId> gpus, std::unique_ptr<Timeline> timeline,
                   Seconds interval)
    : timeline_(std::move(timeline)), interval_(interval), patience_(kPatience) {
  bool has_counter = false;
  for (const GpuId gpu : gpus) {
    GpuAbilities abilities;
    try {
      abilities = device.abilities(gpu);
    } catch (const DeviceError&) {
      // Then its readings say themselves what is wrong.
    }
    has_counter = has_counter || abilities.energy;
    gpus_.push_back(std::make_unique<Gpu>(device, gpu, abilities));
  }
  try {
    if (has_counter) {
      patience_ = std::clamp(device.energy_refresh_period() * kPatiencePeriods, kPatience, kMostPatience);
    }
  } catch (const DeviceError&) {
    // Unknown; a second is ten ticks of most.
  }
  thread_ = std::thread([this] { follow(); });
  std::unique_lock lock(mutex_);
  changed_.wait(lock, [this] { return started_; });
}

PowerLog::~PowerLog() {
  {
    const std::lock_guard lock(mutex_);
    stopped_ = true;
  }
  thread_.join();
}

void PowerLog::follow() {
  Seconds now;
  do {
    now = timeline_->now();
    for (const auto& gpu : gpus_) gpu->read(*timeline_);
    const std::lock_guard lock(mutex_);
    for (const auto& gpu : gpus_) gpu->keep(begin_, end_);
    started_ = true;
    changed_.notify_all();
    if (is_over(now)) break;
  } while (timeline_->sleep_until(now + interval_));
  const std::lock_guard lock(mutex_);
  if (begin_ && end_) {
    for (const auto& gpu : gpus_) gpu->add_up_rest(*begin_, *end_);
  }
  ended_ = true;
  changed_.notify_all();
}

bool PowerLog::is_over(Seconds now) const {
  if (stopped_) return true;
  if (!end_ || now < *end_) return false;
  return now > *end_ + patience_ ||
         std::ranges::none_of(gpus_, [&](const auto& gpu) { return gpu->awaits_tick_after(*end_); });
}

void PowerLog::begin(Seconds moment) {
  const std::lock_guard lock(mutex_);
  begin_ = moment;
}

void PowerLog::end(Seconds moment) {
  const std::lock_guard lock(mutex_);
  end_ = moment;
}

void PowerLog::finish() {
  std::unique_lock lock(mutex_);
  changed_.wait(lock, [this] { return ended_; });
}

std::vector<GpuUse> PowerLog::uses() const {
  const std::lock_guard lock(mutex_);
  assert(ended_ && begin_ && end_);
  std::vector<GpuUse> uses;
  for (const auto& gpu : gpus_) uses.push_back(gpu->use(*begin_, *end_));
  return uses;
}

}  // namespace slackline
