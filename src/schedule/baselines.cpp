#include "slackline/schedule/baselines.h"

#include <algorithm>
#include <set>

namespace slackline {
namespace {

/// Every instruction at its stage's clock, or the next higher one that was measured for its kind.
BaselinePoint at_stage_clocks(const Workload& workload, const std::vector<Megahertz>& clock_of_stage) {
  const Clocks highest = workload.all_max();
  Clocks clocks;
  for (InstructionIndex i = 0; i < workload.dag().size(); ++i) {
    const Instruction& instruction = workload.dag().instructions()[i];
    const StageProfile& stage = workload.profile().stages[instruction.stage.index()];
    const Megahertz wanted = clock_of_stage[instruction.stage.index()];
    ClockSetting chosen = highest[i];
    const Measurement* best = nullptr;
    for (const Measurement& m : stage.instructions.at(instruction.kind)) {
      if (m.clock < wanted) continue;
      // Of several labels at a clock people run the fastest.
      const bool is_nearer = best == nullptr || m.clock < best->clock;
      if (is_nearer || (m.clock == best->clock && m.time < best->time)) best = &m;
    }
    if (best != nullptr) chosen = {best->clock, best->config};
    clocks.push_back(chosen);
  }
  const Evaluation evaluation = workload.evaluate(clocks);
  return {std::move(clocks), evaluation};
}

const std::vector<Measurement>& forwards_of(const StageProfile& stage) {
  return stage.instructions.at(InstructionKind::kForward);
}

}  // namespace

std::vector<BaselinePoint> zeus_global(const Workload& workload) {
  const auto& stages = workload.profile().stages;
  std::set<Megahertz, std::greater<>> shared;
  for (const Measurement& m : forwards_of(stages.front())) shared.insert(m.clock);
  for (const StageProfile& stage : stages) {
    std::erase_if(shared, [&](Megahertz clock) {
      return find_measurement(stage, InstructionKind::kForward, clock) == nullptr;
    });
  }
  std::vector<BaselinePoint> points;
  for (const Megahertz clock : shared) {
    points.push_back(at_stage_clocks(workload, std::vector<Megahertz>(stages.size(), clock)));
  }
  return points;
}

std::vector<BaselinePoint> zeus_per_stage(const Workload& workload) {
  const auto& stages = workload.profile().stages;
  Seconds fastest_possible;
  std::set<Seconds> times;
  for (const StageProfile& stage : stages) {
    Seconds fastest = forwards_of(stage).front().time;
    for (const Measurement& m : forwards_of(stage)) {
      fastest = std::min(fastest, m.time);
      times.insert(m.time);
    }
    fastest_possible = std::max(fastest_possible, fastest);
  }
  std::vector<BaselinePoint> points;
  std::vector<Megahertz> last;
  for (auto time = times.lower_bound(fastest_possible); time != times.end(); ++time) {
    std::vector<Megahertz> clocks;
    for (const StageProfile& stage : stages) {
      Megahertz lowest = highest_clock(stage);
      for (const Measurement& m : forwards_of(stage)) {
        if (m.time <= *time) lowest = std::min(lowest, m.clock);
      }
      clocks.push_back(lowest);
    }
    if (clocks == last) continue;
    points.push_back(at_stage_clocks(workload, clocks));
    last = std::move(clocks);
  }
  return points;
}

const BaselinePoint* best_within(const std::vector<BaselinePoint>& points, Ticks deadline) {
  const BaselinePoint* best = nullptr;
  for (const BaselinePoint& point : points) {
    if (point.evaluation.time > deadline) continue;
    if (best == nullptr || point.evaluation.energy < best->evaluation.energy) best = &point;
  }
  return best;
}

}  // namespace slackline
