#pragma once
#include <pthread.h>

#include <array>
#include <atomic>
#include <cstdint>
#include <span>

#include "sim_episodes.h"
#include "slackline/base/instruction_kind.h"
#include "slackline/base/process.h"

namespace slackline {

// What a simulated node's file holds. Plain data: several processes map it, and a process may die while it
// writes; every field stays meaningful on its own. All but `signal` is guarded by `mutex`. Times are
// simulated nanoseconds.

constexpr std::int64_t kNever = INT64_MAX;
constexpr std::int32_t kNoInstruction = -1;

struct SimOptionRow {
  std::int32_t clock_mhz;
  double time_s;
  double energy_j;
};

/// An instruction of a rank, and its options, highest clock first.
struct SimTaskRow {
  std::int32_t kind;
  std::int32_t stage;
  std::int32_t first_option;
  std::int32_t option_count;
};

/// What was asked of a participant and is not done yet. Time waits for it only while that participant serves.
struct SimRequests {
  std::int64_t untaken;
  std::int32_t server;  // its slot, from 1; 0: nobody
};

struct SimRankState {
  std::int32_t first_gpu;
  std::int32_t gpus;
  double blocking_w;
  std::int32_t first_task;
  std::int32_t task_count;
  std::int32_t may_straggle;
  std::int32_t joined;  // a process has driven this rank
  SimRequests tidings;  // to whom the job reports

  std::int32_t throttled;      // its GPUs run at throttled_mhz at most
  std::int32_t intruded;       // another process is on its GPUs
  double straggling;           // times as long as instructions take just now
  std::int64_t episode_ns;     // when one of these changes next, or kNever
  std::int32_t throttled_mhz;  // one of its clocks
  std::int32_t stuck_mhz;      // one of its clocks, above which no request takes effect

  std::int32_t running_task;  // or kNoInstruction
  double remaining;           // of the running instruction: 1 to 0
  double noise_factor;        // on its time
  double energy_factor;       // on its energy
  std::int64_t updated_ns;
  std::int64_t completes_ns;  // or kNever
  std::uint64_t executions;
};

struct SimGpuState {
  std::int32_t rank;
  SimRequests requests;  // to whoever owns its clocks
  std::int32_t highest_mhz;
  std::int32_t locked_mhz;  // 0: not locked
  std::int32_t current_mhz;
  std::int32_t pending_mhz;  // a request that has not taken effect, or 0
  std::int64_t pending_ns;
  double power_w;  // before leakage
  double total_j;  // at since_ns; grows with power_w and leakage since then
  std::int64_t since_ns;
  double tick_j;  // what the counter shows until the first tick after since_ns
  std::int64_t tick_ns;
  std::int64_t tick_phase_ns;
  // Faults, each from its time on; or kNever.
  std::int64_t counter_stops_ns;
  std::int64_t counter_resets_ns;  // kNever once it has
  std::int64_t lost_ns;
};

enum class SimActivity : std::int32_t { kFree = 0, kRunning, kComputing, kWaiting, kSleeping, kServing };

struct SimParticipantState {
  SimActivity activity;
  std::int32_t is_job;
  std::int32_t rank;  // of a job's participant
  std::int32_t pid;
  std::uint64_t start_time;
  std::int64_t wake_ns;               // while sleeping
  std::uint64_t channel;              // while waiting
  std::atomic<std::uint32_t> signal;  // futex: counts wake-ups
};

struct SimChannelState {
  std::uint64_t id;
  std::int64_t untaken;
  std::int32_t used;
};

struct SimLayout {
  std::uint64_t magic;  // written last
  pthread_mutex_t mutex;
  std::int64_t now_ns;
  double pace;
  std::int64_t wall_start_ns;
  std::int64_t switch_ns;
  std::int64_t tick_ns;
  double noise;
  double energy_noise;
  double leakage_per_s;  // by which share of itself power grows
  SimEpisodeLaw throttling;
  SimEpisodeLaw intruder;
  double straggler;  // times as long
  std::int64_t straggler_from_ns;
  std::int64_t straggler_until_ns;
  std::uint64_t seed;
  std::int32_t observers_run_on;
  std::int32_t shut_down;
  std::int32_t rank_count;
  std::int32_t gpu_count;
  std::int32_t task_count;
  std::int32_t option_count;
  std::int32_t slots_used;  // participants beyond never took part
  std::array<SimParticipantState, 1024> slots;
  std::array<SimChannelState, 8192> channels;

  std::span<SimParticipantState> participants() {
    return {slots.data(), static_cast<std::size_t>(slots_used)};
  }

  // The arrays follow the header in this order.
  static std::size_t bytes(std::size_t ranks, std::size_t gpus, std::size_t options, std::size_t tasks) {
    return sizeof(SimLayout) + ranks * sizeof(SimRankState) + gpus * sizeof(SimGpuState) +
           options * sizeof(SimOptionRow) + tasks * sizeof(SimTaskRow);
  }
  std::span<SimRankState> ranks() {
    return {reinterpret_cast<SimRankState*>(this + 1), static_cast<std::size_t>(rank_count)};
  }
  std::span<SimGpuState> gpus() {
    return {reinterpret_cast<SimGpuState*>(ranks().data() + rank_count), static_cast<std::size_t>(gpu_count)};
  }
  std::span<SimOptionRow> options() {
    return {reinterpret_cast<SimOptionRow*>(gpus().data() + gpu_count),
            static_cast<std::size_t>(option_count)};
  }
  std::span<SimTaskRow> tasks() {
    return {reinterpret_cast<SimTaskRow*>(options().data() + option_count),
            static_cast<std::size_t>(task_count)};
  }
  std::span<SimTaskRow> tasks_of(const SimRankState& rank) {
    return tasks().subspan(static_cast<std::size_t>(rank.first_task),
                           static_cast<std::size_t>(rank.task_count));
  }
};

}  // namespace slackline
