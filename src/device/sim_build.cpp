#include "sim_build.h"

#include <algorithm>
#include <cmath>

#include "sim_physics.h"
#include "sim_time.h"

namespace slackline {
namespace {

std::size_t gpus_of(const std::vector<SimRank>& ranks) {
  std::size_t gpus = 0;
  for (const SimRank& rank : ranks) gpus += static_cast<std::size_t>(rank.gpus);
  return gpus;
}

std::size_t tasks_of(const std::vector<SimRank>& ranks) {
  std::size_t tasks = 0;
  for (const SimRank& rank : ranks) tasks += rank.instructions.size();
  return tasks;
}

/// Options of all tasks of all ranks.
std::size_t rows_of(const std::vector<SimRank>& ranks) {
  std::size_t rows = 0;
  for (const SimRank& rank : ranks) {
    for (const auto& [task, list] : rank.instructions) rows += list.size();
  }
  return rows;
}

/// The highest of these clocks that is not above `limit`, or else the lowest; 0 for a rank without any.
std::int32_t clock_within(const std::vector<std::int32_t>& clocks, Megahertz limit) {
  if (clocks.empty()) return 0;
  const auto found =
      std::find_if(clocks.begin(), clocks.end(), [&](std::int32_t clock) { return clock <= limit.value(); });
  return found == clocks.end() ? clocks.back() : *found;
}

constexpr Megahertz kNoLimit(INT32_MAX);

/// Fills the layout's arrays from their front.
class Builder {
 public:
  Builder(SimLayout& world, const SimOptions& options) : world_(world), options_(options) {}

  void add(const SimRank& rank) {
    SimRankState& state = world_.ranks()[next_rank_];
    state = {};
    state.first_gpu = next_gpu_;
    state.gpus = rank.gpus;
    state.blocking_w = rank.blocking_power.value();
    state.running_task = kNoInstruction;
    state.completes_ns = kNever;
    state.may_straggle = rank.may_straggle ? 1 : 0;
    state.first_task = next_task_;
    state.task_count = static_cast<std::int32_t>(rank.instructions.size());
    for (const auto& [task, list] : rank.instructions) {
      world_.tasks()[static_cast<std::size_t>(next_task_++)] = {static_cast<std::int32_t>(task.kind),
                                                                task.stage.value(), next_row_,
                                                                static_cast<std::int32_t>(list.size())};
      for (const SimOption& option : list) {
        world_.options()[static_cast<std::size_t>(next_row_++)] = {option.clock.value(), option.time.value(),
                                                                   option.energy.value()};
      }
    }
    const std::vector<std::int32_t> clocks = clocks_of(world_, state);
    state.throttled_mhz = clock_within(clocks, options_.throttled_clock);
    state.stuck_mhz = clock_within(clocks, options_.stuck_clock.value_or(kNoLimit));
    for (int g = 0; g < rank.gpus; ++g) add_gpu(state, clock_within(clocks, kNoLimit));
    ++next_rank_;
  }

 private:
  void add_gpu(const SimRankState& rank, std::int32_t highest_mhz) {
    const bool is_first = next_gpu_ == 0;
    const auto of_first = [is_first](const std::optional<Seconds>& time) {
      return time && is_first ? to_nanoseconds(*time) : kNever;
    };
    SimGpuState& gpu = world_.gpus()[static_cast<std::size_t>(next_gpu_++)];
    gpu = {};
    gpu.rank = static_cast<std::int32_t>(next_rank_);
    gpu.highest_mhz = highest_mhz;
    gpu.current_mhz = rank.stuck_mhz;
    // Counters of different GPUs tick at different moments; the golden ratio spreads them evenly.
    gpu.tick_phase_ns = static_cast<std::int64_t>(std::fmod(0.618033988749895 * next_gpu_, 1.0) *
                                                  static_cast<double>(world_.tick_ns));
    gpu.counter_stops_ns = of_first(options_.counter_stops);
    gpu.counter_resets_ns = of_first(options_.counter_resets);
    gpu.lost_ns = of_first(options_.lost);
  }

  SimLayout& world_;
  const SimOptions& options_;
  std::size_t next_rank_ = 0;
  std::int32_t next_gpu_ = 0;
  std::int32_t next_task_ = 0;
  std::int32_t next_row_ = 0;
};

}  // namespace

std::size_t layout_bytes(const std::vector<SimRank>& ranks) {
  return SimLayout::bytes(ranks.size(), gpus_of(ranks), rows_of(ranks), tasks_of(ranks));
}

void build(SimLayout& world, const std::vector<SimRank>& ranks, const SimOptions& options) {
  world.pace = options.pace;
  world.wall_start_ns = wall_ns();
  world.switch_ns = to_nanoseconds(options.switch_latency);
  world.tick_ns = std::max<std::int64_t>(1, to_nanoseconds(options.counter_period));
  world.noise = options.noise;
  world.energy_noise = options.energy_noise;
  world.leakage_per_s = options.leakage / options.leakage_time.value();
  const auto law = [](SimChance chance, const SimEpisodes& episodes) {
    return episode_law(chance, episodes.share, to_nanoseconds(episodes.length));
  };
  world.throttling = law(SimChance::kThrottling, options.throttling);
  world.intruder = law(SimChance::kIntruder, options.intruder);
  world.straggler = options.straggler;
  world.straggler_from_ns = to_nanoseconds(options.straggler_from);
  world.straggler_until_ns = options.straggler_until ? to_nanoseconds(*options.straggler_until) : kNever;
  world.seed = options.seed;
  world.rank_count = static_cast<std::int32_t>(ranks.size());
  world.gpu_count = static_cast<std::int32_t>(gpus_of(ranks));
  world.task_count = static_cast<std::int32_t>(tasks_of(ranks));
  world.option_count = static_cast<std::int32_t>(rows_of(ranks));
  Builder builder(world, options);
  for (const SimRank& rank : ranks) builder.add(rank);
  begin_physics(world);
}

}  // namespace slackline
