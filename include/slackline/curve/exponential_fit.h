#pragma once
#include <vector>

namespace slackline {

/// A falling convex curve y = floor + rise * exp(-decay * (x - origin)), with rise and decay not negative. It
/// is the a * exp(b * x) + c of Perseus, anchored at the smallest x so that no factor overflows.
struct ExponentialFit {
  double origin = 0;
  double rise = 0;
  double decay = 0;
  double floor = 0;
  /// Root of the mean squared residual.
  double residual = 0;

  [[nodiscard]] double operator()(double x) const;
};

/// The least-squares fit, by variable projection: for a given decay the best rise and floor are a linear
/// problem, so that only the decay is searched, first over a grid, then by golden section. Needs no initial
/// guess (Perseus tries 54) and finds the same parameters. Of curves that fit equally well the straightest is
/// taken. One point, or points that do not fall, give a constant. Points with equal x are welcome; at least
/// one point.
[[nodiscard]] ExponentialFit fit_exponential(const std::vector<double>& x, const std::vector<double>& y);

}  // namespace slackline
