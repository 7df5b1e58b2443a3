#include "sim_physics.h"

#include <algorithm>
#include <cmath>
#include <numbers>

namespace slackline {
namespace {

constexpr double kNanosecondsPerSecond = 1e9;

/// SplitMix64 (Steele, Lea, Flood, OOPSLA 2014): well-mixed bits from a counter, so noise needs no shared
/// state.
std::uint64_t mix(std::uint64_t value) {
  value += 0x9e3779b97f4a7c15;
  value = (value ^ (value >> 30)) * 0xbf58476d1ce4e5b9;
  value = (value ^ (value >> 27)) * 0x94d049bb133111eb;
  return value ^ (value >> 31);
}

/// A standard normal number by Box and Muller that depends on its arguments only.
double normal(std::uint64_t seed, std::uint64_t stage, std::uint64_t execution) {
  const std::uint64_t bits = mix(mix(mix(seed) ^ stage) ^ execution);
  const double first = (static_cast<double>(bits >> 40) + 0.5) / 16777216.0;
  const double second = static_cast<double>(bits & 0xffffff) / 16777216.0;
  return std::sqrt(-2 * std::log(first)) * std::cos(2 * std::numbers::pi * second);
}

/// The measured option at `clock`, or the nearest below it, or the lowest.
const SimOptionRow& option_at(SimLayout& world, const SimStageState& stage, std::int32_t kind,
                              std::int32_t clock) {
  const auto k = static_cast<std::size_t>(kind);
  const auto options = world.options().subspan(static_cast<std::size_t>(stage.first_option[k]),
                                               static_cast<std::size_t>(stage.option_count[k]));
  const auto found = std::find_if(options.begin(), options.end(),
                                  [&](const SimOptionRow& option) { return option.clock_mhz <= clock; });
  return found == options.end() ? options.back() : *found;
}

std::span<SimGpuState> gpus_of(SimLayout& world, const SimStageState& stage) {
  return world.gpus().subspan(static_cast<std::size_t>(stage.first_gpu),
                              static_cast<std::size_t>(stage.gpus));
}

/// Time of the running instruction at today's clocks: lockstep waits for the slowest GPU.
double lockstep_seconds(SimLayout& world, const SimStageState& stage) {
  double slowest = 0;
  for (const SimGpuState& gpu : gpus_of(world, stage)) {
    slowest = std::max(slowest, option_at(world, stage, stage.running_kind, gpu.current_mhz).time_s);
  }
  return slowest;
}

std::int64_t last_tick(const SimLayout& world, const SimGpuState& gpu, std::int64_t time) {
  if (time < gpu.tick_phase_ns) return 0;
  return time - (time - gpu.tick_phase_ns) % world.tick_ns;
}

/// Books the energy and the work done since the last change.
void settle(SimLayout& world, SimStageState& stage) {
  for (SimGpuState& gpu : gpus_of(world, stage)) {
    const std::int64_t tick = last_tick(world, gpu, world.now_ns);
    const auto joules_at = [&](std::int64_t time) {
      return gpu.total_j + gpu.power_w * (static_cast<double>(time - gpu.since_ns) / kNanosecondsPerSecond);
    };
    if (tick >= gpu.since_ns) {
      gpu.tick_j = joules_at(tick);
      gpu.tick_ns = tick;
    }
    gpu.total_j = joules_at(world.now_ns);
    gpu.since_ns = world.now_ns;
  }
  if (stage.running_kind != kIdle && world.now_ns > stage.updated_ns) {
    const double duration_ns = lockstep_seconds(world, stage) * stage.noise_factor * kNanosecondsPerSecond;
    const double done = static_cast<double>(world.now_ns - stage.updated_ns) / duration_ns;
    stage.remaining = std::max(0.0, stage.remaining - done);
  }
  stage.updated_ns = world.now_ns;
}

/// Powers and the end of the running instruction, from the state as it is now.
void look_ahead(SimLayout& world, SimStageState& stage) {
  if (stage.running_kind == kIdle) {
    stage.completes_ns = kNever;
    for (SimGpuState& gpu : gpus_of(world, stage)) gpu.power_w = stage.blocking_w;
    return;
  }
  const double seconds = lockstep_seconds(world, stage);
  const double left_ns = stage.remaining * seconds * stage.noise_factor * kNanosecondsPerSecond;
  constexpr double kCenturyNs = 3e18;  // keeps the sum in 63 bits, whatever the profile says
  stage.completes_ns = world.now_ns + static_cast<std::int64_t>(std::ceil(std::min(left_ns, kCenturyNs)));
  for (SimGpuState& gpu : gpus_of(world, stage)) {
    const SimOptionRow& option = option_at(world, stage, stage.running_kind, gpu.current_mhz);
    gpu.power_w = (option.energy_j + stage.blocking_w * (seconds - option.time_s)) / seconds;
  }
}

}  // namespace

void begin_instruction(SimLayout& world, SimStageState& stage, InstructionKind kind) {
  settle(world, stage);
  stage.running_kind = static_cast<std::int32_t>(kind);
  stage.remaining = 1;
  const auto index = static_cast<std::uint64_t>(&stage - world.stages().data());
  stage.noise_factor = std::max(0.1, 1 + world.noise * normal(world.seed, index, stage.executions++));
  look_ahead(world, stage);
}

void abort_instruction(SimLayout& world, SimStageState& stage) {
  settle(world, stage);
  stage.running_kind = kIdle;
  look_ahead(world, stage);
}

void request_clock(SimLayout& world, SimGpuState& gpu, std::int32_t clock_mhz) {
  const std::int32_t target = gpu.pending_mhz != 0 ? gpu.pending_mhz : gpu.current_mhz;
  if (target == clock_mhz) return;
  gpu.pending_mhz = clock_mhz;
  gpu.pending_ns = world.now_ns + world.switch_ns;
}

std::int64_t next_physical_event(SimLayout& world) {
  std::int64_t next = kNever;
  for (const SimGpuState& gpu : world.gpus()) {
    if (gpu.pending_mhz != 0) next = std::min(next, gpu.pending_ns);
  }
  for (const SimStageState& stage : world.stages()) next = std::min(next, stage.completes_ns);
  return next;
}

void apply_physical_events(SimLayout& world) {
  for (SimGpuState& gpu : world.gpus()) {
    if (gpu.pending_mhz == 0 || gpu.pending_ns > world.now_ns) continue;
    SimStageState& stage = world.stages()[static_cast<std::size_t>(gpu.stage)];
    settle(world, stage);
    gpu.current_mhz = gpu.pending_mhz;
    gpu.pending_mhz = 0;
    look_ahead(world, stage);
  }
  for (SimStageState& stage : world.stages()) {
    if (stage.completes_ns > world.now_ns) continue;
    settle(world, stage);
    stage.running_kind = kIdle;
    look_ahead(world, stage);
  }
}

SimCounter read_counter(const SimLayout& world, const SimGpuState& gpu) {
  const std::int64_t tick = last_tick(world, gpu, world.now_ns);
  if (tick < gpu.since_ns) return {gpu.tick_j, gpu.tick_ns};
  return {gpu.total_j + gpu.power_w * (static_cast<double>(tick - gpu.since_ns) / kNanosecondsPerSecond),
          tick};
}

}  // namespace slackline
