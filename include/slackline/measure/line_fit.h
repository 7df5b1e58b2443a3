#pragma once
#include <vector>

namespace slackline {

/// A straight line through points by least squares.
struct LineFit {
  double slope = 0;
  /// Of the slope, from the residuals; 0 for two points.
  double standard_error = 0;
};

/// Needs two points with different x.
[[nodiscard]] LineFit fit_line(const std::vector<double>& x, const std::vector<double>& y);

}  // namespace slackline
