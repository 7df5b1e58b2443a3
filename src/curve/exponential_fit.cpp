#include "slackline/curve/exponential_fit.h"

#include <Eigen/Dense>
#include <algorithm>
#include <cassert>
#include <cmath>

namespace slackline {
namespace {

/// Decay is searched as a multiple of 1 / (range of x): from a straight line, for all that doubles can tell,
/// to a curve that has fallen to its floor by the second of a hundred points.
constexpr double kStraightest = 1e-3;
constexpr double kSteepest = 500;
constexpr int kGridPoints = 200;
/// Width of the bracket in ln(decay) at which golden section stops: below the root of a double's precision
/// the residual no longer tells two decays apart.
constexpr double kTolerance = 1e-9;

using Points = Eigen::Map<const Eigen::VectorXd>;

/// The best curve with a given decay.
ExponentialFit project(const Points& x, const Points& y, double decay) {
  ExponentialFit fit;
  fit.origin = x.minCoeff();
  fit.decay = decay;
  // Centred, the least-squares problem in (rise, floor) is one division, also where the curve is nearly
  // straight.
  const Eigen::ArrayXd shape = (-decay * (x.array() - fit.origin)).exp();
  const Eigen::ArrayXd centred = shape - shape.mean();
  const double spread = centred.square().sum();
  fit.rise = spread > 0 ? std::max(0.0, (centred * y.array()).sum() / spread) : 0.0;
  fit.floor = y.mean() - fit.rise * shape.mean();
  fit.residual = std::sqrt((y.array() - fit.floor - fit.rise * shape).square().mean());
  return fit;
}

/// The minimum in a bracket of ln(decay) by golden section.
ExponentialFit refine(const Points& x, const Points& y, double low, double high) {
  static const double kGolden = (std::sqrt(5.0) - 1) / 2;
  const auto at = [&](double log_decay) { return project(x, y, std::exp(log_decay)); };
  double left = high - kGolden * (high - low);
  double right = low + kGolden * (high - low);
  ExponentialFit at_left = at(left);
  ExponentialFit at_right = at(right);
  while (high - low > kTolerance) {
    if (at_left.residual <= at_right.residual) {
      high = right;
      right = left;
      at_right = at_left;
      left = high - kGolden * (high - low);
      at_left = at(left);
    } else {
      low = left;
      left = right;
      at_left = at_right;
      right = low + kGolden * (high - low);
      at_right = at(right);
    }
  }
  return at_left.residual <= at_right.residual ? at_left : at_right;
}

}  // namespace

double ExponentialFit::operator()(double x) const {
  return floor + rise * std::exp(-decay * (x - origin));
}

ExponentialFit fit_exponential(const std::vector<double>& x, const std::vector<double>& y) {
  assert(x.size() == y.size() && !x.empty());
  const Points xs(x.data(), static_cast<Eigen::Index>(x.size()));
  const Points ys(y.data(), static_cast<Eigen::Index>(y.size()));
  const double range = xs.maxCoeff() - xs.minCoeff();
  if (range <= 0) return project(xs, ys, 0);

  const double low = std::log(kStraightest / range);
  const double step = (std::log(kSteepest / range) - low) / kGridPoints;
  int best = 0;
  double least = project(xs, ys, std::exp(low)).residual;
  for (int k = 1; k <= kGridPoints; ++k) {
    const double residual = project(xs, ys, std::exp(low + k * step)).residual;
    // Two points are met exactly by every curve, but for rounding.
    if (residual < least - 1e-12 * ys.cwiseAbs().maxCoeff()) {
      least = residual;
      best = k;
    }
  }
  return refine(xs, ys, low + std::max(best - 1, 0) * step, low + std::min(best + 1, kGridPoints) * step);
}

}  // namespace slackline
