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
const SimOptionRow& option_at(SimLayout& world, const SimTaskRow& task, std::int32_t clock) {
  const auto options = world.options().subspan(static_cast<std::size_t>(task.first_option),
                                               static_cast<std::size_t>(task.option_count));
  const auto found = std::find_if(options.begin(), options.end(),
                                  [&](const SimOptionRow& option) { return option.clock_mhz <= clock; });
  return found == options.end() ? options.back() : *found;
}

std::span<SimGpuState> gpus_of(SimLayout& world, const SimRankState& rank) {
  return world.gpus().subspan(static_cast<std::size_t>(rank.first_gpu), static_cast<std::size_t>(rank.gpus));
}

SimRankState& rank_of(SimLayout& world, const SimGpuState& gpu) {
  return world.ranks()[static_cast<std::size_t>(gpu.rank)];
}

std::size_t index_of(SimLayout& world, const SimRankState& rank) {
  return static_cast<std::size_t>(&rank - world.ranks().data());
}

const SimTaskRow& running(SimLayout& world, const SimRankState& rank) {
  return world.tasks_of(rank)[static_cast<std::size_t>(rank.running_task)];
}

double slowdown(const SimRankState& rank) {
  return (rank.intruded != 0 ? kIntruderSlowdown : 1) * rank.straggling;
}

std::int32_t clock_of(const SimRankState& rank, const SimGpuState& gpu) {
  return rank.throttled != 0 ? std::min(gpu.current_mhz, rank.throttled_mhz) : gpu.current_mhz;
}

/// Time of the running instruction at today's clocks: lockstep waits for the slowest GPU.
double lockstep_seconds(SimLayout& world, const SimRankState& rank) {
  double slowest = 0;
  for (const SimGpuState& gpu : gpus_of(world, rank)) {
    slowest = std::max(slowest, option_at(world, running(world, rank), clock_of(rank, gpu)).time_s);
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
void settle(SimLayout& world, SimRankState& rank) {
  for (SimGpuState& gpu : gpus_of(world, rank)) {
    const std::int64_t tick = last_tick(world, gpu, world.now_ns);
    if (tick >= gpu.since_ns) {
      gpu.tick_j = joules_at(world, gpu, tick);
      gpu.tick_ns = tick;
    }
    gpu.total_j = joules_at(world, gpu, world.now_ns);
    gpu.since_ns = world.now_ns;
  }
  if (rank.running_task != kNoInstruction && world.now_ns > rank.updated_ns) {
    const double duration_ns =
        lockstep_seconds(world, rank) * rank.noise_factor * slowdown(rank) * kNanosecondsPerSecond;
    const double done = static_cast<double>(world.now_ns - rank.updated_ns) / duration_ns;
    rank.remaining = std::max(0.0, rank.remaining - done);
  }
  rank.updated_ns = world.now_ns;
}

/// Powers and the end of the running instruction, from the state as it is now.
void look_ahead(SimLayout& world, SimRankState& rank) {
  const double intruder = rank.intruded != 0 ? kIntruderPower : 1;
  if (rank.running_task == kNoInstruction) {
    rank.completes_ns = kNever;
    for (SimGpuState& gpu : gpus_of(world, rank)) gpu.power_w = rank.blocking_w * intruder;
    return;
  }
  const double seconds = lockstep_seconds(world, rank);
  const double left_ns =
      rank.remaining * seconds * rank.noise_factor * slowdown(rank) * kNanosecondsPerSecond;
  constexpr double kCenturyNs = 3e18;  // keeps the sum in 63 bits, whatever the profile says
  rank.completes_ns = world.now_ns + static_cast<std::int64_t>(std::ceil(std::min(left_ns, kCenturyNs)));
  for (SimGpuState& gpu : gpus_of(world, rank)) {
    const SimOptionRow& option = option_at(world, running(world, rank), clock_of(rank, gpu));
    // A slow execution draws less: what it takes in all does not depend on its time.
    const double work_j = option.energy_j * rank.energy_factor;
    const double waiting_j = rank.blocking_w * (seconds - option.time_s) * rank.noise_factor;
    gpu.power_w = intruder * (work_j + waiting_j) / (seconds * rank.noise_factor);
  }
}

/// Brings the rank's episodes up to now.
void update_episodes(SimLayout& world, SimRankState& rank) {
  const std::size_t index = index_of(world, rank);
  const auto is_in = [&](const SimEpisodeLaw& law) {
    return in_episode(law, world.seed, index, world.now_ns) ? 1 : 0;
  };
  const auto next_edge = [&](const SimEpisodeLaw& law) {
    return next_episode_edge(law, world.seed, index, world.now_ns);
  };
  rank.throttled = is_in(world.throttling);
  rank.intruded = is_in(world.intruder);
  rank.episode_ns = std::min(next_edge(world.throttling), next_edge(world.intruder));
  rank.straggling = 1;
  if (rank.may_straggle == 0) return;
  if (world.now_ns >= world.straggler_from_ns && world.now_ns < world.straggler_until_ns)
    rank.straggling = world.straggler;
  for (const std::int64_t edge : {world.straggler_from_ns, world.straggler_until_ns}) {
    if (edge > world.now_ns) rank.episode_ns = std::min(rank.episode_ns, edge);
  }
}

void apply_clocks(SimLayout& world) {
  for (SimGpuState& gpu : world.gpus()) {
    if (gpu.pending_mhz == 0 || gpu.pending_ns > world.now_ns) continue;
    SimRankState& rank = rank_of(world, gpu);
    settle(world, rank);
    gpu.current_mhz = gpu.pending_mhz;
    gpu.pending_mhz = 0;
    look_ahead(world, rank);
  }
}

void apply_accidents(SimLayout& world) {
  for (SimRankState& rank : world.ranks()) {
    if (rank.episode_ns > world.now_ns) continue;
    settle(world, rank);
    update_episodes(world, rank);
    look_ahead(world, rank);
  }
  for (SimGpuState& gpu : world.gpus()) {
    if (gpu.counter_resets_ns > world.now_ns) continue;
    settle(world, rank_of(world, gpu));
    gpu.total_j = 0;
    gpu.tick_j = 0;
    gpu.tick_ns = world.now_ns;
    gpu.counter_resets_ns = kNever;
    look_ahead(world, rank_of(world, gpu));
  }
}

void finish_instructions(SimLayout& world) {
  for (SimRankState& rank : world.ranks()) {
    if (rank.completes_ns > world.now_ns) continue;
    settle(world, rank);
    rank.running_task = kNoInstruction;
    look_ahead(world, rank);
  }
}

}  // namespace

std::vector<std::int32_t> clocks_of(SimLayout& world, const SimRankState& rank) {
  std::set<std::int32_t, std::greater<>> clocks;
  for (const SimTaskRow& task : world.tasks_of(rank)) {
    for (std::int32_t i = 0; i < task.option_count; ++i) {
      clocks.insert(world.options()[static_cast<std::size_t>(task.first_option + i)].clock_mhz);
    }
  }
  return {clocks.begin(), clocks.end()};
}

void begin_physics(SimLayout& world) {
  for (SimRankState& rank : world.ranks()) {
    update_episodes(world, rank);
    look_ahead(world, rank);
  }
}

void begin_instruction(SimLayout& world, SimRankState& rank, std::int32_t task) {
  settle(world, rank);
  rank.running_task = task;
  rank.remaining = 1;
  const auto factor = [&](SimChance chance, double noise) {
    return std::max(0.1, 1 + noise * normal(world.seed, chance, index_of(world, rank), rank.executions));
  };
  rank.noise_factor = factor(SimChance::kTime, world.noise);
  rank.energy_factor = factor(SimChance::kEnergy, world.energy_noise);
  ++rank.executions;
  look_ahead(world, rank);
}

void abort_instruction(SimLayout& world, SimRankState& rank) {
  settle(world, rank);
  rank.running_task = kNoInstruction;
  look_ahead(world, rank);
}

void request_clock(SimLayout& world, SimGpuState& gpu, std::int32_t clock_mhz) {
  clock_mhz = std::min(clock_mhz, rank_of(world, gpu).stuck_mhz);
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
  for (const SimRankState& rank : world.ranks()) next = std::min(next, rank.completes_ns);
  return next;
}

std::int64_t next_accident(SimLayout& world) {
  std::int64_t next = kNever;
  for (const SimRankState& rank : world.ranks()) next = std::min(next, rank.episode_ns);
  for (const SimGpuState& gpu : world.gpus()) next = std::min(next, gpu.counter_resets_ns);
  return next;
}

void apply_physical_events(SimLayout& world) {
  apply_clocks(world);
  apply_accidents(world);
  finish_instructions(world);
}

std::int32_t running_clock(SimLayout& world, const SimGpuState& gpu) {
  return clock_of(rank_of(world, gpu), gpu);
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
