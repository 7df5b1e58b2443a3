#pragma once
#include <string>
#include <vector>

#include "slackline/frontier/problem.h"

namespace slackline {

/// An optimal solution at one iteration time, with the proof that none is cheaper: the flow.
struct Optimum {
  /// Per event, from 0 at the source; the sink's is the iteration time.
  std::vector<Ticks> event_times;
  /// Per arc, the power that flows through it.
  std::vector<Microwatts> flow;

  /// Window of an instruction: what it may take.
  [[nodiscard]] Ticks window(std::uint32_t instruction) const {
    return event_times[2 * instruction + 1] - event_times[2 * instruction];
  }
};

/// Sum over the instructions of what they cost when each uses its whole window.
[[nodiscard]] Cost primal_cost(const Problem& problem, const Optimum& optimum);

/// The largest lower bound that the flow proves for iterations of `time`: by weak duality, no solution,
/// whatever its clocks, costs less. Valid at every time, tight at the optimum's own. Needs a flow that passes
/// check_certificate.
[[nodiscard]] Cost dual_bound(const Problem& problem, const std::vector<Microwatts>& flow, Ticks time);

/// Proves `optimum` from nothing but the problem: precedence holds and every window fits its instruction
/// (primal feasible); the flow is not negative and is conserved at every event (dual feasible); both
/// objectives are equal. Returns what is violated first, or an empty string. O(arcs + instructions *
/// vertices).
[[nodiscard]] std::string check_certificate(const Problem& problem, const Optimum& optimum);

}  // namespace slackline
