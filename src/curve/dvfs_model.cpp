#include "slackline/curve/dvfs_model.h"

#include <Eigen/Dense>
#include <algorithm>
#include <cassert>
#include <cmath>
#include <numbers>
#include <random>

namespace slackline {
namespace {

using Eigen::Index;
using Eigen::MatrixXd;
using Eigen::VectorXd;

/// How far a figure is believed to depart from the physics, as standard deviations of its logarithm.
struct Departure {
  /// Of the exponent of the clock.
  double slope;
  /// Of the smooth part.
  double smooth;
  /// Of what a clock has on its own.
  double own;
};

struct Prior {
  double (*physics)(double share);
  /// The ratio of two clocks, as a logarithm, over which the smooth parts are alike.
  double length;
  /// What all series have in common, what those of a kind have, and what each has for itself.
  Departure common;
  Departure kind;
  Departure series;
};

double time_of(double share) {
  return 0.1 + 0.9 / share;
}
double power_of(double share) {
  return 0.3 + 0.7 * share * share * share;
}

constexpr Prior kTimePrior{[](double share) { return std::log(time_of(share)); },
                           0.2,
                           {0.1, 0.04, 0.0015},
                           {0.05, 0.006, 0.001},
                           {0.05, 0.005, 0.003}};
constexpr Prior kEnergyPrior{[](double share) { return std::log(time_of(share) * power_of(share)); },
                             0.14,
                             {0.3, 0.07, 0.0035},
                             {0.05, 0.012, 0.004},
                             {0.05, 0.005, 0.003}};

/// Of the level of a series, which is free.
constexpr double kFreeDeviation = 3;
/// Relative errors outside of these are not believed; 0 is unknown.
constexpr double kLeastError = 1e-4;
constexpr double kLargestError = 1;
/// No figure of a series is smaller than its largest by more than this.
constexpr double kRange = 1e6;
/// Logarithms by which a prediction may lie outside of what was measured.
constexpr double kMargin = 5;

double matern_5_2(double distance) {
  const double r = std::sqrt(5.0) * std::abs(distance);
  return (1 + r + r * r / 3) * std::exp(-r);
}

/// Standard normal draws that are the same on every machine.
class NormalDraws {
 public:
  double next() {
    const double radius = std::sqrt(-2 * std::log(1 - uniform()));
    return radius * std::cos(2 * std::numbers::pi * uniform());
  }

 private:
  double uniform() { return static_cast<double>(engine_() >> 11) * 0x1p-53; }

  std::mt19937_64 engine_{1};
};

/// A clock of a series, as the logarithm of its share of the highest clock.
struct Place {
  std::size_t series;
  InstructionKind kind;
  double clock;
};
using Places = std::vector<Place>;

}  // namespace

/// One figure (time or energy) of all series over the clocks.
struct DvfsModel::Kriging {
  Prior prior;
  Places measured;
  Eigen::LLT<MatrixXd> factor;  // of the covariance of what was measured
  VectorXd weights;             // its inverse times the departures from the physics
  double scale = 1;             // of all covariances
  double next_noise = 0;        // variance of the error of another measurement
  double lowest = 0;            // logarithms of what was measured
  double highest = 0;

  Kriging(const Prior& prior_, Places measured_, const std::vector<double>& values,
          const std::vector<double>& errors)
      : prior(prior_), measured(std::move(measured_)) {
    const auto count = static_cast<Index>(measured.size());
    const double floor = std::max(*std::max_element(values.begin(), values.end()) / kRange, 1e-12);
    VectorXd departures(count);
    MatrixXd covariances = covariance(measured, measured);
    lowest = highest = std::log(std::max(values[0], floor));
    for (std::size_t k = 0; k < measured.size(); ++k) {
      const auto i = static_cast<Index>(k);
      const double value = std::max(values[k], floor);
      const double error = std::clamp(errors[k] / value, kLeastError, kLargestError);
      covariances(i, i) += error * error;
      next_noise += error * error / static_cast<double>(count);
      departures(i) = std::log(value) - prior.physics(std::exp(measured[k].clock));
      lowest = std::min(lowest, std::log(value));
      highest = std::max(highest, std::log(value));
    }
    factor.compute(covariances);
    weights = factor.solve(departures);
    scale = std::max(1.0, departures.dot(weights) / static_cast<double>(count));
  }

  static double covariance(const Departure& departure, double a, double b, double likeness) {
    return departure.slope * departure.slope * a * b + departure.smooth * departure.smooth * likeness +
           (a == b ? departure.own * departure.own : 0);
  }

  [[nodiscard]] double covariance(const Place& a, const Place& b) const {
    const double likeness = matern_5_2((a.clock - b.clock) / prior.length);
    double sum = covariance(prior.common, a.clock, b.clock, likeness);
    if (a.kind == b.kind) sum += covariance(prior.kind, a.clock, b.clock, likeness);
    if (a.series == b.series) {
      sum += covariance(prior.series, a.clock, b.clock, likeness) + kFreeDeviation * kFreeDeviation;
    }
    return sum;
  }

  [[nodiscard]] MatrixXd covariance(const Places& a, const Places& b) const {
    MatrixXd result(a.size(), b.size());
    for (std::size_t j = 0; j < b.size(); ++j) {
      for (std::size_t i = 0; i < a.size(); ++i) {
        result(static_cast<Index>(i), static_cast<Index>(j)) = covariance(a[i], b[j]);
      }
    }
    return result;
  }

  /// Of the truth at `a` with the truth at `b`, given what was measured.
  [[nodiscard]] MatrixXd remaining(const Places& a, const Places& b) const {
    if (a.empty() || b.empty()) return MatrixXd(a.size(), b.size());  // Eigen solves for no empty matrix
    const MatrixXd from_a = factor.matrixL().solve(covariance(measured, a));
    const MatrixXd from_b = factor.matrixL().solve(covariance(measured, b));
    return scale * (covariance(a, b) - from_a.transpose() * from_b);
  }

  [[nodiscard]] double deviation(const Place& place) const {
    return std::sqrt(std::clamp(remaining({place}, {place})(0, 0), 0.0, 1.0));
  }

  [[nodiscard]] double predict(const Place& place) const {
    const double value =
        prior.physics(std::exp(place.clock)) + (covariance({place}, measured) * weights)(0, 0);
    return std::exp(std::clamp(value, lowest - kMargin, highest + kMargin));
  }

  /// One column for each of `next`.
  [[nodiscard]] MatrixXd shifts(const Places& places, const Places& next) const {
    MatrixXd result = remaining(places, next);
    const VectorXd variances = remaining(next, next).diagonal();
    for (Index j = 0; j < result.cols(); ++j) {
      result.col(j) /= std::sqrt(std::max(variances(j), 0.0) + next_noise);
    }
    return result;
  }

  /// One draw a column.
  [[nodiscard]] MatrixXd draws(const Places& places, int count, NormalDraws& normal) const {
    // By its eigenvalues: of many measured clocks the covariance is close to singular.
    const Eigen::SelfAdjointEigenSolver<MatrixXd> solver(remaining(places, places));
    const MatrixXd root = solver.eigenvectors() * solver.eigenvalues().cwiseMax(0).cwiseSqrt().asDiagonal();
    MatrixXd standard(root.cols(), count);
    for (Index c = 0; c < standard.cols(); ++c) {
      for (Index r = 0; r < standard.rows(); ++r) standard(r, c) = normal.next();
    }
    return root * standard;
  }

  [[nodiscard]] Places places(std::size_t series, const std::vector<Megahertz>& clocks,
                              Megahertz highest_clock) const;
};

namespace {

double logarithmic(Megahertz clock, Megahertz highest) {
  return std::log(static_cast<double>(clock.value()) / static_cast<double>(highest.value()));
}

std::vector<std::vector<DvfsModel::Shift>> transposed(const MatrixXd& times, const MatrixXd& energies) {
  std::vector<std::vector<DvfsModel::Shift>> result(static_cast<std::size_t>(times.cols()));
  for (Index j = 0; j < times.cols(); ++j) {
    for (Index i = 0; i < times.rows(); ++i) {
      result[static_cast<std::size_t>(j)].push_back({times(i, j), energies(i, j)});
    }
  }
  return result;
}

}  // namespace

Places DvfsModel::Kriging::places(std::size_t series, const std::vector<Megahertz>& clocks,
                                  Megahertz highest_clock) const {
  const auto of_series = std::find_if(measured.begin(), measured.end(),
                                      [&](const Place& place) { return place.series == series; });
  Places result;
  for (const Megahertz clock : clocks) {
    result.push_back({series, of_series->kind, logarithmic(clock, highest_clock)});
  }
  return result;
}

DvfsModel::DvfsModel(const std::vector<Series>& measured) {
  for (const Series& series : measured) {
    assert(!series.measured.empty());
    for (const Measurement& m : series.measured) highest_ = std::max(highest_, m.clock);
  }
  Places places;
  std::vector<double> times, time_errors, energies, energy_errors;
  for (std::size_t s = 0; s < measured.size(); ++s) {
    for (const Measurement& m : measured[s].measured) {
      places.push_back({s, measured[s].kind, logarithmic(m.clock, highest_)});
      times.push_back(m.time.value());
      time_errors.push_back(m.time_error.value());
      energies.push_back(m.energy.value());
      energy_errors.push_back(m.energy_error.value());
    }
  }
  time_ = std::make_shared<const Kriging>(kTimePrior, places, times, time_errors);
  energy_ = std::make_shared<const Kriging>(kEnergyPrior, places, energies, energy_errors);
}

std::vector<DvfsModel::Prediction> DvfsModel::predict(std::size_t series,
                                                      const std::vector<Megahertz>& clocks) const {
  std::vector<Prediction> predictions;
  const Places places = time_->places(series, clocks, highest_);
  for (std::size_t k = 0; k < clocks.size(); ++k) {
    const Seconds time(time_->predict(places[k]));
    const Joules energy(energy_->predict(places[k]));
    predictions.push_back({clocks[k], time, energy, time * time_->deviation(places[k]),
                           energy * energy_->deviation(places[k])});
  }
  return predictions;
}

std::vector<std::vector<DvfsModel::Shift>> DvfsModel::shifts(std::size_t series,
                                                             const std::vector<Megahertz>& clocks,
                                                             const std::vector<Megahertz>& next) const {
  const Places places = time_->places(series, clocks, highest_);
  const Places then = time_->places(series, next, highest_);
  return transposed(time_->shifts(places, then), energy_->shifts(places, then));
}

std::vector<std::vector<DvfsModel::Shift>> DvfsModel::draws(std::size_t series,
                                                            const std::vector<Megahertz>& clocks,
                                                            int count) const {
  const Places places = time_->places(series, clocks, highest_);
  NormalDraws normal;
  const MatrixXd times = time_->draws(places, count, normal);
  return transposed(times, energy_->draws(places, count, normal));
}

}  // namespace slackline
