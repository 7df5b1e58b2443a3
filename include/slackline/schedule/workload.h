#pragma once
#include <string>
#include <vector>

#include "slackline/curve/cost_curve.h"
#include "slackline/frontier/frontier.h"
#include "slackline/frontier/problem.h"
#include "slackline/pipeline/dag.h"
#include "slackline/profile/profile.h"

namespace slackline {

/// Time and energy of one iteration of one pipeline, all its GPUs.
struct Evaluation {
  Ticks time = 0;
  Joules energy;
};

/// A clock for every instruction, by its index in the DAG.
using Clocks = std::vector<Megahertz>;

/// One iteration of a profiled model: what runs, in which order, and what every clock of it costs.
class Workload {
 public:
  /// InputError if a stage lacks a blocking power or the order cannot be made.
  Workload(Profile profile, std::string order_name, std::int64_t microbatches);

  [[nodiscard]] const Profile& profile() const { return profile_; }
  [[nodiscard]] const std::string& order_name() const { return order_name_; }
  [[nodiscard]] int microbatches() const { return microbatches_; }
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
  /// What the clocks alone give. InputError for a clock that was not measured.
  [[nodiscard]] Evaluation evaluate(const Clocks& clocks) const;

 private:
  Profile profile_;
  std::string order_name_;
  int microbatches_;
  Dag dag_;
  std::vector<std::vector<CurveOption>>
      measured_;  // one a stage and kind, like curves_; dominated options too
  std::vector<CostCurve> curves_;
  std::vector<std::uint32_t> curve_of_;
  Watts blocking_power_;
};

}  // namespace slackline
