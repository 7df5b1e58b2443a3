#pragma once
#include <cstdint>
#include <string>

namespace slackline {

/// What the fake driver (tests/fake/nvml.cpp) keeps in FAKE_NVML_STATE. A file of zeros is a fresh start.
struct FakeNvmlState {
  static constexpr int kMostGpus = 16;
  static constexpr int kMostLines = 64;

  struct Gpu {
    unsigned locked_low;  // 0: not locked
    unsigned locked_high;
    unsigned clock;         // asked for
    unsigned clock_before;  // until it arrives
    std::int64_t clock_asked_ns;
    std::int64_t energy_at_ns;  // the counter's last tick
    double energy_mj;
    std::uint64_t shown_mj;
  };

  int gpus;
  Gpu gpu[kMostGpus];
  std::uint64_t script;  // which one `calls` counts for
  int calls[kMostLines];
};

inline std::string fake_nvml_uuid(int gpu) {
  return "GPU-fa4e0000-0000-4000-8000-00000000000" + std::string(1, "0123456789abcdef"[gpu]);
}

}  // namespace slackline
