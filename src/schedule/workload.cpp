#include "slackline/schedule/workload.h"

#include <algorithm>
#include <cassert>
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
}

void check_length(const Dag& dag, const std::vector<std::vector<CurveOption>>& measured) {
  double total = 0;  // of everything one after the other at its slowest: no path is longer
  for (const Instruction& instruction : dag.instructions()) {
    Ticks slowest = 0;
    for (const CurveOption& option : measured[curve_index(instruction)])
      slowest = std::max(slowest, option.time);
    total += static_cast<double>(slowest);
  }
  if (total > static_cast<double>(kMaxTicks)) {
    throw InputError("", 0, "time",
                     "the iteration could take more than 26 days, which is beyond what can be planned");
  }
}

}  // namespace

Workload::Workload(Profile profile, std::string order_name, std::int64_t microbatches)
    : profile_(std::move(profile)),
      order_name_(std::move(order_name)),
      microbatches_(0),
      dag_(make_order(order_name_, static_cast<int>(profile_.stages.size()), microbatches)) {
  microbatches_ = static_cast<int>(microbatches);
  for (std::size_t s = 0; s < profile_.stages.size(); ++s) {
    const StageProfile& stage = profile_.stages[s];
    if (!stage.blocking_power) {
      throw InputError("", 0, "--blocking-power",
                       "the profile does not say what a waiting GPU of stage " + std::to_string(s) +
                           " draws; give it in watts");
    }
    if (*stage.blocking_power > kLargestPower) fail_beyond("blocking_power_w", s);
    blocking_power_ += *stage.blocking_power * stage.tensor_parallel;
    for (const InstructionKind kind : kInstructionKinds) {
      for (const Measurement& option : stage.instructions.at(kind)) check_range(option, s);
      measured_.push_back(
          effective_options(stage.instructions.at(kind), *stage.blocking_power, stage.tensor_parallel));
    }
  }
  check_length(dag_, measured_);
  for (const auto& options : measured_) curves_.push_back(make_cost_curve(options));
  for (const Instruction& instruction : dag_.instructions()) curve_of_.push_back(curve_index(instruction));
}

Joules Workload::cheapest_cost() const {
  Joules cost;
  for (const std::uint32_t c : curve_of_) cost += curves_[c].cheapest().cost;
  return cost;
}

Problem Workload::problem() const {
  std::vector<LinearCurve> linear;
  for (const CostCurve& curve : curves_) linear.push_back(linear_curve(curve));
  return {dag_, std::move(linear), curve_of_};
}

Frontier Workload::frontier(std::vector<Breakpoint> breakpoints) const {
  return {std::move(breakpoints), cheapest_cost(), blocking_power_};
}

Clocks Workload::all_max() const {
  Clocks clocks;
  for (const Instruction& instruction : dag_.instructions()) {
    clocks.push_back(highest_clock(profile_.stages[instruction.stage.index()]));
  }
  return clocks;
}

Evaluation Workload::evaluate(const Clocks& clocks) const {
  assert(clocks.size() == dag_.size());
  std::vector<Ticks> durations(dag_.size());
  Joules cost;
  for (InstructionIndex i = 0; i < dag_.size(); ++i) {
    const auto& options = measured_[curve_of_[i]];
    const auto option = std::find_if(options.begin(), options.end(),
                                     [&](const CurveOption& o) { return o.clock == clocks[i]; });
    if (option == options.end()) {
      throw InputError("", 0, "clock_mhz",
                       std::to_string(clocks[i].value()) + " MHz was not measured for " +
                           std::string(name_of(dag_.instructions()[i].kind)) + " of stage " +
                           std::to_string(dag_.instructions()[i].stage.value()));
    }
    durations[i] = option->time;
    cost += option->cost;
  }
  const Ticks makespan = event_times(dag_, durations).makespan;
  return {makespan, cost + blocking_power_ * to_seconds(makespan)};
}

}  // namespace slackline
