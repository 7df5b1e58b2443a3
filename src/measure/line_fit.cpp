#include "slackline/measure/line_fit.h"

#include <Eigen/Dense>
#include <cassert>
#include <cmath>

namespace slackline {

LineFit fit_line(const std::vector<double>& x, const std::vector<double>& y) {
  assert(x.size() == y.size() && x.size() >= 2);
  const auto count = static_cast<Eigen::Index>(x.size());
  const Eigen::Map<const Eigen::VectorXd> xs(x.data(), count);
  const Eigen::Map<const Eigen::VectorXd> ys(y.data(), count);
  // Centred: a counter holds gigajoules after a while, of which a window is a tiny part.
  const Eigen::VectorXd dx = xs.array() - xs.mean();
  const Eigen::VectorXd dy = ys.array() - ys.mean();
  LineFit fit;
  fit.slope = dx.dot(dy) / dx.squaredNorm();
  if (count > 2) {
    const double residual = (dy - fit.slope * dx).squaredNorm();
    fit.standard_error = std::sqrt(residual / static_cast<double>(count - 2) / dx.squaredNorm());
  }
  return fit;
}

}  // namespace slackline
