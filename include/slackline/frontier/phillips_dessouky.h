#pragma once
#include <functional>
#include <vector>

#include "slackline/frontier/parametric_solver.h"
#include "slackline/frontier/problem.h"

namespace slackline {

// The time-cost frontier in equal steps of time: the algorithm that Perseus runs. Here as the published
// baseline and as a second opinion on solve_parametric, which is exact between the steps too, and faster.
//
// Problem. That of solve_parametric, with time in whole steps: every curve has a vertex at each step from its
// fastest duration to its slowest, and every lag is a whole number of steps.
//
// Idea. Begin with every instruction at its slowest. The arcs that cannot be longer without the iteration
// ending later are critical. To end one step sooner, every critical path must become a step shorter: the
// instructions that cross a cut between source and sink forwards go a step faster, and those that cross it
// backwards a step slower, since they lie between two that go faster. The cheapest such cut is a minimum cut
// where an instruction's capacity is what a step faster costs (unlimited at its fastest), its lower bound
// what a step slower saves (0 at its slowest), and precedence is unlimited. Of all minimum cuts the one
// nearest the source is taken, so that the answer does not depend on how the flow was found. Repeat until the
// iteration is as short as with every instruction at its fastest.
//
// Invariants. I1: the makespan falls by exactly one step each round. I2: the flow stays feasible from one
// round to the next: an arc that crossed the cut forwards carried what a step faster cost, which is what
// going back would save now; one that crossed it backwards carried its lower bound, which is its capacity
// now. I3: hence instructions off the critical paths are at their slowest: they left with a flow of 0.
//
// Why it stops. I1, and a finite cut exists until all instructions of some critical path are at their
// fastest. Because of I2 each round only augments what the last one left, where the published program solves
// two flows from nothing. Time O(steps * (arcs + augmentations * arcs)).
//
// References. S. Phillips, M. I. Dessouky, "Solving the project time/cost tradeoff problem using the minimal
// cut concept", Management Science 24 (1977); J.-W. Chung et al., "Reducing energy bloat in large model
// training" (SOSP 2024). Y. Boykov, V. Kolmogorov, IEEE PAMI 26 (2004) for the flow, by Boost.Graph. We
// depart from Perseus in integer capacities (its floating point needs tolerances) and in letting an
// instruction at its slowest cross backwards, where Perseus gives up.

/// Called with each makespan, the slowest first, and how long every instruction takes then.
using StepVisitor = std::function<void(Ticks makespan, const std::vector<Ticks>& durations)>;

/// Curves and lags of `problem` as above.
void phillips_dessouky(const Problem& problem, const StepVisitor& visit,
                       const ProgressObserver& observer = {});

}  // namespace slackline
