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
// Begin with f = 0 and every instruction at t_K, which is optimal for the longest path. An arc is open in the
// direction in which its flow may change inside its interval; by how much is its room. Ask whether an open
// path leads from the source to the sink.
//   - It does: augment by its bottleneck. T stays, the price of time rises.
//   - It does not: the events that can be reached form a cut whose arcs all sit at an end of their interval.
//     Move every event beyond the cut earlier by the largest step that keeps the conditions: until an
//     instruction that crosses the cut reaches its next vertex or a precedence arc into it becomes tight.
//     This is a breakpoint.
//   - It does, without limit: no further speed-up exists; T is the smallest possible.
//
// How we ask. Searching anew each time costs as much as all the rest, and so does mending a search tree: the
// cut leaps between the two ends of the pipeline, so that most of the events change sides again and again.
// Instead every event is always in one of two trees, that of the source and that of the sink, and an open arc
// from the first to the second is looked for only among arcs that have just come to cross. If the way on
// from its end up to the sink is open, all of it is augmented, and the first arc of the whole path that is
// full falls out of its tree. If not, the first full one on that way falls out. In both cases the subtree
// beyond, however large, is hung as it is onto the other tree by the open arc; two_trees.h tells how that
// costs no more than the smaller part. When no open arc crosses, the source's tree is what can be reached.
//
// Invariants. I1: pi is feasible. I2: f is conserved and inside its interval on every arc; hence (pi, f) is
// optimal at the current T. I3: the price of time (the flow's value) never falls. I4: the arc between an
// event and its parent has room from the parent to the event, in both trees. Hence what is in the source's
// tree can be reached, and a subtree that is hung elsewhere keeps I4: only the path from its joint to its old
// root is turned round, and the flow has just passed that path, or it is open in the direction now needed.
//
// Why it stops. A move lowers T by at least a tick, an augmentation raises the price by at least a microwatt,
// and the price at any T but the smallest is bounded by the slopes. A transfer without augmentation takes
// events from the sink's tree, so that there are at most (events) of them in a row. Integers throughout: no
// epsilon. A move costs O(arcs of the cut), an augmentation its path, a transfer its path and the smaller
// part; memory O(arcs). Measured, these grow far slower than moves * events.
//
// References. D. R. Fulkerson, "A network flow computation for project cost curves", Management Science 7
// (1961); J. E. Kelley, "Critical-path planning and scheduling", Operations Research 9 (1961); S. Phillips,
// M. I. Dessouky, "Solving the project time/cost tradeoff problem using the minimal cut concept", Management
// Science 24 (1977), whose unit-time form Perseus (SOSP 2024) uses. We take whole steps to the next
// breakpoint instead of unit steps, and piecewise-linear curves on measured points instead of a fitted
// exponential. The trees and the choice of the arc that falls out, which is what keeps I4, are those of the
// network simplex method for maximum flow: W. H. Cunningham, "A network simplex method", Mathematical
// Programming 11 (1976); A. V. Goldberg, M. D. Grigoriadis, R. E. Tarjan, "Use of dynamic trees in a network
// simplex algorithm for the maximum flow problem", Mathematical Programming 50 (1991). The labels are ours.

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
