#include "slackline/curve/exponential_fit.h"

#include <cmath>

#include "catch.h"
#include "dice.h"

namespace slackline {
namespace {

bool is_near(double found, double expected, double tolerance) {
  return std::abs(found - expected) <= tolerance;
}

double mean_square(const ExponentialFit& fit, const std::vector<double>& x, const std::vector<double>& y) {
  double sum = 0;
  for (std::size_t i = 0; i < x.size(); ++i) sum += std::pow(y[i] - fit(x[i]), 2);
  return sum / static_cast<double>(x.size());
}

TEST_CASE("exponential fit: the parameters of an exponential are found again", "[curve]") {
  Dice dice(31);
  for (int round = 0; round < 50; ++round) {
    CAPTURE(round);
    const ExponentialFit truth{dice.between(1, 100), dice.between(1, 50), dice.between(0.02, 0.5),
                               dice.between(-20, 20)};
    std::vector<double> x;
    std::vector<double> y;
    for (int k = 0; k < 20; ++k) {
      x.push_back(truth.origin + k);
      y.push_back(truth(x.back()));
    }
    const ExponentialFit fit = fit_exponential(x, y);
    CHECK(fit.origin == truth.origin);
    CHECK(is_near(fit.rise, truth.rise, 1e-5));
    CHECK(is_near(fit.decay, truth.decay, 1e-5));
    CHECK(is_near(fit.floor, truth.floor, 1e-4));
    CHECK(fit.residual < 1e-6);
  }
}

TEST_CASE("exponential fit: no neighbouring curve is closer to the points", "[curve]") {
  Dice dice(32);
  for (int round = 0; round < 50; ++round) {
    CAPTURE(round);
    std::vector<double> x;
    std::vector<double> y;
    for (int k = 0; k < 15; ++k) {
      x.push_back(50 + k);
      y.push_back(20 + 10 * std::exp(-0.1 * k) + dice.between(-0.3, 0.3));
    }
    const ExponentialFit fit = fit_exponential(x, y);
    const double least = mean_square(fit, x, y);
    CHECK(is_near(fit.residual, std::sqrt(least), 1e-9));
    for (int draw = 0; draw < 100; ++draw) {
      ExponentialFit other = fit;
      other.rise *= dice.between(0.99, 1.01);
      other.decay *= dice.between(0.99, 1.01);
      other.floor *= dice.between(0.99, 1.01);
      CHECK(mean_square(other, x, y) >= least * (1 - 1e-9));
    }
  }
}

TEST_CASE("exponential fit: two points are met, by the straightest curve", "[curve]") {
  const ExponentialFit fit = fit_exponential({10, 20}, {5, 3});
  CHECK(is_near(fit(10), 5, 1e-9));
  CHECK(is_near(fit(20), 3, 1e-9));
  CHECK(is_near(fit(15), 4, 1e-2));
}

TEST_CASE("exponential fit: one point, or points that rise, give a constant", "[curve]") {
  CHECK(fit_exponential({10}, {5})(99) == 5);
  const ExponentialFit rising = fit_exponential({1, 2, 3}, {1, 2, 6});
  CHECK(rising.rise == 0);
  CHECK(is_near(rising(2), 3, 1e-9));
}

TEST_CASE("exponential fit: points that bend the other way give a straight line", "[curve]") {
  const ExponentialFit fit = fit_exponential({0, 1, 2}, {10, 9, 5});
  CHECK(is_near(fit(0) - fit(1), 2.5, 1e-2));
  CHECK(is_near(fit(1) - fit(2), 2.5, 1e-2));
}

}  // namespace
}  // namespace slackline
