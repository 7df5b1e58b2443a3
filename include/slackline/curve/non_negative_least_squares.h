#pragma once
#include <cstddef>
#include <vector>

namespace slackline {

/// Coefficients that minimise |sum_c coefficient[c] * columns[c] - target|, of which all but the first `free`
/// ones must not be negative. An active-set method: C. L. Lawson, R. J. Hanson, "Solving Least Squares
/// Problems", 1974, chapter 23. Columns are as long as the target; there is at least one.
[[nodiscard]] std::vector<double> non_negative_least_squares(const std::vector<std::vector<double>>& columns,
                                                             const std::vector<double>& target,
                                                             std::size_t free = 0);

}  // namespace slackline
