#include "slackline/curve/non_negative_least_squares.h"

#include <Eigen/Dense>
#include <algorithm>
#include <cassert>
#include <utility>

namespace slackline {
namespace {

using Eigen::Index;
using Eigen::MatrixXd;
using Eigen::VectorXd;

class ActiveSet {
 public:
  ActiveSet(MatrixXd columns, VectorXd target, Index free)
      : columns_(std::move(columns)), target_(std::move(target)), free_(free) {
    for (Index c = 0; c < free_; ++c) active_.push_back(c);
  }

  VectorXd solve() {
    VectorXd coefficients = fit_active();
    // Each round lowers the residual, so no set of columns comes twice; the bound is against rounding only.
    for (Index round = 0; round < 3 * columns_.cols(); ++round) {
      const Index entering = steepest(coefficients);
      if (entering < 0) break;
      active_.push_back(entering);
      coefficients = retreat_into_bounds(coefficients);
    }
    return coefficients;
  }

 private:
  [[nodiscard]] bool is_active(Index column) const {
    return std::find(active_.begin(), active_.end(), column) != active_.end();
  }

  /// The column outside whose coefficient most wants to be positive, or -1.
  [[nodiscard]] Index steepest(const VectorXd& coefficients) const {
    const VectorXd gradient = columns_.transpose() * (target_ - columns_ * coefficients);
    const double tolerance = 1e-9 * columns_.norm() * target_.norm();
    Index best = -1;
    for (Index c = free_; c < columns_.cols(); ++c) {
      if (is_active(c) || gradient[c] <= tolerance) continue;
      if (best < 0 || gradient[c] > gradient[best]) best = c;
    }
    return best;
  }

  [[nodiscard]] VectorXd fit_active() const {
    MatrixXd chosen(columns_.rows(), static_cast<Index>(active_.size()));
    for (std::size_t k = 0; k < active_.size(); ++k) {
      chosen.col(static_cast<Index>(k)) = columns_.col(active_[k]);
    }
    if (active_.empty()) return VectorXd::Zero(columns_.cols());
    const VectorXd solution = chosen.colPivHouseholderQr().solve(target_);
    VectorXd coefficients = VectorXd::Zero(columns_.cols());
    for (std::size_t k = 0; k < active_.size(); ++k)
      coefficients[active_[k]] = solution[static_cast<Index>(k)];
    return coefficients;
  }

  /// Fits the active columns; while that makes one negative, goes only as far as it reaches 0 and drops it.
  VectorXd retreat_into_bounds(VectorXd from) {
    while (true) {
      VectorXd to = fit_active();
      double part = 1;
      for (const Index c : active_) {
        if (c >= free_ && to[c] <= 0) part = std::min(part, from[c] / (from[c] - to[c]));
      }
      if (part >= 1) return to;
      from += std::max(0.0, part) * (to - from);
      std::erase_if(active_,
                    [&](Index c) { return c >= free_ && to[c] <= 0 && from[c] <= 1e-12 * from.norm(); });
      for (Index c = free_; c < columns_.cols(); ++c) {
        if (!is_active(c)) from[c] = 0;
      }
    }
  }

  MatrixXd columns_;
  VectorXd target_;
  Index free_;
  std::vector<Index> active_;
};

}  // namespace

std::vector<double> non_negative_least_squares(const std::vector<std::vector<double>>& columns,
                                               const std::vector<double>& target, std::size_t free) {
  const auto rows = static_cast<Index>(target.size());
  MatrixXd matrix(rows, static_cast<Index>(columns.size()));
  for (std::size_t c = 0; c < columns.size(); ++c) {
    assert(columns[c].size() == target.size());
    matrix.col(static_cast<Index>(c)) = Eigen::Map<const VectorXd>(columns[c].data(), rows);
  }
  const VectorXd values = Eigen::Map<const VectorXd>(target.data(), rows);
  const VectorXd solved = ActiveSet(std::move(matrix), values, static_cast<Index>(free)).solve();
  return {solved.data(), solved.data() + solved.size()};
}

}  // namespace slackline
