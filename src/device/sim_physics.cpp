#include "sim_physics.h"

#include <algorithm>
#include <cmath>
#include <numbers>

namespace slackline {
namespace {

constexpr double kNanosecondsPerSecond = 1e9;
/// What another process on the GPU does to ours.
constexpr double kIntruderTime = 1.3;
constexpr double kIntruderPower = 1.2;
/// Independent streams of random numbers from one seed.
enum Stream : std::uint64_t { kTimeStream = 0, kEnergyStream = 1, kThrottleStream = 2, kIntruderStream = 3 };

/// A standard normal number by Box and Muller that depends on its arguments only.
double normal(std::uint64_t seed, std::uint64_t stage, std::uint64_t execution) {
  const std::uint64_t bits = mix(mix(mix(seed) ^ stage) ^ execution);
  const double first = (static_cast<double>(bits >> 40) + 0.5) / 16777216.0;
  const double second = static_cast<double>(bits & 0xffffff) / 16777216.0;
  return std::sqrt(-2 * std::log(first)) * std::cos(2 * std::numbers::pi * second);
}

std::uint64_t index_of(SimLayout& world, const SimStageState& stage) {
  return static_cast<std::uint64_t>(&stage - world.stages().data());
}

std::uint64_t seed_of(SimLayout& world, const SimStageState& stage, Stream stream) {
  return mix(world.seed ^ static_cast<std::uint64_t>(stream) << 56) ^ index_of(world, stage);
}

/// What the GPU really runs at.
std::int32_t effective_clock(const SimLayout& world, const SimStageState& stage, const SimGpuState& gpu) {
  std::int32_t clock = gpu.current_mhz;
  if (world.stuck_mhz != 0) clock = std::min(clock, world.stuck_mhz);
  if (stage.throttled != 0) clock = std::min(clock, world.throttle_mhz);
  return clock;
}

/// Energy at a constant power, but for leakage, which rises with time.
double joules(const SimLayout& world, double power_w, std::int64_t from_ns, std::int64_t to_ns) {
  const auto length = static_cast<double>(to_ns - from_ns);
  const double energy = power_w * (length / kNanosecondsPerSecond);
  if (world.leakage == 0) return energy;
  const double middle = static_cast<double>(from_ns) / 2 + static_cast<double>(to_ns) / 2;
  return energy * (1 + world.leakage * middle / world.leakage_ns);
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
    const std::int32_t clock = effective_clock(world, stage, gpu);
    slowest = std::max(slowest, option_at(world, stage, stage.running_kind, clock).time_s);
  }
  return stage.intruded != 0 ? slowest * kIntruderTime : slowest;
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
      return gpu.total_j + joules(world, gpu.power_w, gpu.since_ns, time);
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
  const double intruder = stage.intruded != 0 ? kIntruderPower : 1;
  if (stage.running_kind == kIdle) {
    stage.completes_ns = kNever;
    for (SimGpuState& gpu : gpus_of(world, stage)) gpu.power_w = stage.blocking_w * intruder;
    return;
  }
  const double seconds = lockstep_seconds(world, stage);
  const double left_ns = stage.remaining * seconds * stage.noise_factor * kNanosecondsPerSecond;
  constexpr double kCenturyNs = 3e18;  // keeps the sum in 63 bits, whatever the profile says
  stage.completes_ns = world.now_ns + static_cast<std::int64_t>(std::ceil(std::min(left_ns, kCenturyNs)));
  for (SimGpuState& gpu : gpus_of(world, stage)) {
    const SimOptionRow& option =
        option_at(world, stage, stage.running_kind, effective_clock(world, stage, gpu));
    const double energy = option.energy_j * stage.energy_factor;
    gpu.power_w = (energy + stage.blocking_w * (seconds - option.time_s)) / seconds * intruder;
  }
}

}  // namespace

void begin_instruction(SimLayout& world, SimStageState& stage, InstructionKind kind) {
  settle(world, stage);
  stage.running_kind = static_cast<std::int32_t>(kind);
  stage.remaining = 1;
  const std::uint64_t index = index_of(world, stage);
  stage.noise_factor = std::max(0.1, 1 + world.noise * normal(world.seed, index, stage.executions));
  stage.energy_factor = std::max(
      0.1, 1 + world.energy_noise * normal(mix(world.seed ^ static_cast<std::uint64_t>(kEnergyStream) << 56),
                                           index, stage.executions));
  ++stage.executions;
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

std::int64_t next_episode_change(SimLayout& world) {
  std::int64_t next = kNever;
  for (const SimStageState& stage : world.stages()) {
    next =
        std::min({next, next_change(world.throttling, seed_of(world, stage, kThrottleStream), world.now_ns),
                  next_change(world.intrusion, seed_of(world, stage, kIntruderStream), world.now_ns)});
  }
  return next;
}

void apply_physical_events(SimLayout& world) {
  for (SimStageState& stage : world.stages()) {
    const std::int32_t throttled =
        is_in_episode(world.throttling, seed_of(world, stage, kThrottleStream), world.now_ns) ? 1 : 0;
    const std::int32_t intruded =
        is_in_episode(world.intrusion, seed_of(world, stage, kIntruderStream), world.now_ns) ? 1 : 0;
    if (throttled == stage.throttled && intruded == stage.intruded) continue;
    settle(world, stage);
    stage.throttled = throttled;
    stage.intruded = intruded;
    look_ahead(world, stage);
  }
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

SimCounter read_counter(SimLayout& world, SimGpuState& gpu) {
  const bool is_first = &gpu == world.gpus().data();
  if (is_first && world.now_ns >= world.counter_stops_ns) return {gpu.shown_j, gpu.shown_ns};
  const std::int64_t tick = last_tick(world, gpu, world.now_ns);
  SimCounter counter{gpu.tick_j, gpu.tick_ns};
  if (tick >= gpu.since_ns) {
    counter = {gpu.total_j + joules(world, gpu.power_w, gpu.since_ns, tick), tick};
  }
  if (is_first && world.now_ns >= world.counter_resets_ns && gpu.reset_j == 0) gpu.reset_j = counter.total_j;
  counter.total_j -= gpu.reset_j;
  gpu.shown_j = counter.total_j;
  gpu.shown_ns = counter.tick_ns;
  return counter;
}

std::int32_t observed_mhz(SimLayout& world, const SimGpuState& gpu) {
  return effective_clock(world, world.stages()[static_cast<std::size_t>(gpu.stage)], gpu);
}

double power_now(const SimLayout& world, const SimGpuState& gpu) {
  if (world.leakage == 0) return gpu.power_w;
  return gpu.power_w * (1 + world.leakage * static_cast<double>(world.now_ns) / world.leakage_ns);
}

}  // namespace slackline
