#pragma once
#include <cstdint>
#include <functional>
#include <vector>

#include "slackline/frontier/optimum.h"
#include "slackline/frontier/problem.h"

namespace slackline {

// The exact time-cost frontier by one parametric flow computation.
//
// Problem. For an iteration time T choose event times pi so that every precedence arc has pi_v - pi_u >= its
// lag, every instruction i a window y_i = pi_v - pi_u >= times[0], the sink minus the source at most T, and
// the sum of curve_i(y_i) is smallest. As T falls this sum is convex and piecewise linear; its breakpoints
// are the frontier.
//
// Idea. The dual variable of an arc is a flow f (microwatts). A pair (pi, f) is optimal when, on an
// instruction with vertices t_0..t_K and slopes s_1 >= ... >= s_K > 0 = s_{K+1},
//       y > t_K: f = 0      y = t_j: s_{j+1} <= f <= s_j      t_{j-1} < y < t_j: f = s_j      y = t_0: f >=
//       s_1
// and on a precedence arc of lag l   y > l: f = 0      y = l: f >= 0.
// Begin with f = 0 and every instruction at t_K, which is optimal for the longest path. Search from the
// source along arcs whose flow may rise (forwards) or fall (backwards) inside its interval.
//   - Sink reached: augment by the bottleneck. T stays, the price of time rises.
//   - Not reached: the events found form a cut whose arcs all sit at an end of their interval. Move every
//   event
//     beyond the cut earlier by the largest step that keeps the conditions: until an instruction that crosses
//     the cut reaches its next vertex or a precedence arc into it becomes tight. This is a breakpoint.
//   - Sink reached by a path without limit: no further speed-up exists; T is the smallest possible.
//
// Invariants. I1: pi is feasible. I2: f is conserved and inside its interval on every arc; hence (pi, f) is
// optimal at the current T. I3: the price of time (the flow's value) never falls. I4: events found stay found
// over a move, since arcs between two of them keep their length; the search goes on from where it was.
//
// Why it stops. Each augmentation saturates an arc, at most (arcs) times in a row before a move by
// breadth-first search; each move finds a new event or changes a vertex, and slopes only rise. Integers
// throughout: no epsilon. Time O(moves * arcs of the cut + augmentations * arcs); memory O(arcs).
//
// References. D. R. Fulkerson, "A network flow computation for project cost curves", Management Science 7
// (1961); J. E. Kelley, "Critical-path planning and scheduling", Operations Research 9 (1961); S. Phillips,
// M. I. Dessouky, "Solving the project time/cost tradeoff problem using the minimal cut concept", Management
// Science 24 (1977), whose unit-time form Perseus (SOSP 2024) uses. We take whole steps to the next
// breakpoint instead of unit steps, and piecewise-linear curves on measured points instead of a fitted
// exponential.

/// A corner of the frontier.
struct Breakpoint {
  Ticks time = 0;
  /// Effective cost above that of every instruction at its cheapest option.
  Cost cost = 0;
};

struct SolverStats {
  std::int64_t moves = 0;
  std::int64_t augmentations = 0;
};

struct ParametricResult {
  /// From the smallest possible time to the time from which everything runs at its cheapest. No three in a
  /// line.
  std::vector<Breakpoint> breakpoints;
  /// One for each target, in the order of the targets; a target beyond an end of the frontier gives that end.
  std::vector<Optimum> optima;
  SolverStats stats;
};

/// Called now and then with the part of the work that is done (0 to 1).
using ProgressObserver = std::function<void(double)>;

/// `targets`: times at which the optimum itself is wanted, in any order.
[[nodiscard]] ParametricResult solve_parametric(const Problem& problem,
                                                const std::vector<Ticks>& targets = {},
                                                const ProgressObserver& observer = {});

}  // namespace slackline
