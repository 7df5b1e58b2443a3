#pragma once
#include <vector>

#include "slackline/base/ids.h"
#include "slackline/base/quantity.h"
#include "slackline/base/ticks.h"
#include "slackline/profile/profile.h"

namespace slackline {

/// One way to run an instruction on all GPUs of its stage.
struct CurveOption {
  ClockSetting clock;
  Ticks time = 0;
  /// Of all GPUs of the stage.
  Joules energy;
  /// Effective cost g (e - p t): the energy above what the stage would draw waiting for as long.
  Joules cost;
  /// Standard error of the time; 0 where it is not known.
  Ticks time_error = 0;
};

/// The time-cost trade-off of an instruction: every option that no other beats in both time and cost, fastest
/// (and dearest) first, and which of them are vertices of the lower convex hull. The fastest option is the
/// one with the smallest time, which on a power-capped GPU need not be the highest clock.
struct CostCurve {
  std::vector<CurveOption> options;
  /// Indices into `options`, rising; holds the fastest and the cheapest.
  std::vector<std::size_t> hull;

  [[nodiscard]] const CurveOption& fastest() const { return options.front(); }
  [[nodiscard]] const CurveOption& cheapest() const { return options.back(); }
  /// Index of the cheapest option that ends within `limit`: the slowest, since cost falls as time grows.
  /// `limit` below the fastest option gives the fastest (0).
  [[nodiscard]] std::size_t slowest_within(Ticks limit) const;
  /// Index of the option that runs with `clock`, or options.size().
  [[nodiscard]] std::size_t find(ClockSetting clock) const;
};

/// What each measurement costs a stage of `gpus` GPUs that draw `blocking_power` each while they wait, in the
/// order given. Smoothing of noisy measurements belongs between this step and the next.
[[nodiscard]] std::vector<CurveOption> effective_options(const std::vector<Measurement>& measurements,
                                                         Watts blocking_power, int gpus);

/// Pareto filter, then lower convex hull by a monotone chain. O(n log n); needs at least one option.
[[nodiscard]] CostCurve make_cost_curve(std::vector<CurveOption> options);

}  // namespace slackline
