#include "sim_physics.h"

#include <algorithm>
#include <cmath>
#include <cstddef>
#include <functional>
#include <set>

namespace slackline {
namespace {

constexpr double kNanosecondsPerSecond = 1e9;

/// What another process on the same GPUs costs: they share the multiprocessors.
constexpr double kIntruderSlowdown = 1.3;
constexpr double kIntruderPower = 1.2;

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

SimStageState& stage_of(SimLayout& world, const SimGpuState& gpu) {
  return world.stages()[static_cast<std::size_t>(gpu.stage)];
}

std::size_t index_of(SimLayout& world, const SimStageState& stage) {
  return static_cast<std::size_t>(&stage - world.stages().data());
}

double slowdown(const SimStageState& stage) {
  return stage.intruded != 0 ? kIntruderSlowdown : 1;
}

std::int32_t clock_of(const SimStageState& stage, const SimGpuState& gpu) {
  return stage.throttled != 0 ? std::min(gpu.current_mhz, stage.throttled_mhz) : gpu.current_mhz;
}

/// Time of the running instruction at today's clocks: lockstep waits for the slowest GPU.
double lockstep_seconds(SimLayout& world, const SimStageState& stage) {
  double slowest = 0;
  for (const SimGpuState& gpu : gpus_of(world, stage)) {
    slowest = std::max(slowest, option_at(world, stage, stage.running_kind, clock_of(stage, gpu)).time_s);
  }
  return slowest;
}

std::int64_t last_tick(const SimLayout& world, const SimGpuState& gpu, std::int64_t time) {
  time = std::min(time, gpu.counter_stops_ns);
  if (time < gpu.tick_phase_ns) return 0;
  return time - (time - gpu.tick_phase_ns) % world.tick_ns;
}

double seconds_of(std::int64_t ns) {
  return static_cast<double>(ns) / kNanosecondsPerSecond;
}

/// The integral of power until `time`, which is not before since_ns. Power is linear in time, so its mean is
/// that at half time.
double joules_at(const SimLayout& world, const SimGpuState& gpu, std::int64_t time) {
  const double seconds = seconds_of(time - gpu.since_ns);
  const double half_time = seconds_of(gpu.since_ns) + seconds / 2;
  return gpu.total_j + gpu.power_w * (seconds * (1 + world.leakage_per_s * half_time));
}

/// Books the energy and the work done since the last change.
void settle(SimLayout& world, SimStageState& stage) {
  for (SimGpuState& gpu : gpus_of(world, stage)) {
    const std::int64_t tick = last_tick(world, gpu, world.now_ns);
    if (tick >= gpu.since_ns) {
      gpu.tick_j = joules_at(world, gpu, tick);
      gpu.tick_ns = tick;
    }
    gpu.total_j = joules_at(world, gpu, world.now_ns);
    gpu.since_ns = world.now_ns;
  }
  if (stage.running_kind != kNoInstruction && world.now_ns > stage.updated_ns) {
    const double duration_ns =
        lockstep_seconds(world, stage) * stage.noise_factor * slowdown(stage) * kNanosecondsPerSecond;
    const double done = static_cast<double>(world.now_ns - stage.updated_ns) / duration_ns;
    stage.remaining = std::max(0.0, stage.remaining - done);
  }
  stage.updated_ns = world.now_ns;
}

/// Powers and the end of the running instruction, from the state as it is now.
void look_ahead(SimLayout& world, SimStageState& stage) {
  const double intruder = stage.intruded != 0 ? kIntruderPower : 1;
  if (stage.running_kind == kNoInstruction) {
    stage.completes_ns = kNever;
    for (SimGpuState& gpu : gpus_of(world, stage)) gpu.power_w = stage.blocking_w * intruder;
    return;
  }
  const double seconds = lockstep_seconds(world, stage);
  const double left_ns =
      stage.remaining * seconds * stage.noise_factor * slowdown(stage) * kNanosecondsPerSecond;
  constexpr double kCenturyNs = 3e18;  // keeps the sum in 63 bits, whatever the profile says
  stage.completes_ns = world.now_ns + static_cast<std::int64_t>(std::ceil(std::min(left_ns, kCenturyNs)));
  for (SimGpuState& gpu : gpus_of(world, stage)) {
    const SimOptionRow& option = option_at(world, stage, stage.running_kind, clock_of(stage, gpu));
    // A slow execution draws less: what it takes in all does not depend on its time.
    const double work_j = option.energy_j * stage.energy_factor;
    const double waiting_j = stage.blocking_w * (seconds - option.time_s) * stage.noise_factor;
    gpu.power_w = intruder * (work_j + waiting_j) / (seconds * stage.noise_factor);
  }
}

/// Brings the stage's episodes up to now.
void update_episodes(SimLayout& world, SimStageState& stage) {
  const std::size_t index = index_of(world, stage);
  const auto is_in = [&](const SimEpisodeLaw& law) {
    return in_episode(law, world.seed, index, world.now_ns) ? 1 : 0;
  };
  const auto next_edge = [&](const SimEpisodeLaw& law) {
    return next_episode_edge(law, world.seed, index, world.now_ns);
  };
  stage.throttled = is_in(world.throttling);
  stage.intruded = is_in(world.intruder);
  stage.episode_ns = std::min(next_edge(world.throttling), next_edge(world.intruder));
}

void apply_clocks(SimLayout& world) {
  for (SimGpuState& gpu : world.gpus()) {
    if (gpu.pending_mhz == 0 || gpu.pending_ns > world.now_ns) continue;
    SimStageState& stage = stage_of(world, gpu);
    settle(world, stage);
    gpu.current_mhz = gpu.pending_mhz;
    gpu.pending_mhz = 0;
    look_ahead(world, stage);
  }
}

void apply_accidents(SimLayout& world) {
  for (SimStageState& stage : world.stages()) {
    if (stage.episode_ns > world.now_ns) continue;
    settle(world, stage);
    update_episodes(world, stage);
    look_ahead(world, stage);
  }
  for (SimGpuState& gpu : world.gpus()) {
    if (gpu.counter_resets_ns > world.now_ns) continue;
    settle(world, stage_of(world, gpu));
    gpu.total_j = 0;
    gpu.tick_j = 0;
    gpu.tick_ns = world.now_ns;
    gpu.counter_resets_ns = kNever;
    look_ahead(world, stage_of(world, gpu));
  }
}

void finish_instructions(SimLayout& world) {
  for (SimStageState& stage : world.stages()) {
    if (stage.completes_ns > world.now_ns) continue;
    settle(world, stage);
    stage.running_kind = kNoInstruction;
    look_ahead(world, stage);
  }
}

}  // namespace

std::vector<std::int32_t> clocks_of(SimLayout& world, const SimStageState& stage) {
  std::set<std::int32_t, std::greater<>> clocks;
  for (const InstructionKind kind : kInstructionKinds) {
    const auto k = static_cast<std::size_t>(kind);
    for (std::int32_t i = 0; i < stage.option_count[k]; ++i) {
      clocks.insert(world.options()[static_cast<std::size_t>(stage.first_option[k] + i)].clock_mhz);
    }
  }
  return {clocks.begin(), clocks.end()};
}

void begin_physics(SimLayout& world) {
  for (SimStageState& stage : world.stages()) {
    update_episodes(world, stage);
    look_ahead(world, stage);
  }
}

void begin_instruction(SimLayout& world, SimStageState& stage, InstructionKind kind) {
  settle(world, stage);
  stage.running_kind = static_cast<std::int32_t>(kind);
  stage.remaining = 1;
  const auto factor = [&](SimChance chance, double noise) {
    return std::max(0.1, 1 + noise * normal(world.seed, chance, index_of(world, stage), stage.executions));
  };
  stage.noise_factor = factor(SimChance::kTime, world.noise);
  stage.energy_factor = factor(SimChance::kEnergy, world.energy_noise);
  ++stage.executions;
  look_ahead(world, stage);
}

void abort_instruction(SimLayout& world, SimStageState& stage) {
  settle(world, stage);
  stage.running_kind = kNoInstruction;
  look_ahead(world, stage);
}

void request_clock(SimLayout& world, SimGpuState& gpu, std::int32_t clock_mhz) {
  clock_mhz = std::min(clock_mhz, stage_of(world, gpu).stuck_mhz);
  if (gpu.pending_mhz == clock_mhz) return;
  if (gpu.current_mhz == clock_mhz) {
    // Whether what this overtakes was asked for at all depends on how fast the asking was on the host.
    gpu.pending_mhz = 0;
    return;
  }
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

std::int64_t next_accident(SimLayout& world) {
  std::int64_t next = kNever;
  for (const SimStageState& stage : world.stages()) next = std::min(next, stage.episode_ns);
  for (const SimGpuState& gpu : world.gpus()) next = std::min(next, gpu.counter_resets_ns);
  return next;
}

void apply_physical_events(SimLayout& world) {
  apply_clocks(world);
  apply_accidents(world);
  finish_instructions(world);
}

std::int32_t running_clock(SimLayout& world, const SimGpuState& gpu) {
  return clock_of(stage_of(world, gpu), gpu);
}

double power_now(const SimLayout& world, const SimGpuState& gpu) {
  return gpu.power_w * (1 + world.leakage_per_s * seconds_of(world.now_ns));
}

SimCounter read_counter(const SimLayout& world, const SimGpuState& gpu) {
  const std::int64_t tick = last_tick(world, gpu, world.now_ns);
  if (tick < gpu.since_ns) return {gpu.tick_j, gpu.tick_ns};
  return {joules_at(world, gpu, tick), tick};
}

}  // namespace slackline
