#include "slackline/pipeline/event_times.h"

#include <algorithm>

namespace slackline {
namespace {

Ticks fill_earliest(const Dag& dag, const std::vector<Ticks>& durations, std::vector<Ticks>& earliest_start) {
  earliest_start.assign(dag.size(), 0);
  Ticks makespan = 0;
  for (const InstructionIndex i : dag.topological_order()) {
    const Ticks end = earliest_start[i] + durations[i];
    makespan = std::max(makespan, end);
    for (const auto& [next, lag] : dag.successors(i)) {
      earliest_start[next] = std::max(earliest_start[next], end + lag);
    }
  }
  return makespan;
}

void fill_latest(const Dag& dag, const std::vector<Ticks>& durations, Ticks limit,
                 std::vector<Ticks>& latest_end) {
  latest_end.assign(dag.size(), limit);
  const auto& order = dag.topological_order();
  for (auto i = order.rbegin(); i != order.rend(); ++i) {
    for (const auto& [next, lag] : dag.successors(*i)) {
      latest_end[*i] = std::min(latest_end[*i], latest_end[next] - durations[next] - lag);
    }
  }
}

}  // namespace

EventTimes event_times(const Dag& dag, const std::vector<Ticks>& durations, Ticks limit) {
  EventTimes times;
  times.makespan = fill_earliest(dag, durations, times.earliest_start);
  fill_latest(dag, durations, limit, times.latest_end);
  return times;
}

EventTimes event_times(const Dag& dag, const std::vector<Ticks>& durations) {
  EventTimes times;
  times.makespan = fill_earliest(dag, durations, times.earliest_start);
  fill_latest(dag, durations, times.makespan, times.latest_end);
  return times;
}

std::vector<InstructionIndex> critical_path(const Dag& dag, const std::vector<Ticks>& durations) {
  const EventTimes times = event_times(dag, durations);
  const auto is_critical = [&](InstructionIndex i) { return times.slack(i, durations[i]) == 0; };
  std::vector<InstructionIndex> path;
  // Every critical instruction but the last has a critical successor that starts when it and its lag end.
  for (const InstructionIndex i : dag.topological_order()) {
    if (!is_critical(i)) continue;
    const auto is_i = [&](const Dependency& next) {
      return next.instruction == i &&
             times.earliest_start[i] == times.earliest_start[path.back()] + durations[path.back()] + next.lag;
    };
    if (path.empty() ? times.earliest_start[i] == 0
                     : std::ranges::any_of(dag.successors(path.back()), is_i)) {
      path.push_back(i);
    }
  }
  return path;
}

}  // namespace slackline
