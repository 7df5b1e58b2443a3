#pragma once
#include <cstddef>
#include <cstdint>

#include "sim_random.h"

namespace slackline {

/// Something that befalls a rank from time to time, for as long each time. Time is cut into slots, and each
/// has one episode at an offset that chance decides: the share of time is exact over whole slots, and whether
/// there is an episode follows from the time alone. Plain data, in the node's file.
struct SimEpisodeLaw {
  SimChance chance;
  std::int64_t length_ns;
  std::int64_t slot_ns;  // at least length_ns, or 0: there are none
};

[[nodiscard]] SimEpisodeLaw episode_law(SimChance chance, double share, std::int64_t length_ns);

[[nodiscard]] bool in_episode(const SimEpisodeLaw& law, std::uint64_t seed, std::size_t rank,
                              std::int64_t time_ns);
/// The first begin or end after `time_ns`; INT64_MAX if there are none.
[[nodiscard]] std::int64_t next_episode_edge(const SimEpisodeLaw& law, std::uint64_t seed, std::size_t rank,
                                             std::int64_t time_ns);

}  // namespace slackline
