#include "convex_check.h"

#include <algorithm>
#include <cmath>

#include "slackline/curve/convex_fit.h"

namespace slackline {
namespace {

constexpr std::size_t kFewestClocks = 5;
/// Beyond any GPU's; the fit would take minutes.
constexpr std::size_t kMostClocks = 256;
constexpr double kFarthest = 4;
constexpr double kSmallestError = 1e-3;
/// Standard deviation over the median of absolute deviations, for normal noise.
constexpr double kNormalSpread = 1.4826;

struct Deviations {
  std::vector<double> fitted;
  std::vector<double> sigmas;

  [[nodiscard]] bool is_outlier(std::size_t i) const { return std::abs(sigmas[i]) > kFarthest; }
};

/// Corners and both ends: what the fit could choose.
std::size_t freedom_of(const std::vector<double>& x, const std::vector<double>& fitted) {
  std::vector<std::size_t> order(x.size());
  for (std::size_t i = 0; i < order.size(); ++i) order[i] = i;
  std::ranges::sort(order, {}, [&](std::size_t i) { return x[i]; });
  std::size_t freedom = 2;
  double last_slope = NAN;
  for (std::size_t i = 1; i < order.size(); ++i) {
    const double run = x[order[i]] - x[order[i - 1]];
    if (run <= 0) continue;
    const double slope = (fitted[order[i]] - fitted[order[i - 1]]) / run;
    if (slope > last_slope + 1e-6 * std::abs(last_slope)) ++freedom;
    last_slope = slope;
  }
  return freedom;
}

double robust_sigma(std::vector<double> sizes, std::size_t freedom) {
  const auto middle = sizes.begin() + static_cast<std::ptrdiff_t>(sizes.size() / 2);
  std::ranges::nth_element(sizes, middle);
  const auto count = static_cast<double>(sizes.size());
  return kNormalSpread * *middle * std::sqrt(count / std::max(1.0, count - static_cast<double>(freedom)));
}

Deviations deviations(const std::vector<double>& x, const std::vector<double>& y,
                      const std::vector<double>& errors) {
  const bool are_known = std::ranges::all_of(errors, [](double error) { return error > 0; });
  const double smallest = 1e-6 * *std::ranges::max_element(y);  // an energy of 0 has a weight, too
  std::vector<double> units;                                    // what a deviation is counted in
  for (std::size_t i = 0; i < y.size(); ++i) {
    units.push_back(std::max({are_known ? errors[i] : y[i], kSmallestError * y[i], smallest}));
  }
  std::vector<double> weights;
  for (const double unit : units) weights.push_back(1 / unit);
  std::vector<bool> is_aside(y.size());
  Deviations result;
  for (std::size_t aside = 0;; ++aside) {
    result.fitted = convex_fit(x, y, weights);
    result.sigmas.clear();
    std::vector<double> sizes;
    for (std::size_t i = 0; i < y.size(); ++i) {
      result.sigmas.push_back((y[i] - result.fitted[i]) / units[i]);
      if (!is_aside[i]) sizes.push_back(std::abs(result.sigmas[i]));
    }
    if (!are_known) {
      const double sigma = std::max(kSmallestError, robust_sigma(sizes, freedom_of(x, result.fitted)));
      for (double& sigmas : result.sigmas) sigmas /= sigma;
    }
    std::size_t worst = y.size();
    for (std::size_t i = 0; i < y.size(); ++i) {
      if (is_aside[i] || !result.is_outlier(i)) continue;
      if (worst == y.size() || std::abs(result.sigmas[i]) > std::abs(result.sigmas[worst])) worst = i;
    }
    if (worst == y.size() || aside == y.size() / 4) return result;
    is_aside[worst] = true;
    weights[worst] *= 1e-6;
  }
}

double residual(const std::vector<double>& y, const Deviations& found) {
  double squares = 0;
  std::size_t count = 0;
  for (std::size_t i = 0; i < y.size(); ++i) {
    if (found.is_outlier(i) || y[i] <= 0) continue;
    squares += std::pow(found.fitted[i] / y[i] - 1, 2);
    ++count;
  }
  return count == 0 ? 0 : std::sqrt(squares / static_cast<double>(count));
}

}  // namespace

std::optional<ConvexCheck> check_convexity(const std::vector<Measurement>& options) {
  std::vector<ClockSetting> settings;
  std::vector<double> clocks, times, time_errors, energies, energy_errors;
  for (const Measurement& option : options) {
    if (option.is_modelled) continue;
    settings.emplace_back(option.clock, option.config);
    clocks.push_back(option.clock.value());
    times.push_back(option.time.value());
    time_errors.push_back(option.time_error.value());
    energies.push_back(option.energy.value());
    energy_errors.push_back(option.energy_error.value());
  }
  if (clocks.size() < kFewestClocks || clocks.size() > kMostClocks) return std::nullopt;
  if (*std::ranges::max_element(energies) <= 0) return std::nullopt;
  const Deviations in_time = deviations(clocks, times, time_errors);
  const Deviations in_energy = deviations(in_time.fitted, energies, energy_errors);
  ConvexCheck check{residual(times, in_time), residual(energies, in_energy), {}};
  const auto add = [&](std::size_t i, bool is_time, const std::vector<double>& y, const Deviations& found) {
    if (!found.is_outlier(i)) return;
    check.outliers.push_back({settings[i], is_time, y[i] / found.fitted[i] - 1, found.sigmas[i]});
  };
  for (std::size_t i = 0; i < settings.size(); ++i) {
    add(i, true, times, in_time);
    add(i, false, energies, in_energy);
  }
  return check;
}

}  // namespace slackline
