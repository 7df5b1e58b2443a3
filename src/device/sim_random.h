#pragma once
#include <cstddef>
#include <cstdint>

namespace slackline {

/// What chance decides about a rank; one does not depend on another.
enum class SimChance : std::uint64_t { kTime = 0, kEnergy, kThrottling, kIntruder };

// Pseudo-random numbers that depend on their arguments only: chance needs no shared state, and nothing that
// happens changes what happens later.

/// At least 0 and below 1.
[[nodiscard]] double uniform(std::uint64_t seed, SimChance chance, std::size_t rank, std::uint64_t index);
/// Standard normal, by Box and Muller.
[[nodiscard]] double normal(std::uint64_t seed, SimChance chance, std::size_t rank, std::uint64_t index);

}  // namespace slackline
