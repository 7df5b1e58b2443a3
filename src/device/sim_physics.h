#pragma once
#include <cstdint>

#include "sim_layout.h"

namespace slackline {

// What simulated GPUs do as time passes. Time and participants are SimWorld's business. A GPU's power is
// constant (but for leakage) between two changes of its state, so energy at any time is one product from the
// last change; splitting an interval by mere reads would change the rounding and with it the repeatability.

/// Starts an instruction on an idle stage.
void begin_instruction(SimLayout& world, SimStageState& stage, InstructionKind kind);
/// Drops what runs: its process is gone.
void abort_instruction(SimLayout& world, SimStageState& stage);
/// Asks for a clock; the last request wins and takes effect a switch latency later.
void request_clock(SimLayout& world, SimGpuState& gpu, std::int32_t clock_mhz);

/// When the next clock takes effect or the next instruction ends; kNever if nothing is under way.
[[nodiscard]] std::int64_t next_physical_event(SimLayout& world);
/// When throttling or an intrusion begins or ends next; kNever without any. Never what somebody waits for.
[[nodiscard]] std::int64_t next_episode_change(SimLayout& world);
/// Lets everything that happens at `world.now_ns` or before take place, in a fixed order.
void apply_physical_events(SimLayout& world);

struct SimCounter {
  double total_j;
  std::int64_t tick_ns;
};
[[nodiscard]] SimCounter read_counter(SimLayout& world, SimGpuState& gpu);
[[nodiscard]] std::int32_t observed_mhz(SimLayout& world, const SimGpuState& gpu);
[[nodiscard]] double power_now(const SimLayout& world, const SimGpuState& gpu);

}  // namespace slackline
