#include "slackline/curve/convex_fit.h"

#include <algorithm>
#include <cassert>

#include "slackline/curve/non_negative_least_squares.h"

namespace slackline {

std::vector<double> convex_fit(const std::vector<double>& x, const std::vector<double>& y,
                               const std::vector<double>& weights) {
  assert(x.size() == y.size() && x.size() == weights.size());
  std::vector<double> corners = x;
  std::sort(corners.begin(), corners.end());
  corners.erase(std::unique(corners.begin(), corners.end()), corners.end());
  if (corners.size() < 3) return y;
  const double low = corners.front();
  const double span = corners.back() - low;
  // A line, and a hinge that bends it upwards at each inner corner.
  std::vector<std::vector<double>> shape(corners.size(), std::vector<double>(x.size()));
  std::vector<std::vector<double>> weighted = shape;
  std::vector<double> target(x.size());
  for (std::size_t r = 0; r < x.size(); ++r) {
    const double at = (x[r] - low) / span;
    shape[0][r] = 1;
    shape[1][r] = at;
    for (std::size_t h = 2; h < shape.size(); ++h) {
      shape[h][r] = std::max(0.0, at - (corners[h - 1] - low) / span);
    }
    for (std::size_t c = 0; c < shape.size(); ++c) weighted[c][r] = weights[r] * shape[c][r];
    target[r] = weights[r] * y[r];
  }
  const std::vector<double> coefficients = non_negative_least_squares(weighted, target, 2);
  std::vector<double> fitted(x.size());
  for (std::size_t c = 0; c < shape.size(); ++c) {
    for (std::size_t r = 0; r < x.size(); ++r) fitted[r] += coefficients[c] * shape[c][r];
  }
  return fitted;
}

}  // namespace slackline
