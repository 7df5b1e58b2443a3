#pragma once
#include <vector>

namespace slackline {

/// The convex piecewise linear function, with corners only at the given x, that is nearest to the points in
/// weighted least squares; its values at x. Exact (non_negative_least_squares). O(n^4) at worst for n points.
/// Equal x are allowed. Needs as many weights (above 0) and y as x.
[[nodiscard]] std::vector<double> convex_fit(const std::vector<double>& x, const std::vector<double>& y,
                                             const std::vector<double>& weights);

}  // namespace slackline
