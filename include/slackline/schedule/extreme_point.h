#pragma once
#include "slackline/frontier/optimum.h"

namespace slackline {

/// Optimal solutions at one time form a face: all event times that meet the difference constraints which the
/// flow leaves (complementary slackness). The solver stops somewhere inside; few windows end on a clock
/// there. These are two of its extreme points, where every event hangs on a chain of tight constraints and
/// most windows do. By Dijkstra on the slacks of the constraints; O(arcs log events).
[[nodiscard]] Optimum earliest_point(const Problem& problem, const Optimum& optimum);
[[nodiscard]] Optimum latest_point(const Problem& problem, const Optimum& optimum);

}  // namespace slackline
