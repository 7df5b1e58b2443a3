#include "slackline/measure/energy_meter.h"

#include <algorithm>
#include <chrono>
#include <utility>

#include "slackline/base/error.h"

namespace slackline {
namespace {

/// Ticks kept for marks that arrive late: well over a minute of a counter that refreshes ten times a second.
constexpr std::size_t kReadingsKept = 1024;
/// For the last ticks; a counter that has not moved by then stands still.
constexpr auto kPatience = std::chrono::seconds(5);

}  // namespace

EnergyMeter::EnergyMeter(Device& device, std::vector<GpuId> gpus, std::unique_ptr<Timeline> timeline)
    : device_(device), gpus_(std::move(gpus)), timeline_(std::move(timeline)), readings_(gpus_.size()) {
  thread_ = std::thread([this] { follow(); });
}

EnergyMeter::~EnergyMeter() {
  thread_.join();
}

void EnergyMeter::follow() {
  try {
    const Seconds pause = device_.energy_refresh_period() / 2;
    do {
      sample();
    } while (timeline_->sleep_until(timeline_->now() + pause));
  } catch (const DeviceError&) {
    // The GPU is gone, or all was over before its counter was known: what was not answered stays unanswered.
  }
  {
    const std::lock_guard lock(mutex_);
    ended_ = true;
  }
  answered_.notify_all();
}

void EnergyMeter::sample() {
  std::vector<EnergyReading> fresh;
  fresh.reserve(gpus_.size());
  for (const GpuId gpu : gpus_) fresh.push_back(device_.energy(gpu));
  const std::lock_guard lock(mutex_);
  for (std::size_t g = 0; g < gpus_.size(); ++g) {
    auto& readings = readings_[g];
    if (readings.empty() || fresh[g].at > readings.back().at) readings.push_back(fresh[g]);
    if (readings.size() > kReadingsKept) readings.pop_front();
  }
  if (open_marks_.empty()) return;
  Seconds reached = readings_.front().back().at;
  for (const auto& readings : readings_) reached = std::min(reached, readings.back().at);
  while (!open_marks_.empty() && *open_marks_.begin() <= reached) {
    Joules& energy = answers_[*open_marks_.begin()];
    for (const auto& readings : readings_) energy += interpolate(readings, *open_marks_.begin());
    open_marks_.erase(open_marks_.begin());
  }
  if (open_marks_.empty()) answered_.notify_all();
}

Joules EnergyMeter::interpolate(const std::deque<EnergyReading>& readings, Seconds moment) const {
  const auto after = std::lower_bound(readings.begin(), readings.end(), moment,
                                      [](const EnergyReading& reading, Seconds t) { return reading.at < t; });
  if (after == readings.begin()) return after->total;
  const EnergyReading& before = *(after - 1);
  return before.total + (after->total - before.total) * ((moment - before.at) / (after->at - before.at));
}

void EnergyMeter::mark(Seconds moment) {
  const std::lock_guard lock(mutex_);
  if (!answers_.contains(moment)) open_marks_.insert(moment);
}

std::optional<Joules> EnergyMeter::energy_until(Seconds moment) const {
  const std::lock_guard lock(mutex_);
  const auto answer = answers_.find(moment);
  return answer == answers_.end() ? std::nullopt : std::optional(answer->second);
}

void EnergyMeter::forget_before(Seconds moment) {
  const std::lock_guard lock(mutex_);
  answers_.erase(answers_.begin(), answers_.lower_bound(moment));
}

void EnergyMeter::finish() {
  std::unique_lock lock(mutex_);
  answered_.wait_for(lock, kPatience, [this] { return open_marks_.empty() || ended_; });
}

}  // namespace slackline
