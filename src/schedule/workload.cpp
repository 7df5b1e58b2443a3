#include "slackline/schedule/workload.h"

#include <algorithm>
#include <utility>

#include "slackline/base/error.h"
#include "slackline/pipeline/event_times.h"

namespace slackline {
namespace {

std::uint32_t curve_index(const Instruction& instruction) {
  return static_cast<std::uint32_t>(instruction.stage.index() * kInstructionKinds.size() +
                                    static_cast<std::size_t>(instruction.kind));
}

/// Beyond any GPU; larger numbers would swallow the others in sums.
constexpr Joules kLargestEnergy(1e12);
constexpr Watts kLargestPower(1e9);

[[noreturn]] void fail_beyond(const char* key, std::size_t stage) {
  throw InputError("", 0, key, "stage " + std::to_string(stage) + " is beyond what can be planned");
}

void check_range(const Measurement& measurement, std::size_t stage) {
  const double ticks = measurement.time.value() * kTicksPerSecond;
  if (ticks < 1) {
    throw InputError("", 0, "time_s",
                     "a time of stage " + std::to_string(stage) + " is below one picosecond");
  }
  if (ticks > static_cast<double>(kMaxTicks)) fail_beyond("time_s", stage);
  if (measurement.energy > kLargestEnergy) fail_beyond("energy_j", stage);
  if (measurement.time_error > measurement.time) {
    throw InputError("", 0, "time_error_s",
                     "a standard error of stage " + std::to_string(stage) + " is larger than its time");
  }
}

void check_length(const Dag& dag, const std::vector<std::vector<CurveOption>>& measured) {
  double total = 0;  // of everything one after the other at its slowest: no path is longer
  for (const Instruction& instruction : dag.instructions()) {
    Ticks slowest = 0;
    for (const CurveOption& option : measured[curve_index(instruction)]) {
      slowest = std::max(slowest, option.time + option.time_error);
    }
    total += static_cast<double>(slowest);
  }
  for (InstructionIndex i = 0; i < dag.size(); ++i) {
    for (const Dependency& next : dag.successors(i)) total += static_cast<double>(next.lag);
  }
  if (total > static_cast<double>(kMaxTicks)) {
    throw InputError("", 0, "time",
                     "the iteration could take more than 26 days, which is beyond what can be planned");
  }
}

Dag make_dag(const Profile& profile, const OrderSpec& spec, const StageKinds& kinds) {
  const auto stages = static_cast<int>(profile.stages.size());
  std::vector<Ticks> transfer;
  for (const StageProfile& stage : profile.stages) {
    const double ticks = stage.transfer.value() * kTicksPerSecond;
    if (ticks > static_cast<double>(kMaxTicks)) fail_beyond("transfer_s", transfer.size());
    transfer.push_back(to_ticks(stage.transfer));
  }
  const Order order = make_order(spec, stages);
  const auto needed = static_cast<std::size_t>(stage_count(order));
  if (needed != profile.stages.size()) {
    throw InputError(
        "", 0, "--order",
        "the order is for " + std::to_string(needed) + " stages, the profile has " + std::to_string(stages));
  }
  return Dag(with_kinds(order, kinds), transfer);
}

std::string way_to_derive(const StageProfile& stage, InstructionKind kind) {
  const auto has = [&](InstructionKind made_from) { return stage.instructions.contains(made_from); };
  const bool has_halves = has(InstructionKind::kBackwardInput) && has(InstructionKind::kBackwardWeight);
  if (kind == InstructionKind::kBackward ? !has_halves : !has(InstructionKind::kBackward)) return "";
  switch (kind) {
    case InstructionKind::kBackwardInput:
    case InstructionKind::kBackwardWeight:
      return "; --derive split-backward=0.5 makes it of 'backward'";
    case InstructionKind::kBackward:
      return "; --derive backward makes it of 'backward-input' and 'backward-weight'";
    case InstructionKind::kRecompute:
    case InstructionKind::kForwardBackward:
      return "; --derive recompute makes it of 'forward' and 'backward'";
    default:
      return "";
  }
}

void check_kinds(const Dag& dag, const Profile& profile, const OrderSpec& spec) {
  for (const Instruction& i : dag.instructions()) {
    if (profile.stages[i.stage.index()].instructions.contains(i.kind)) continue;
    const StageProfile& stage = profile.stages[i.stage.index()];
    throw InputError("", 0, "--order",
                     spec.name + " runs '" + std::string(name_of(i.kind)) +
                         "', which the profile lacks for stage " + std::to_string(i.stage.value()) +
                         way_to_derive(stage, i.kind));
  }
}

/// A stage of the rank; all of them sit on the same GPUs and have to agree about them.
std::size_t stage_of_rank(const Dag& dag, const Profile& profile, int rank) {
  const std::size_t first = dag.instructions()[dag.rank_begin(rank)].stage.index();
  for (InstructionIndex i = dag.rank_begin(rank); i < dag.rank_begin(rank + 1); ++i) {
    const std::size_t other = dag.instructions()[i].stage.index();
    const StageProfile& a = profile.stages[first];
    const StageProfile& b = profile.stages[other];
    const char* key = a.tensor_parallel != b.tensor_parallel ? "tensor_parallel"
                      : a.blocking_power != b.blocking_power ? "blocking_power_w"
                      : a.gpu != b.gpu                       ? "gpu"
                                                             : nullptr;
    if (key == nullptr) continue;
    throw InputError("", 0, key,
                     "stages " + std::to_string(first) + " and " + std::to_string(other) +
                         " run on the same GPUs (rank " + std::to_string(rank) + ") but differ in it");
  }
  return first;
}

}  // namespace

StageKinds special_kinds_of(const Profile& profile) {
  StageKinds kinds;
  for (const StageProfile& stage : profile.stages) {
    kinds.emplace_back();
    for (const auto& [kind, options] : stage.instructions) {
      if (is_fixed_time(kind) || kind == InstructionKind::kOverlapped) kinds.back().insert(kind);
    }
  }
  return kinds;
}

Workload::Workload(Profile profile, OrderSpec order)
    : profile_(std::move(profile)),
      order_(std::move(order)),
      special_kinds_(special_kinds_of(profile_)),
      dag_(make_dag(profile_, order_, special_kinds_)) {
  check_kinds(dag_, profile_, order_);
  for (std::size_t s = 0; s < profile_.stages.size(); ++s) {
    const StageProfile& stage = profile_.stages[s];
    if (!stage.blocking_power) {
      throw InputError("", 0, "--blocking-power",
                       "the profile does not say what a waiting GPU of stage " + std::to_string(s) +
                           " draws; give it in watts");
    }
    if (*stage.blocking_power > kLargestPower) fail_beyond("blocking_power_w", s);
    for (const InstructionKind kind : kInstructionKinds) {
      measured_.emplace_back();
      const auto measured = stage.instructions.find(kind);
      if (measured == stage.instructions.end()) continue;
      for (const Measurement& option : measured->second) check_range(option, s);
      measured_.back() = effective_options(measured->second, *stage.blocking_power, stage.tensor_parallel);
    }
  }
  check_length(dag_, measured_);
  for (const auto& options : measured_) {
    curves_.push_back(options.empty() ? CostCurve{} : make_cost_curve(options));
  }
  for (const Instruction& instruction : dag_.instructions()) curve_of_.push_back(curve_index(instruction));
  for (int rank = 0; rank < dag_.ranks(); ++rank) {
    const StageProfile& stage = profile_.stages[stage_of_rank(dag_, profile_, rank)];
    blocking_power_ += *stage.blocking_power * stage.tensor_parallel;
  }
}

Joules Workload::cheapest_cost() const {
  Joules cost;
  for (const std::uint32_t c : curve_of_) cost += curves_[c].cheapest().cost;
  return cost;
}

Problem Workload::problem() const {
  std::vector<LinearCurve> linear;
  for (const CostCurve& curve : curves_) {
    linear.push_back(curve.options.empty() ? LinearCurve{} : linear_curve(curve));
  }
  return {dag_, std::move(linear), curve_of_};
}

Frontier Workload::frontier(std::vector<Breakpoint> breakpoints) const {
  return {std::move(breakpoints), cheapest_cost(), blocking_power_};
}

Clocks Workload::all_max() const {
  std::vector<ClockSetting> highest(measured_.size());
  for (std::size_t c = 0; c < measured_.size(); ++c) {
    // With labels there are several options at the highest clock: people run the fastest.
    const auto slower = [](const CurveOption& a, const CurveOption& b) {
      return a.clock.mhz != b.clock.mhz ? a.clock.mhz < b.clock.mhz : a.time > b.time;
    };
    const auto option = std::max_element(measured_[c].begin(), measured_[c].end(), slower);
    if (option != measured_[c].end()) highest[c] = option->clock;
  }
  Clocks clocks;
  for (const std::uint32_t c : curve_of_) clocks.push_back(highest[c]);
  return clocks;
}

Evaluation Workload::evaluate(const Clocks& clocks) const {
  if (clocks.size() != dag_.size()) {
    throw InputError("", 0, "clocks",
                     "there are " + std::to_string(clocks.size()) + " for " + std::to_string(dag_.size()) +
                         " instructions");
  }
  std::vector<Ticks> durations(dag_.size());
  std::vector<Ticks> late_durations(dag_.size());
  Joules cost;
  for (InstructionIndex i = 0; i < dag_.size(); ++i) {
    const auto& options = measured_[curve_of_[i]];
    const auto option = std::find_if(options.begin(), options.end(),
                                     [&](const CurveOption& o) { return o.clock == clocks[i]; });
    if (option == options.end()) {
      throw InputError("", 0, "clock_mhz",
                       std::to_string(clocks[i].mhz.value()) + " MHz was not measured for " +
                           std::string(name_of(dag_.instructions()[i].kind)) + " of stage " +
                           std::to_string(dag_.instructions()[i].stage.value()));
    }
    durations[i] = option->time;
    late_durations[i] = option->time + option->time_error;
    cost += option->cost;
  }
  const Ticks makespan = event_times(dag_, durations).makespan;
  const Ticks late = late_durations == durations ? makespan : event_times(dag_, late_durations).makespan;
  return {makespan, cost + blocking_power_ * to_seconds(makespan), late};
}

}  // namespace slackline
