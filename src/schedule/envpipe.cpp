#include "slackline/schedule/envpipe.h"

#include <algorithm>
#include <map>
#include <tuple>
#include <utility>

#include "slackline/pipeline/event_times.h"

namespace slackline {
namespace {

struct Rung {
  ClockSetting clock;
  Ticks time = 0;
};

/// The clocks of a stage and kind, lowest first; of labels on one clock only the fastest.
struct Ladder {
  std::vector<Rung> rungs;
  /// The rung of least energy.
  std::size_t thriftiest = 0;

  explicit Ladder(std::vector<Measurement> measurements) {
    std::ranges::sort(measurements, {}, [](const Measurement& m) { return std::tie(m.clock, m.time); });
    const auto same_clock = [](const Measurement& a, const Measurement& b) { return a.clock == b.clock; };
    measurements.erase(std::unique(measurements.begin(), measurements.end(), same_clock), measurements.end());
    for (const Measurement& m : measurements) rungs.push_back({{m.clock, m.config}, to_ticks(m.time)});
    const auto least = std::ranges::min_element(measurements, {}, &Measurement::energy);
    thriftiest = static_cast<std::size_t>(least - measurements.begin());
  }
};

/// Which rung of its ladder every instruction stands on.
class Assignment {
 public:
  explicit Assignment(const Workload& workload) {
    std::map<std::pair<StageId, InstructionKind>, std::size_t> index;
    for (const Instruction& i : workload.dag().instructions()) {
      const auto [known, is_new] = index.try_emplace({i.stage, i.kind}, ladders_.size());
      if (is_new) {
        const StageProfile& stage = workload.profile().stages[i.stage.index()];
        ladders_.emplace_back(stage.instructions.at(i.kind));
      }
      ladder_of_.push_back(known->second);
      rung_of_.push_back(ladders_[known->second].thriftiest);
      durations_.push_back(rung(rung_of_.size() - 1).time);
    }
  }

  [[nodiscard]] const std::vector<Ticks>& durations() const { return durations_; }
  [[nodiscard]] Megahertz clock(std::size_t i) const { return rung(i).clock.mhz; }
  [[nodiscard]] bool is_highest(std::size_t i) const { return rung_of_[i] + 1 == ladder(i).rungs.size(); }
  void raise(std::size_t i) { stand_on(i, rung_of_[i] + 1); }
  void raise_to_highest(std::size_t i) { stand_on(i, ladder(i).rungs.size() - 1); }

  [[nodiscard]] Clocks clocks() const {
    Clocks clocks;
    for (std::size_t i = 0; i < rung_of_.size(); ++i) clocks.push_back(rung(i).clock);
    return clocks;
  }

 private:
  [[nodiscard]] const Ladder& ladder(std::size_t i) const { return ladders_[ladder_of_[i]]; }
  [[nodiscard]] const Rung& rung(std::size_t i) const { return ladder(i).rungs[rung_of_[i]]; }
  void stand_on(std::size_t i, std::size_t rung_number) {
    rung_of_[i] = rung_number;
    durations_[i] = rung(i).time;
  }

  std::vector<Ladder> ladders_;
  std::vector<std::size_t> ladder_of_;
  std::vector<std::size_t> rung_of_;
  std::vector<Ticks> durations_;
};

/// The last stage, and the first and last instruction of every other.
std::vector<bool> outer_envelope(const Dag& dag) {
  std::vector<bool> is_outer(dag.size(), false);
  std::map<StageId, std::pair<InstructionIndex, InstructionIndex>> ends;
  for (InstructionIndex i = 0; i < dag.size(); ++i) {
    const Instruction& instruction = dag.instructions()[i];
    if (is_fixed_time(instruction.kind)) continue;
    if (instruction.stage.value() == dag.stages() - 1) is_outer[i] = true;
    ends.try_emplace(instruction.stage, i, i).first->second.second = i;
  }
  for (const auto& [stage, first_and_last] : ends) {
    is_outer[first_and_last.first] = true;
    is_outer[first_and_last.second] = true;
  }
  return is_outer;
}

/// Of the instructions on `path` that can go faster, those with the lowest clock go one higher. False if
/// there are none.
bool raise_lowest(Assignment& assignment, std::vector<InstructionIndex> path) {
  std::erase_if(path, [&](InstructionIndex i) { return assignment.is_highest(i); });
  if (path.empty()) return false;
  const auto clock = [&](InstructionIndex i) { return assignment.clock(i); };
  const Megahertz lowest = clock(*std::ranges::min_element(path, {}, clock));
  for (const InstructionIndex i : path) {
    if (clock(i) == lowest) assignment.raise(i);
  }
  return true;
}

}  // namespace

EnvPipePlan envpipe(const Workload& workload) {
  const Dag& dag = workload.dag();
  Assignment assignment(workload);
  const std::vector<bool> is_outer = outer_envelope(dag);
  for (std::size_t i = 0; i < is_outer.size(); ++i) {
    if (is_outer[i]) assignment.raise_to_highest(i);
  }
  EnvPipePlan plan;
  while (raise_lowest(assignment, critical_path(dag, assignment.durations()))) {
  }
  plan.clocks = assignment.clocks();
  plan.evaluation = workload.evaluate(plan.clocks);
  return plan;
}

}  // namespace slackline
