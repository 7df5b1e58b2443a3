#include "slackline/measure/energy_meter.h"

#include <algorithm>
#include <chrono>
#include <numeric>
#include <utility>

#include "slackline/base/error.h"

namespace slackline {
namespace {

/// Ticks kept for marks that arrive late: well over a minute of a counter that refreshes ten times a second.
constexpr std::size_t kReadingsKept = 1024;
/// For the last ticks; a counter that has not moved by then stands still.
constexpr auto kPatience = std::chrono::seconds(5);
/// A GPU that cannot be read for so long is gone.
constexpr Seconds kFaultPatience(5);

Joules interpolate(const std::deque<EnergyReading>& readings, Seconds moment) {
  const auto after = std::lower_bound(readings.begin(), readings.end(), moment,
                                      [](const EnergyReading& reading, Seconds t) { return reading.at < t; });
  if (after == readings.begin()) return after->total;
  const EnergyReading& before = *(after - 1);
  return before.total + (after->total - before.total) * ((moment - before.at) / (after->at - before.at));
}

}  // namespace

EnergyMeter::EnergyMeter(Device& device, std::vector<GpuId> gpus, std::unique_ptr<Timeline> timeline)
    : device_(device), timeline_(std::move(timeline)) {
  for (const GpuId gpu : gpus) counters_.push_back({gpu, {}, 0, {}});
  thread_ = std::thread([this] { follow(); });
  std::unique_lock lock(mutex_);
  answered_.wait(lock, [this] { return begun_ || ended_; });
}

EnergyMeter::~EnergyMeter() {
  thread_.join();
}

void EnergyMeter::follow() {
  std::string fault;
  try {
    const Seconds pause = device_.energy_refresh_period() / 2;
    do {
      sample();
    } while (timeline_->sleep_until(timeline_->now() + pause));
  } catch (const DeviceError& error) {
    fault = error.what();
  }
  timeline_.reset();  // simulated time would wait for who has stopped looking
  {
    const std::lock_guard lock(mutex_);
    ended_ = true;
    fault_ = std::move(fault);
  }
  answered_.notify_all();
}

void EnergyMeter::sample() {
  for (Counter& counter : counters_) read(counter);
  const std::lock_guard lock(mutex_);
  if (!begun_) {
    begun_ = std::ranges::none_of(counters_, [](const Counter& counter) { return counter.readings.empty(); });
  }
  if (begun_) answer_marks();
  answered_.notify_all();
}

void EnergyMeter::read(Counter& counter) {
  EnergyReading fresh;
  try {
    fresh = device_.energy(counter.gpu);
    counter.failing_since.reset();
  } catch (const DeviceError&) {
    const Seconds now = timeline_->now();
    if (!counter.failing_since) counter.failing_since = now;
    if (now - *counter.failing_since > kFaultPatience) throw;
    return;
  }
  auto& readings = counter.readings;
  if (!readings.empty() && fresh.total < readings.back().total) {
    ++counter.resets;
    readings.clear();
  }
  if (readings.empty() || fresh.at > readings.back().at) readings.push_back(fresh);
  if (readings.size() > kReadingsKept) readings.pop_front();
}

/// With the mutex held.
void EnergyMeter::answer_marks() {
  if (std::ranges::any_of(counters_, [](const Counter& counter) { return counter.readings.empty(); })) return;
  const auto reached_by = [](const Counter& counter) { return counter.readings.back().at; };
  const auto known_from = [](const Counter& counter) { return counter.readings.front().at; };
  const Seconds reached = reached_by(*std::ranges::min_element(counters_, {}, reached_by));
  const Seconds begin = known_from(*std::ranges::max_element(counters_, {}, known_from));
  while (!open_marks_.empty() && *open_marks_.begin() <= reached) {
    const Seconds moment = *open_marks_.begin();
    open_marks_.erase(open_marks_.begin());
    if (moment < begin) continue;  // nobody was looking
    std::vector<Answer>& answers = answers_[moment];
    for (const Counter& counter : counters_) {
      answers.push_back({interpolate(counter.readings, moment), counter.resets});
    }
  }
}

void EnergyMeter::mark(Seconds moment) {
  const std::lock_guard lock(mutex_);
  if (!answers_.contains(moment)) open_marks_.insert(moment);
}

bool EnergyMeter::is_open(Seconds moment) const {
  const std::lock_guard lock(mutex_);
  return open_marks_.contains(moment);
}

std::optional<Joules> EnergyMeter::energy_between(Seconds begin, Seconds end) const {
  std::vector<std::size_t> all(counters_.size());
  std::iota(all.begin(), all.end(), 0);
  return energy_between(begin, end, all);
}

std::optional<Joules> EnergyMeter::energy_between(Seconds begin, Seconds end,
                                                  const std::vector<std::size_t>& places) const {
  const std::lock_guard lock(mutex_);
  const auto from = answers_.find(begin);
  const auto to = answers_.find(end);
  if (from == answers_.end() || to == answers_.end()) return std::nullopt;
  Joules energy;
  for (const std::size_t place : places) {
    const Answer& first = from->second[place];
    const Answer& last = to->second[place];
    if (first.resets != last.resets) return std::nullopt;
    energy += last.total - first.total;
  }
  return energy;
}

void EnergyMeter::forget_before(Seconds moment) {
  const std::lock_guard lock(mutex_);
  answers_.erase(answers_.begin(), answers_.lower_bound(moment));
}

void EnergyMeter::finish() {
  std::unique_lock lock(mutex_);
  answered_.wait_for(lock, kPatience, [this] { return open_marks_.empty() || ended_; });
}

std::string EnergyMeter::fault() const {
  const std::lock_guard lock(mutex_);
  return fault_;
}

}  // namespace slackline
