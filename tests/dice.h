#pragma once
#include <cstdint>
#include <random>

namespace slackline {

/// Random draws that are the same on every machine: the standard's distributions are not.
class Dice {
 public:
  explicit Dice(std::uint64_t seed) : engine_(seed) {}

  [[nodiscard]] std::uint64_t bits() { return engine_(); }
  /// From `low` to `high`, both included.
  [[nodiscard]] int number(int low, int high) {
    return low + static_cast<int>(engine_() % static_cast<std::uint64_t>(high - low + 1));
  }
  /// From 0 to 1.
  [[nodiscard]] double part() { return static_cast<double>(engine_() >> 11) * 0x1p-53; }
  [[nodiscard]] double between(double low, double high) { return low + part() * (high - low); }

 private:
  std::mt19937_64 engine_;
};

/// Close to standard normal: the sum of twelve draws.
[[nodiscard]] inline double normal(Dice& dice) {
  double sum = -6;
  for (int i = 0; i < 12; ++i) sum += dice.part();
  return sum;
}

}  // namespace slackline
