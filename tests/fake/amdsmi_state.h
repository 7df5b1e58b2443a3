#pragma once
#include <cstdint>

namespace slackline::fake {

/// One of the GPUs behind our AMD SMI, as its driver would know it. It outlives every process.
struct AmdGpu {
  std::uint64_t bdf;
  char name[64];
  std::uint32_t level;    // performance level
  std::uint32_t low_mhz;  // what it can do
  std::uint32_t high_mhz;
  std::uint32_t min_mhz;  // what it is limited to
  std::uint32_t max_mhz;
  std::uint32_t now_mhz;
  std::uint32_t dpm_levels;  // above 2: that many fixed clocks from low to high; else continuous
  std::uint32_t current_w;
  std::uint32_t average_w;
  std::uint64_t cap_uw;
  std::int64_t celsius;
  /// Of its energy counter. With a rate it runs: a tick a millisecond on a clock that began with the node.
  std::uint64_t accumulator;
  std::uint64_t timestamp_ns;
  std::uint64_t steps_a_tick;
};

struct AmdNode {
  static constexpr std::uint32_t kMagic = 0x414d4433;
  static constexpr int kMost = 8;
  std::uint32_t magic;
  std::uint32_t gpus;
  std::uint64_t began_ns;  // CLOCK_MONOTONIC
  AmdGpu gpu[kMost];
};

/// Four GPUs at rest.
inline AmdNode fresh_amd_node(std::uint64_t now_ns) {
  AmdNode node{};
  node.magic = AmdNode::kMagic;
  node.gpus = 4;
  node.began_ns = now_ns;
  for (std::uint32_t g = 0; g < node.gpus; ++g) {
    constexpr std::uint64_t kBus[] = {0xc1, 0x05, 0xa3, 0x26};  // the library's order is not that of the bus
    AmdGpu& gpu = node.gpu[g];
    gpu = {.bdf = kBus[g] << 8,
           .name = "AMD Instinct MI300X",
           .level = 0,
           .low_mhz = 132,
           .high_mhz = 2100,
           .min_mhz = 132,
           .max_mhz = 2100,
           .now_mhz = 1234,
           .dpm_levels = 2,
           .current_w = 300 + g,
           .average_w = 0xFFFF,
           .cap_uw = 750'000'000,
           .celsius = 50 + g,
           .accumulator = 1'000'000,
           .timestamp_ns = 5'000'000'000,
           .steps_a_tick = 20'000};  // 306 W
  }
  return node;
}

}  // namespace slackline::fake
