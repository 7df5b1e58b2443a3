#pragma once
#include <string>
#include <vector>

#include "slackline/curve/cost_curve.h"
#include "slackline/frontier/frontier.h"
#include "slackline/frontier/problem.h"
#include "slackline/pipeline/dag.h"
#include "slackline/pipeline/order_kinds.h"
#include "slackline/profile/profile.h"

namespace slackline {

/// Time and energy of one iteration of one pipeline, all its GPUs.
struct Evaluation {
  Ticks time = 0;
  Joules energy;
  /// The time if every instruction takes longer by its standard error; `time` where none is known.
  Ticks late_time = 0;
};

/// A clock for every instruction, by its index in the DAG; 0 MHz for fixed-time ones.
using Clocks = std::vector<ClockSetting>;

/// For each stage the kinds that shape the order where it has them: fixed-time ones, overlapped pairs.
[[nodiscard]] StageKinds special_kinds_of(const Profile& profile);

/// One iteration of a profiled model: what runs, in which order, and what every clock of it costs.
class Workload {
 public:
  /// InputError if the order cannot be made of the profile's stages, if a stage lacks a kind that it needs or
  /// a blocking power, or if stages on one rank differ in what its GPUs are.
  Workload(Profile profile, OrderSpec order);

  [[nodiscard]] const Profile& profile() const { return profile_; }
  [[nodiscard]] const OrderSpec& order() const { return order_; }
  /// Kinds that each stage has and that shape the order: see with_kinds.
  [[nodiscard]] const StageKinds& special_kinds() const { return special_kinds_; }
  [[nodiscard]] const Dag& dag() const { return dag_; }
  [[nodiscard]] const CostCurve& curve(InstructionIndex i) const { return curves_[curve_of_[i]]; }

  /// Draw of all GPUs of the pipeline while they wait.
  [[nodiscard]] Watts blocking_power() const { return blocking_power_; }
  /// Effective cost of an iteration whose instructions all run at their cheapest.
  [[nodiscard]] Joules cheapest_cost() const;
  [[nodiscard]] Problem problem() const;
  [[nodiscard]] Frontier frontier(std::vector<Breakpoint> breakpoints) const;

  /// Every instruction at its stage's highest clock: what people run today.
  [[nodiscard]] Clocks all_max() const;
  /// What the clocks alone give. InputError for a clock that was not measured, or if there is not one for
  /// each instruction.
  [[nodiscard]] Evaluation evaluate(const Clocks& clocks) const;

 private:
  Profile profile_;
  OrderSpec order_;
  StageKinds special_kinds_;
  Dag dag_;
  /// One a stage and kind, like curves_; dominated options too.
  std::vector<std::vector<CurveOption>> measured_;
  std::vector<CostCurve> curves_;
  std::vector<std::uint32_t> curve_of_;
  Watts blocking_power_;
};

}  // namespace slackline
