#pragma once
#include <vector>

namespace slackline {

/// The convex piecewise linear function, with corners only at the given x, that is nearest to the points in
/// weighted least squares; its values at x. Exact (an active-set method for non-negative least squares: C. L.
/// Lawson, R. J. Hanson, "Solving Least Squares Problems", 1974, chapter 23). O(n^4) at worst for n points.
/// Equal x are allowed. Needs as many weights (above 0) and y as x.
[[nodiscard]] std::vector<double> convex_fit(const std::vector<double>& x, const std::vector<double>& y,
                                             const std::vector<double>& weights);

}  // namespace slackline
