#include "sim_random.h"

#include <cmath>
#include <numbers>

namespace slackline {
namespace {

/// SplitMix64 (Steele, Lea, Flood, OOPSLA 2014): well-mixed bits from a counter.
std::uint64_t mix(std::uint64_t value) {
  value += 0x9e3779b97f4a7c15;
  value = (value ^ (value >> 30)) * 0xbf58476d1ce4e5b9;
  value = (value ^ (value >> 27)) * 0x94d049bb133111eb;
  return value ^ (value >> 31);
}

std::uint64_t bits_of(std::uint64_t seed, SimChance chance, std::size_t rank, std::uint64_t index) {
  constexpr std::uint64_t kApart = 0xd1342543de82ef95;  // no small seed leads into another's numbers
  return mix(mix(mix(seed ^ static_cast<std::uint64_t>(chance) * kApart) ^ rank) ^ index);
}

}  // namespace

double uniform(std::uint64_t seed, SimChance chance, std::size_t rank, std::uint64_t index) {
  return static_cast<double>(bits_of(seed, chance, rank, index) >> 11) * 0x1p-53;
}

double normal(std::uint64_t seed, SimChance chance, std::size_t rank, std::uint64_t index) {
  const std::uint64_t bits = bits_of(seed, chance, rank, index);
  const double first = (static_cast<double>(bits >> 40) + 0.5) / 16777216.0;
  const double second = static_cast<double>(bits & 0xffffff) / 16777216.0;
  return std::sqrt(-2 * std::log(first)) * std::cos(2 * std::numbers::pi * second);
}

}  // namespace slackline
