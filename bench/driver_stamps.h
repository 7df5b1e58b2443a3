#pragma once
#include <array>
#include <atomic>
#include <cstdint>

namespace slackline {

/// Names the file that the driver library of stamping_nvml.cpp writes DriverStamps to.
inline constexpr const char* kStampsVariable = "SLACKLINE_BENCH_STAMPS";

/// When which clock reached the driver: a ring a GPU, which its one worker writes. hook_bench.py knows this
/// layout, too.
struct DriverStamps {
  struct Stamp {
    std::int64_t time_ns;  // CLOCK_MONOTONIC, as the call arrives
    std::int64_t mhz;      // 0: unlocked
  };
  struct Gpu {
    static constexpr std::uint64_t kKept = 1 << 15;

    std::atomic<std::uint64_t> calls;
    std::array<Stamp, kKept> stamps;
  };

  std::array<Gpu, 16> gpus;
};
static_assert(sizeof(DriverStamps::Gpu) == 8 + 16 * DriverStamps::Gpu::kKept);

}  // namespace slackline
