#pragma once
#include <optional>
#include <vector>

#include "slackline/base/quantity.h"
#include "slackline/frontier/parametric_solver.h"

namespace slackline {

/// Iteration time against the least energy of one pipeline (all its GPUs, blocking until that time), exact
/// for the relaxed problem in which an instruction may run between two clocks: a lower bound for every choice
/// of clocks.
class Frontier {
 public:
  /// `cheapest_cost`: effective cost of all instructions at their cheapest. `blocking`: of all GPUs together.
  Frontier(std::vector<Breakpoint> breakpoints, Joules cheapest_cost, Watts blocking);

  [[nodiscard]] const std::vector<Breakpoint>& breakpoints() const { return breakpoints_; }
  [[nodiscard]] Ticks fastest() const { return breakpoints_.front().time; }
  /// T_max: every instruction at its cheapest effective cost. Slower never pays, straggler or not.
  [[nodiscard]] Ticks slowest() const { return breakpoints_.back().time; }
  /// T_E: where the energy itself is smallest. Slower pays only while waiting for a straggler.
  [[nodiscard]] Ticks least_energy_time() const;

  /// Least energy of an iteration that takes `time`. Below the fastest time: that of the fastest.
  [[nodiscard]] Joules energy(Ticks time) const;
  /// What it costs to have run at `run` and to wait until `until`, relative to the least energy there.
  [[nodiscard]] double holding_loss(Ticks run, Ticks until) const;
  /// Where the least energy over the time, the average power, is smallest.
  [[nodiscard]] Ticks least_power_time() const;
  /// The smallest time at which the average power is at most `power`, if there is one.
  [[nodiscard]] std::optional<Ticks> fastest_within(Watts power) const;

 private:
  std::vector<Breakpoint> breakpoints_;
  Joules cheapest_cost_;
  Watts blocking_;
};

}  // namespace slackline
