#pragma once
#include <cstdint>
#include <vector>

#include "sim_layout.h"

namespace slackline {

// What simulated GPUs do as time passes. Time and participants are SimWorld's business. A GPU's power, but
// for leakage that grows with time, is constant between two changes of its state, so energy at any time is
// one product from the last change; splitting an interval by mere reads would change the rounding and with it
// the repeatability.

/// What a rank's GPUs can run at, highest first.
[[nodiscard]] std::vector<std::int32_t> clocks_of(SimLayout& world, const SimRankState& rank);

/// The state at time zero, when the ranks and GPUs are described.
void begin_physics(SimLayout& world);
/// Starts an instruction on an idle rank: the one with this number among the rank's tasks.
void begin_instruction(SimLayout& world, SimRankState& rank, std::int32_t task);
/// Drops what runs: its process is gone.
void abort_instruction(SimLayout& world, SimRankState& rank);
/// Asks for a clock; the last request wins and takes effect a switch latency later.
void request_clock(SimLayout& world, SimGpuState& gpu, std::int32_t clock_mhz);

/// When the next clock takes effect or the next instruction ends; kNever if nothing is under way.
[[nodiscard]] std::int64_t next_physical_event(SimLayout& world);
/// When something befalls GPUs next that nobody asked for; kNever if nothing ever does.
[[nodiscard]] std::int64_t next_accident(SimLayout& world);
/// Lets everything that happens at `world.now_ns` or before take place, in a fixed order.
void apply_physical_events(SimLayout& world);

[[nodiscard]] std::int32_t running_clock(SimLayout& world, const SimGpuState& gpu);
[[nodiscard]] double power_now(const SimLayout& world, const SimGpuState& gpu);

struct SimCounter {
  double total_j;
  std::int64_t tick_ns;
};
[[nodiscard]] SimCounter read_counter(const SimLayout& world, const SimGpuState& gpu);

}  // namespace slackline
