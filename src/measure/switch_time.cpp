#include "slackline/measure/switch_time.h"

#include <algorithm>
#include <cstdlib>

#include "slackline/base/error.h"
#include "slackline/base/number_text.h"

namespace slackline {
namespace {

Seconds median(std::vector<Seconds> times) {
  const auto middle = times.begin() + static_cast<std::ptrdiff_t>(times.size() / 2);
  std::nth_element(times.begin(), middle, times.end());
  if (times.size() % 2 == 1) return *middle;
  return (*middle + *std::max_element(times.begin(), middle)) / 2;
}

/// One GPU whose clock is watched.
class Watch {
 public:
  Watch(Device& device, GpuId gpu, Timeline& timeline, const SwitchOptions& options)
      : device_(device), gpu_(gpu), timeline_(timeline), options_(options) {}

  struct Arrival {
    std::optional<Seconds> first_change;
    std::optional<Seconds> stable;
  };

  /// Follows the readings until they stay at `target`, coming from `before`, or `deadline` passes.
  Arrival arrival(Megahertz before, Megahertz target, Seconds deadline) {
    // Never so wide that a clock which has not moved passes for one that has.
    const int apart = std::abs(before.value() - target.value());
    const int tolerance =
        apart == 0 ? options_.tolerance.value() : std::min(options_.tolerance.value(), (apart - 1) / 2);
    Arrival arrival;
    Seconds first_there;
    int there = 0;
    while (true) {
      const bool is_read = read();
      const Seconds now = timeline_.now();  // after the reading: by then the clock was seen
      if (is_read && !arrival.first_change && last_ != before) arrival.first_change = now;
      const bool is_there = is_read && std::abs(last_.value() - target.value()) <= tolerance;
      there = is_there ? there + 1 : 0;
      if (there == 1) first_there = now;
      if (there >= options_.stable_polls) {
        arrival.stable = first_there;
        return arrival;
      }
      if (now >= deadline || !timeline_.sleep_until(now + options_.poll)) return arrival;
    }
  }

  [[nodiscard]] Megahertz last() const { return last_; }
  /// Why a clock is not there, as far as the driver says.
  [[nodiscard]] std::string lateness(Megahertz target) {
    std::string text = (fault_.empty() ? std::to_string(last_.value()) + " MHz " : fault_ + "; ") +
                       fixed_text(options_.timeout.value() * 1e3, 0) + " ms after " +
                       std::to_string(target.value()) + " MHz was asked for";
    try {
      const EventReasons reasons = device_.event_reasons(gpu_);
      text += "; event reasons: " + text_of(reasons);
    } catch (const DeviceError&) {
      // They are a hint, no more.
    }
    return text;
  }

 private:
  bool read() {
    try {
      last_ = device_.observed_clock(gpu_);
      fault_.clear();
    } catch (const DeviceError& error) {
      fault_ = error.what();
    }
    return fault_.empty();
  }

  Device& device_;
  GpuId gpu_;
  Timeline& timeline_;
  const SwitchOptions& options_;
  Megahertz last_;
  std::string fault_;  // of the last reading
};

struct Times {
  std::vector<Seconds> call;
  std::vector<Seconds> first_change;
  std::vector<Seconds> stable;
};

}  // namespace

std::vector<ClockPair> spread_pairs(const std::vector<Megahertz>& clocks, std::size_t count) {
  std::vector<Megahertz> chosen;
  const std::size_t kept = std::min(count, clocks.size());
  for (std::size_t i = 0; i < kept; ++i) {
    chosen.push_back(clocks[kept == 1 ? 0 : i * (clocks.size() - 1) / (kept - 1)]);
  }
  std::vector<ClockPair> pairs;
  for (const Megahertz from : chosen) {
    for (const Megahertz to : chosen) {
      if (from != to) pairs.push_back({from, to});
    }
  }
  return pairs;
}

std::vector<SwitchTime> measure_switches(Device& device, GpuId gpu, ClockSetter& setter, Timeline& timeline,
                                         const std::vector<ClockPair>& pairs, const SwitchOptions& options,
                                         const std::function<void(double)>& done) {
  Watch watch(device, gpu, timeline, options);
  std::vector<SwitchTime> results(pairs.size());
  std::vector<Times> times(pairs.size());
  for (std::size_t p = 0; p < pairs.size(); ++p) results[p].pair = pairs[p];

  const auto switch_once = [&](std::size_t p) {
    const auto [from, to] = pairs[p];
    SwitchTime& result = results[p];
    ++result.switches;
    setter.set_clock(gpu, from);
    if (!watch.arrival(from, from, timeline.now() + options.timeout).stable) {
      result.why_not = watch.lateness(from);
      return;
    }
    const Megahertz before = watch.last();
    const Seconds asked = timeline.now();
    setter.set_clock(gpu, to);
    times[p].call.push_back(timeline.now() - asked);
    const Watch::Arrival arrival = watch.arrival(before, to, asked + options.timeout);
    if (!arrival.stable || !arrival.first_change) {  // it may have been there before, held back
      result.why_not = watch.lateness(to);
      return;
    }
    ++result.arrived;
    times[p].first_change.push_back(*arrival.first_change - asked);
    times[p].stable.push_back(*arrival.stable - asked);
  };

  const std::size_t total = pairs.size() * static_cast<std::size_t>(options.repeats);
  for (std::size_t i = 0; i < total; ++i) {
    switch_once(i % pairs.size());
    if (done) done(static_cast<double>(i + 1) / static_cast<double>(total));
    if (!timeline.sleep_until(timeline.now())) break;
  }
  for (std::size_t p = 0; p < pairs.size(); ++p) {
    if (!times[p].call.empty()) results[p].call = median(times[p].call);
    if (results[p].arrived == 0) continue;
    results[p].first_change = median(times[p].first_change);
    results[p].stable = median(times[p].stable);
  }
  return results;
}

std::optional<SwitchTimes> summary_of(const std::vector<SwitchTime>& switches) {
  constexpr double kMs = 1e3;
  SwitchTimes summary;
  for (const SwitchTime& one : switches) {
    if (!one.stable) continue;
    summary.pairs.push_back(
        {one.pair.from, one.pair.to, one.first_change->value() * kMs, one.stable->value() * kMs});
    summary.call_ms = std::max(summary.call_ms, one.call->value() * kMs);
    summary.first_change_ms = std::max(summary.first_change_ms, summary.pairs.back().first_change_ms);
    summary.stable_ms = std::max(summary.stable_ms, summary.pairs.back().stable_ms);
  }
  return summary.pairs.empty() ? std::nullopt : std::optional(summary);
}

}  // namespace slackline
