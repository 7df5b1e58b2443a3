#pragma once
#include <vector>

#include "slackline/frontier/parametric_solver.h"

namespace slackline {

/// The breakpoints of solve_parametric by the same method in its plain form: every augmentation searches the
/// whole network anew, breadth first, and every move of the cut looks at all arcs. The yardstick for what the
/// two trees are worth, and a second opinion on their answer. O(arcs) an augmentation and a move.
[[nodiscard]] std::vector<Breakpoint> plain_parametric(const Problem& problem);

}  // namespace slackline
