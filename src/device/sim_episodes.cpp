#include "sim_episodes.h"

#include <algorithm>
#include <cmath>

namespace slackline {
namespace {

std::int64_t begin_in_slot(const SimEpisodes& episodes, std::uint64_t seed, std::int64_t slot) {
  const auto room = static_cast<std::uint64_t>(episodes.slot_ns - episodes.length_ns + 1);
  return slot * episodes.slot_ns +
         static_cast<std::int64_t>(mix(mix(seed) ^ static_cast<std::uint64_t>(slot)) % room);
}

}  // namespace

std::uint64_t mix(std::uint64_t value) {
  value += 0x9e3779b97f4a7c15;
  value = (value ^ (value >> 30)) * 0xbf58476d1ce4e5b9;
  value = (value ^ (value >> 27)) * 0x94d049bb133111eb;
  return value ^ (value >> 31);
}

SimEpisodes SimEpisodes::of(double share, double seconds) {
  if (share <= 0) return {0, 0};
  const double length = std::max(1.0, seconds * 1e9);
  return {std::llround(length), std::llround(length / share)};
}

bool is_in_episode(const SimEpisodes& episodes, std::uint64_t seed, std::int64_t now_ns) {
  if (episodes.slot_ns == 0) return false;
  const std::int64_t begin = begin_in_slot(episodes, seed, now_ns / episodes.slot_ns);
  return now_ns >= begin && now_ns < begin + episodes.length_ns;
}

std::int64_t next_change(const SimEpisodes& episodes, std::uint64_t seed, std::int64_t now_ns) {
  if (episodes.slot_ns == 0) return INT64_MAX;
  const std::int64_t slot = now_ns / episodes.slot_ns;
  const std::int64_t begin = begin_in_slot(episodes, seed, slot);
  if (now_ns < begin) return begin;
  if (now_ns < begin + episodes.length_ns) return begin + episodes.length_ns;
  return begin_in_slot(episodes, seed, slot + 1);
}

}  // namespace slackline
