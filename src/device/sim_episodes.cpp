#include "sim_episodes.h"

#include <algorithm>

namespace slackline {
namespace {

std::int64_t begin_in_slot(const SimEpisodeLaw& law, std::uint64_t seed, std::size_t rank,
                           std::int64_t slot) {
  const double offset = uniform(seed, law.chance, rank, static_cast<std::uint64_t>(slot)) *
                        static_cast<double>(law.slot_ns - law.length_ns);
  return slot * law.slot_ns + static_cast<std::int64_t>(offset);
}

}  // namespace

SimEpisodeLaw episode_law(SimChance chance, double share, std::int64_t length_ns) {
  if (share <= 0) return {chance, length_ns, 0};
  constexpr double kLongestNs = 1e18;  // keeps the end of the next slot in 63 bits
  const double slot_ns = std::min(static_cast<double>(length_ns) / share, kLongestNs);
  return {chance, length_ns, std::max(length_ns, static_cast<std::int64_t>(slot_ns))};
}

bool in_episode(const SimEpisodeLaw& law, std::uint64_t seed, std::size_t rank, std::int64_t time_ns) {
  if (law.slot_ns == 0) return false;
  const std::int64_t begin = begin_in_slot(law, seed, rank, time_ns / law.slot_ns);
  return time_ns >= begin && time_ns < begin + law.length_ns;
}

std::int64_t next_episode_edge(const SimEpisodeLaw& law, std::uint64_t seed, std::size_t rank,
                               std::int64_t time_ns) {
  if (law.slot_ns == 0) return INT64_MAX;
  const std::int64_t slot = time_ns / law.slot_ns;
  const std::int64_t begin = begin_in_slot(law, seed, rank, slot);
  if (time_ns < begin) return begin;
  if (time_ns < begin + law.length_ns) return begin + law.length_ns;
  return begin_in_slot(law, seed, rank, slot + 1);
}

}  // namespace slackline
