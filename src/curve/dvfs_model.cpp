#include "slackline/curve/dvfs_model.h"

#include <Eigen/Dense>
#include <algorithm>
#include <array>
#include <cmath>
#include <functional>
#include <map>
#include <utility>

namespace slackline {
namespace {

using Eigen::Index;
using Eigen::MatrixXd;
using Eigen::VectorXd;

/// One measurement of an instruction, relative to its highest clock.
struct Point {
  std::size_t instruction;
  double x;  // clock over the highest clock of all
  double y;
  double variance;
};

/// Relative standard deviations and length scales (in x) of what the physical forms leave; from the published
/// A100 profiles, doubled, so that other chips fit in.
struct Roughness {
  double shared;
  double shared_length;
  double own;
  double own_length;
};
constexpr Roughness kTimeRoughness{0.02, 0.15, 0.006, 0.3};
constexpr Roughness kPowerRoughness{0.04, 0.12, 0.008, 0.3};
/// From one clock to the next, beside the error of measuring.
constexpr double kJitter = 0.002;
/// Of an error that is not stated.
constexpr double kUnknownError = 0.003;
/// Prior standard deviation of the coefficients of the physical forms: they are of the order of 1.
constexpr double kCoefficient = 1;

/// Grid of voltage floors (x0) and slopes above (k); the first has no floor.
constexpr std::array kFloors{0.0, 0.55, 0.65, 0.72, 0.78, 0.84};
constexpr std::array kSlopes{0.4, 0.8, 1.3};
/// The grid is not searched again with more measurements than this: they speak for themselves.
constexpr std::size_t kEnough = 250;

struct Voltage {
  double floor = 0.78;
  double slope = 0.8;

  /// x V(x)^2, 1 at x = 1.
  [[nodiscard]] double switching(double x) const {
    const auto at = [this](double clock) {
      const double voltage = std::max(1.0, 1 + slope * (clock - floor));
      return clock * voltage * voltage;
    };
    return at(x) / at(1);
  }
};

double matern(double distance, double length) {
  const double scaled = std::sqrt(3.0) * std::abs(distance) / length;
  return (1 + scaled) * std::exp(-scaled);
}

}  // namespace

/// A quantity of all instructions over the clock.
class DvfsModel::Field {
 public:
  using Basis = std::function<double(double x)>;

  Field(std::vector<Point> points, Roughness roughness, Basis basis)
      : points_(std::move(points)), roughness_(roughness), basis_(std::move(basis)) {
    const auto count = static_cast<Index>(points_.size());
    MatrixXd covariance(count, count);
    VectorXd values(count);
    for (Index r = 0; r < count; ++r) {
      const Point& row = points_[static_cast<std::size_t>(r)];
      for (Index c = 0; c <= r; ++c) {
        const Point& column = points_[static_cast<std::size_t>(c)];
        covariance(r, c) = covariance(c, r) = kernel(row.instruction, row.x, column.instruction, column.x);
      }
      covariance(r, r) += row.variance + kJitter * kJitter;
      values[r] = row.y - kMean;
    }
    factor_ = covariance.llt();
    reduced_values_ = factor_.matrixL().solve(values);
    const MatrixXd lower = factor_.matrixL();
    log_likelihood_ = -0.5 * reduced_values_.squaredNorm() - lower.diagonal().array().log().sum();
  }

  [[nodiscard]] double log_likelihood() const { return log_likelihood_; }

  struct Value {
    double mean;
    double variance;  // of what measuring without error would show
  };
  [[nodiscard]] Value predict(std::size_t instruction, double x, std::optional<double> also) const {
    const VectorXd& here = reduced(instruction, x);
    Value value{kMean + here.dot(reduced_values_),
                kernel(instruction, x, instruction, x) - here.squaredNorm()};
    value.variance += kJitter * kJitter;
    if (also) {
      const VectorXd& there = reduced(instruction, *also);
      const double own = kernel(instruction, *also, instruction, *also) - there.squaredNorm();
      double common = kernel(instruction, x, instruction, *also) - here.dot(there);
      if (*also == x) common += kJitter * kJitter;
      value.variance -= common * common / (own + kJitter * kJitter + kUnknownError * kUnknownError);
    }
    value.variance = std::max(value.variance, 0.0);
    return value;
  }

 private:
  /// Values are relative to the highest clock, so this is what a prior knows.
  static constexpr double kMean = 1;

  [[nodiscard]] double kernel(std::size_t i, double x, std::size_t j, double y) const {
    double sum = std::pow(roughness_.shared, 2) * matern(x - y, roughness_.shared_length);
    if (i != j) return sum;
    sum += std::pow(roughness_.own, 2) * matern(x - y, roughness_.own_length);
    // Constant and basis, whose coefficients each instruction has for itself.
    return sum + kCoefficient * kCoefficient * (1 + (basis_(x) - 1) * (basis_(y) - 1));
  }

  /// Covariances with the points, times the inverse of the factor: predictions are products of such vectors.
  [[nodiscard]] const VectorXd& reduced(std::size_t instruction, double x) const {
    const auto [entry, is_new] = reduced_.try_emplace({instruction, x});
    if (!is_new) return entry->second;
    VectorXd all(static_cast<Index>(points_.size()));
    for (std::size_t p = 0; p < points_.size(); ++p) {
      all[static_cast<Index>(p)] = kernel(instruction, x, points_[p].instruction, points_[p].x);
    }
    return entry->second = factor_.matrixL().solve(all);
  }

  std::vector<Point> points_;
  Roughness roughness_;
  Basis basis_;
  Eigen::LLT<MatrixXd> factor_;
  VectorXd reduced_values_;
  mutable std::map<std::pair<std::size_t, double>, VectorXd> reduced_;  // as far as it was asked for
  double log_likelihood_ = 0;
};

DvfsModel::DvfsModel(const std::vector<std::vector<Measurement>>& instructions) {
  for (const auto& options : instructions) {
    for (const Measurement& m : options) highest_ = std::max(highest_, m.clock);
  }
  std::vector<Point> times;
  std::vector<Point> powers;
  for (std::size_t i = 0; i < instructions.size(); ++i) {
    const Measurement& top = *std::ranges::max_element(instructions[i], {}, &Measurement::clock);
    const Watts floor(1e-9);  // an instruction may cost nothing
    scales_.push_back({top.time, std::max(floor, top.energy / top.time)});
    for (const Measurement& m : instructions[i]) {
      if (m.is_modelled) continue;
      const double x = static_cast<double>(m.clock.value()) / highest_.value();
      const double time_error = m.time_error > Seconds(0) ? m.time_error / m.time : kUnknownError;
      const bool states_energy = m.energy_error > Joules(0) && m.energy > Joules(0);
      const double energy_error = states_energy ? m.energy_error / m.energy : kUnknownError;
      const double time = m.time / scales_[i].time;
      const double power = m.energy / m.time / scales_[i].power;
      times.push_back({i, x, time, std::pow(time_error * time, 2)});
      powers.push_back({i, x, power, std::pow(energy_error * power, 2)});
    }
  }
  time_ = std::make_unique<Field>(std::move(times), kTimeRoughness, [](double x) { return 1 / x; });
  const auto power_field = [&](const Voltage& voltage) {
    return std::make_unique<Field>(powers, kPowerRoughness,
                                   [voltage](double x) { return voltage.switching(x); });
  };
  power_ = power_field({});
  if (powers.size() > kEnough) return;
  for (const double floor : kFloors) {
    for (const double slope : kSlopes) {
      auto candidate = power_field({floor, slope});
      if (candidate->log_likelihood() > power_->log_likelihood()) power_ = std::move(candidate);
    }
  }
}

DvfsModel::DvfsModel(DvfsModel&&) noexcept = default;
DvfsModel& DvfsModel::operator=(DvfsModel&&) noexcept = default;
DvfsModel::~DvfsModel() = default;

Prediction DvfsModel::predict(std::size_t instruction, Megahertz clock, std::optional<Megahertz> also) const {
  const auto x_of = [this](Megahertz mhz) { return static_cast<double>(mhz.value()) / highest_.value(); };
  const std::optional<double> also_x = also ? std::optional(x_of(*also)) : std::nullopt;
  const Field::Value time = time_->predict(instruction, x_of(clock), also_x);
  const Field::Value power = power_->predict(instruction, x_of(clock), also_x);
  // Far from all that was measured a straight line may lead below 0.
  constexpr double kLeast = 0.01;
  const Scale& scale = scales_[instruction];
  Prediction prediction;
  prediction.time = scale.time * std::max(kLeast, time.mean);
  prediction.energy = scale.power * std::max(kLeast, power.mean) * prediction.time;
  prediction.time_error = scale.time * std::sqrt(time.variance);
  const double relative = std::hypot(std::sqrt(time.variance) / std::max(kLeast, time.mean),
                                     std::sqrt(power.variance) / std::max(kLeast, power.mean));
  prediction.energy_error = prediction.energy * relative;
  return prediction;
}

}  // namespace slackline
