#pragma once
#include <algorithm>
#include <utility>

#include "slackline/schedule/planner.h"

namespace slackline {

/// Of a plan that was made from figures that are not quite the truth.
struct PlanRegret {
  /// Energy over that of the plan made from the truth for the time really taken, or for the deadline if that
  /// is later; relative.
  double energy = 0;
  /// Time really taken over the deadline; relative, negative where it is kept.
  double overshoot = 0;
};

/// Judges plans by the truth.
class PlanJudge {
 public:
  PlanJudge(Profile truth, OrderSpec order)
      : truth_(std::move(truth), std::move(order)),
        frontier_(truth_.frontier(solve_parametric(truth_.problem()).breakpoints)) {}

  /// The fastest that is believed to be possible.
  [[nodiscard]] PlanRegret at_fastest(const Workload& believed) const {
    return at(believed, solve_parametric(believed.problem()).breakpoints.front().time);
  }
  /// `slowdown` times what all-max is believed to take.
  [[nodiscard]] PlanRegret at_slowdown(const Workload& believed, double slowdown) const {
    const Ticks all_max = believed.evaluate(believed.all_max()).time;
    return at(believed, static_cast<Ticks>(static_cast<double>(all_max) * slowdown));
  }

 private:
  static Plan plan(const Workload& workload, Ticks deadline) {
    PlanOptions options;
    options.plans = 1;
    options.deadline = to_seconds(deadline);
    return make_plans(workload, options).schedule.plans.front();
  }

  [[nodiscard]] PlanRegret at(const Workload& believed, Ticks deadline) const {
    const Evaluation real = truth_.evaluate(plan(believed, deadline).clocks);
    const Plan best = plan(truth_, std::max({real.time, deadline, frontier_.fastest()}));
    return {real.energy / best.energy - 1,
            static_cast<double>(real.time) / static_cast<double>(deadline) - 1};
  }

  Workload truth_;
  Frontier frontier_;
};

}  // namespace slackline
