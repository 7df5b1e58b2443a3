#pragma once
#include <cstdint>

namespace slackline {

/// Well-mixed bits from a counter, so that what is random needs no shared state: SplitMix64 (Steele, Lea,
/// Flood, OOPSLA 2014).
[[nodiscard]] std::uint64_t mix(std::uint64_t value);

/// Something that is the case now and then: time is cut into slots, each of which holds one episode,
/// somewhere. Plain data; times are simulated nanoseconds.
struct SimEpisodes {
  std::int64_t length_ns;
  std::int64_t slot_ns;  // 0: never

  [[nodiscard]] static SimEpisodes of(double share, double seconds);
};

/// Streams of different `seed` have nothing to do with each other.
[[nodiscard]] bool is_in_episode(const SimEpisodes& episodes, std::uint64_t seed, std::int64_t now_ns);
/// When that changes next; INT64_MAX if never.
[[nodiscard]] std::int64_t next_change(const SimEpisodes& episodes, std::uint64_t seed, std::int64_t now_ns);

}  // namespace slackline
