#pragma once
#include <compare>
#include <cstddef>
#include <map>
#include <optional>
#include <vector>

#include "slackline/base/instruction_kind.h"
#include "slackline/base/quantity.h"
#include "slackline/device/device.h"

namespace slackline {

/// A stretch of time.
struct Span {
  Seconds begin;
  Seconds end;

  [[nodiscard]] Seconds length() const { return end - begin; }
};

/// What a rank runs: a kind of instruction on one of its stages, its chunks, which count from 0.
struct Task {
  InstructionKind kind = InstructionKind::kForward;
  int chunk = 0;

  Task(InstructionKind of_kind = InstructionKind::kForward, int of_chunk = 0)
      : kind(of_kind), chunk(of_chunk) {}
  auto operator<=>(const Task&) const = default;
};

/// An instruction, run once.
struct Run {
  Task task;
  Span span;
  /// What the device's own events measured, where the framework gives that; else the span is the time.
  std::optional<Seconds> device_time;

  [[nodiscard]] Seconds time() const { return device_time.value_or(span.length()); }
};

/// All that was seen of one rank while its GPUs ran at one clock.
struct VisitRecord {
  /// In their order; they do not overlap.
  std::vector<Run> runs;
  /// When the rank was in a step: what it does not compute of that it waits (blocking). Outside of steps it
  /// does something else. In their order.
  std::vector<Span> steps;
  /// The energy counter of each GPU, in the order of time: one reading a refresh. Between two of them any
  /// refresh may be missing.
  std::vector<std::vector<EnergyReading>> counters;
  /// Not to be counted: the GPU was throttled, say. In any order, and they may overlap.
  std::vector<Span> left_out;
};

/// A mean and its standard error, which is 0 for something that does not vary.
struct Estimate {
  double value = 0;
  double error = 0;
};

/// One task, of one GPU of the rank.
struct KindEstimate {
  std::size_t runs = 0;
  Estimate time;          // seconds
  Estimate interpolated;  // joules a run
  Estimate regressed;     // joules a run; 0 where there is no answer
};

struct VisitEstimate {
  std::map<Task, KindEstimate> kinds;
  /// Power while waiting within a step, in watts; nothing if the stage did not wait for a whole refresh.
  std::optional<Estimate> interpolated_blocking;
  std::optional<Estimate> regressed_blocking;
  /// Time spent waiting within steps that counted.
  Seconds waited;
  /// Refreshes of the counter that counted, of the GPU that has fewest.
  std::size_t ticks = 0;
};

/// Time and energy of each kind, from the runs and the counters of a visit, the energy in two ways.
///
/// Problem. The counter refreshes every 20 to 100 ms, instructions last 5 to 1000 ms: a refresh interval n,
/// with the energy E_n, holds parts of several runs and waits: c_nk runs of kind k (fractions by time) and
/// d_n0 seconds of waiting, d_n1 of what is outside of steps. Wanted: e_k with sum_k e_k c_nk + p_0 d_n0 +
/// p_1 d_n1 ~ E_n.
///
/// Interpolation. The cumulative counter between two refreshes is interpolated, and the difference between a
/// run's begin and its end summed over all runs. A straight line would smear energy from the hungry to the
/// idle, by a sixth of a refresh period times their difference in power at every border, however many runs
/// there are. So the line bends where instructions begin and end, in proportion to the powers found so far:
/// E_n is shared out in proportion to power x time, powers are the sums of the shares over time, repeated
/// until they stand still. It is the EM iteration of L. B. Lucy (1974) and L. A. Shepp and Y. Vardi (1982)
/// for Poisson counts, here for energies, which need no distribution to make its fixed point unbiased.
///
/// Regression. Windows of several refreshes, about as long as a run, by non-negative least squares. Where all
/// windows hold the same mixture it has no answer (0).
///
/// What is too short to be told apart belongs to its neighbours: a gap below a hundredth of the run before it
/// to that run, waiting of less than a hundredth of the time to what is computed around it.
///
/// Errors. The delete-a-group jackknife (B. Efron 1982) for both: the runs are put into up to 20 groups, and
/// the estimate is made again without the time of each; how much it moves is its error, whatever the noise is
/// made of, and whatever its variance depends on.
///
/// Errors from few groups or runs are widened as Student's t is, so that 1.96 of them hold 95 %.
///
/// Runs and refreshes that touch a left out span do not count, nor do runs of over twice the median time, if
/// they are few. Energies are means over the GPUs.
[[nodiscard]] VisitEstimate estimate(const VisitRecord& record);

}  // namespace slackline
