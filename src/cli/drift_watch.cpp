#include "drift_watch.h"

#include <algorithm>
#include <cmath>

namespace slackline {
namespace {

constexpr std::size_t kFewestRuns = 5;
constexpr double kSurely = 3;  // standard errors

}  // namespace

void DriftWatch::add(int number, int stage, const JobEvent& event) {
  Member& member = members_[number];
  const double time = static_cast<double>(event.time_ns) / 1e9;
  switch (event.type) {
    case JobEventType::kBegin:
      member.running = event;
      member.device_time = Seconds(0);
      return;
    case JobEventType::kTook:
      member.device_time = Seconds(time);
      return;
    case JobEventType::kEnd: {
      if (!member.running) return;
      const JobEvent begun = *member.running;
      member.running.reset();
      const bool is_settled = begun.clock_mhz == member.last_mhz;
      member.last_mhz = begun.clock_mhz;
      if (!is_settled || begun.clock_mhz == 0) return;
      const double begin = static_cast<double>(begun.time_ns) / 1e9;
      const double took = member.device_time > Seconds(0) ? member.device_time.value() : time - begin;
      Times& times = times_[{begun.stage >= 0 ? begun.stage : stage, static_cast<InstructionKind>(begun.kind),
                             Megahertz(begun.clock_mhz)}];
      ++times.runs;
      times.sum += took;
      times.squares += took * took;
      return;
    }
    default:
      return;
  }
}

std::vector<Drift> DriftWatch::compare(const Profile& profile) const {
  std::vector<Drift> drifts;
  for (const auto& [key, times] : times_) {
    const auto& [stage, kind, clock] = key;
    if (times.runs < kFewestRuns || static_cast<std::size_t>(stage) >= profile.stages.size()) continue;
    const Measurement* const known =
        find_measurement(profile.stages[static_cast<std::size_t>(stage)], kind, clock);
    if (known == nullptr) continue;
    const auto runs = static_cast<double>(times.runs);
    const double mean = times.sum / runs;
    const double variance = std::max(0.0, times.squares / runs - mean * mean);
    const double error = std::hypot(std::sqrt(variance / runs), known->time_error.value());
    const double apart = std::abs(mean - known->time.value());
    if (apart < kLeastDrift * known->time.value() || apart < kSurely * error) continue;
    drifts.push_back({stage, kind, clock, known->time, Seconds(mean), times.runs});
  }
  std::ranges::stable_sort(drifts, std::ranges::greater(),
                           [](const Drift& d) { return std::abs(d.share()); });
  return drifts;
}

}  // namespace slackline
