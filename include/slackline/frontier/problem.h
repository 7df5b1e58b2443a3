#pragma once
#include <cstdint>
#include <vector>

#include "slackline/base/quantity.h"
#include "slackline/base/ticks.h"
#include "slackline/curve/cost_curve.h"
#include "slackline/pipeline/dag.h"

namespace slackline {

/// Power in whole microwatts: joules of effective cost saved for each second of slowing down.
using Microwatts = std::int64_t;
inline constexpr double kMicrowattsPerWatt = 1e6;

/// Effective cost in microwatts times ticks (1e-18 J). A pipeline of megawatts for hours overflows 64 bits.
__extension__ using Cost = __int128;
[[nodiscard]] inline Joules to_joules(Cost cost) {
  return Joules(static_cast<double>(cost) / kMicrowattsPerWatt / kTicksPerSecond);
}

/// A convex cost curve in integers. times[0] < ... < times[K]; slope(j) is the power between times[j-1] and
/// times[j], and slope(1) >= ... >= slope(K) > 0. Cost counts from 0 at times[K].
struct LinearCurve {
  std::vector<Ticks> times;
  std::vector<Microwatts> slopes;  // K of them: slopes[j-1] is slope(j)
  std::vector<Cost> costs;         // of the vertices

  [[nodiscard]] std::size_t last() const { return times.size() - 1; }
  /// Power between vertex j-1 and vertex j; beyond the last vertex 0.
  [[nodiscard]] Microwatts slope(std::size_t j) const { return j > last() ? 0 : slopes[j - 1]; }
  /// Cost of a duration of at least times[0].
  [[nodiscard]] Cost cost(Ticks duration) const;
};

/// Hull vertices of `curve`; slopes are rounded down to a microwatt, so that what is proven for it holds for
/// `curve`.
[[nodiscard]] LinearCurve linear_curve(const CostCurve& curve);

/// An arc of the event network: `head` happens no earlier than `tail` plus a duration: that of the
/// instruction, or, on a precedence arc, its lag.
struct Arc {
  std::uint32_t tail;
  std::uint32_t head;
  Ticks lag = 0;
};

/// The linear time-cost trade-off problem of one iteration, on events. Instruction i runs from event 2i to
/// event 2i+1; the source comes before all, the sink after all. Arcs 0..instructions-1 are the instructions,
/// the rest are precedence.
class Problem {
 public:
  /// `curves[curve_of[i]]` is the curve of instruction i of `dag`.
  Problem(const Dag& dag, std::vector<LinearCurve> curves, std::vector<std::uint32_t> curve_of);

  [[nodiscard]] std::uint32_t instructions() const { return static_cast<std::uint32_t>(curve_of_.size()); }
  [[nodiscard]] std::uint32_t events() const { return 2 * instructions() + 2; }
  [[nodiscard]] std::uint32_t source() const { return 2 * instructions(); }
  [[nodiscard]] std::uint32_t sink() const { return 2 * instructions() + 1; }
  [[nodiscard]] const std::vector<Arc>& arcs() const { return arcs_; }
  [[nodiscard]] bool is_instruction(std::uint32_t arc) const { return arc < instructions(); }
  [[nodiscard]] const LinearCurve& curve(std::uint32_t instruction) const {
    return curves_[curve_of_[instruction]];
  }
  /// Events so that every arc goes from an earlier one to a later one.
  [[nodiscard]] const std::vector<std::uint32_t>& event_order() const { return event_order_; }

 private:
  std::vector<LinearCurve> curves_;
  std::vector<std::uint32_t> curve_of_;
  std::vector<Arc> arcs_;
  std::vector<std::uint32_t> event_order_;
};

}  // namespace slackline
