#include "sim_time.h"

#include <linux/futex.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

#include <algorithm>
#include <climits>
#include <cmath>
#include <string>

#include "sim_physics.h"
#include "slackline/base/error.h"

namespace slackline {
namespace {

constexpr double kNanosecondsPerSecond = 1e9;

void futex_wake(std::atomic<std::uint32_t>& word) {
  word.fetch_add(1);
  ::syscall(SYS_futex, &word, FUTEX_WAKE, INT_MAX, nullptr, nullptr, 0);
}

std::int64_t untaken(const SimLayout& world, std::uint64_t channel) {
  for (std::size_t i = 0; i < world.channels.size(); ++i) {
    const SimChannelState& state = world.channels[(channel + i) % world.channels.size()];
    if (state.used == 0) return 0;
    if (state.id == channel) return state.untaken;
  }
  return 0;
}

/// The job is over, whatever of it may still be around.
bool may_observers_run_on(SimLayout& world) {
  return std::ranges::none_of(world.participants(), [](const SimParticipantState& participant) {
    return participant.is_job == 0 && participant.activity == SimActivity::kRunning;
  });
}

bool may_advance(SimLayout& world) {
  if (world.observers_run_on != 0) return may_observers_run_on(world);
  for (const SimRankState& rank : world.ranks()) {
    if (rank.joined == 0) return false;
  }
  bool has_job = false;
  for (const SimParticipantState& participant : world.participants()) {
    if (participant.activity == SimActivity::kFree) continue;
    has_job = has_job || participant.is_job != 0;
    if (participant.activity == SimActivity::kRunning) return false;
    const bool waits = participant.activity == SimActivity::kWaiting;
    if (waits && untaken(world, participant.channel) > 0) return false;
  }
  const auto waits_for = [&](const SimRequests& requests) {
    return requests.untaken > 0 && requests.server > 0 &&
           world.slots[static_cast<std::size_t>(requests.server - 1)].activity == SimActivity::kServing;
  };
  for (const SimGpuState& gpu : world.gpus()) {
    if (waits_for(gpu.requests)) return false;
  }
  for (const SimRankState& rank : world.ranks()) {
    if (waits_for(rank.tidings)) return false;
  }
  return has_job;
}

/// Everything that is due at `now_ns` happens, and those who waited for it run again.
void process_events(SimLayout& world) {
  apply_physical_events(world);
  for (SimParticipantState& participant : world.participants()) {
    const bool done =
        participant.activity == SimActivity::kComputing &&
        world.ranks()[static_cast<std::size_t>(participant.rank)].running_task == kNoInstruction;
    const bool awake = participant.activity == SimActivity::kSleeping && participant.wake_ns <= world.now_ns;
    if (done || awake) start_running(participant);
  }
}

void advance_virtual_time(SimLayout& world) {
  while (may_advance(world)) {
    const std::int64_t next = next_event(world);
    if (next == kNever) return;
    world.now_ns = std::max(world.now_ns, next);
    process_events(world);
  }
}

}  // namespace

std::int64_t to_nanoseconds(Seconds time) {
  return std::llround(time.value() * kNanosecondsPerSecond);
}
Seconds from_nanoseconds(std::int64_t ns) {
  return Seconds(static_cast<double>(ns) / kNanosecondsPerSecond);
}

std::int64_t wall_ns() {
  timespec now{};
  ::clock_gettime(CLOCK_MONOTONIC, &now);
  return now.tv_sec * 1'000'000'000 + now.tv_nsec;
}

void start_running(SimParticipantState& participant) {
  participant.activity = SimActivity::kRunning;
  futex_wake(participant.signal);
}

void wait_for_signal(SimParticipantState& participant, std::uint32_t seen, std::int64_t patience_ns) {
  const timespec timeout{patience_ns / 1'000'000'000, patience_ns % 1'000'000'000};
  ::syscall(SYS_futex, &participant.signal, FUTEX_WAIT, seen, &timeout, nullptr, 0);
}

SimChannelState& channel_state(SimLayout& world, std::uint64_t channel) {
  for (std::size_t i = 0; i < world.channels.size(); ++i) {
    SimChannelState& state = world.channels[(channel + i) % world.channels.size()];
    if (state.used != 0 && state.id != channel) continue;
    if (state.used == 0) state = {channel, 0, 1};
    return state;
  }
  throw DeviceError("send", "",
                    "the job uses more than " + std::to_string(world.channels.size()) + " channels");
}

std::int64_t next_event(SimLayout& world) {
  std::int64_t next = next_physical_event(world);
  for (const SimParticipantState& participant : world.participants()) {
    if (participant.activity == SimActivity::kSleeping) next = std::min(next, participant.wake_ns);
  }
  if (next == kNever && world.pace == 0) return kNever;
  return std::min(next, next_accident(world));
}

void follow_wall_time(SimLayout& world) {
  const auto now =
      static_cast<std::int64_t>(static_cast<double>(wall_ns() - world.wall_start_ns) * world.pace);
  while (true) {
    const std::int64_t next = next_event(world);
    if (next > now) break;
    world.now_ns = std::max(world.now_ns, next);
    process_events(world);
  }
  world.now_ns = std::max(world.now_ns, now);
}

void advance(SimLayout& world) {
  if (world.pace == 0) {
    advance_virtual_time(world);
  } else {
    follow_wall_time(world);
  }
}

void remove(SimLayout& world, SimParticipantState& participant) {
  if (participant.is_job != 0) {
    abort_instruction(world, world.ranks()[static_cast<std::size_t>(participant.rank)]);
  }
  participant.activity = SimActivity::kFree;
  const bool job_is_gone = std::ranges::none_of(world.participants(), [](const SimParticipantState& p) {
    return p.is_job != 0 && p.activity != SimActivity::kFree;
  });
  // What it had under way reaches nobody; the next job may use the same channels.
  if (job_is_gone) world.channels = {};
}

void remove_dead(SimLayout& world) {
  for (SimParticipantState& participant : world.participants()) {
    if (participant.activity == SimActivity::kFree) continue;
    if (is_alive({participant.pid, participant.start_time})) continue;
    // It may have died before it asked for what it had announced. Who leaves in order has asked, and time
    // waits for the owner of the clocks as before.
    if (participant.is_job != 0) {
      SimRankState& rank = world.ranks()[static_cast<std::size_t>(participant.rank)];
      rank.tidings.untaken = 0;
      for (std::int32_t g = 0; g < rank.gpus; ++g) {
        world.gpus()[static_cast<std::size_t>(rank.first_gpu + g)].requests.untaken = 0;
      }
    }
    remove(world, participant);
  }
}

}  // namespace slackline
