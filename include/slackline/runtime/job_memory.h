#pragma once
#include <array>
#include <atomic>
#include <cstdint>

namespace slackline {

// What a process of a job and the `apply` or `profile` around it share: one memfd a process, made and sized
// by the latter. The process writes the event ring, the other side everything else. Clocks are not asked for
// here but of an agent: see lease_protocol.h.

/// Name of the variable in which a job finds its server's socket.
inline constexpr const char* kSocketVariable = "SLACKLINE_SOCKET";
inline constexpr std::uint32_t kJobMagic = 0x6b6c5304;  // changes with the protocol

/// First message on the socket, from the process.
struct JobHello {
  std::uint32_t magic;
  std::int32_t stage;
  std::int32_t stages;
};

/// GPUs of a stage that a process may drive.
inline constexpr std::size_t kMostStageGpus = 64;

/// Its answer. With status 0 the memfd and the doorbell (an eventfd) come along.
struct JobWelcome {
  std::uint32_t magic;
  std::int32_t status;  // 0, or refused
  std::int32_t plan_length;
  std::int32_t baseline_steps;
  std::int32_t gpu_count;                                 // to be leased; 0: leave the clocks alone
  std::array<std::array<char, 64>, kMostStageGpus> gpus;  // their UUIDs
  std::array<char, 256> agent_socket;                     // who leases them
  std::array<char, 256> text;                             // why it was refused
  std::array<char, 1024> sim_world;                       // path of the simulated GPUs, or ""
};

/// One instruction of the plan of a stage.
struct PlanEntry {
  std::int32_t kind;
  std::int32_t microbatch;
  std::int32_t clock_mhz;
};

enum class JobEventType : std::int32_t {
  kStepBegin,
  kStepEnd,
  kBegin,
  kAgain,
  kEnd,
  kOutOfSequence,
  kTook,     // the run under way took so many nanoseconds by the device's own clock, which are in time_ns
  kNoLease,  // its GPUs stay as they are: the agent refused, or has ended the lease
};

/// What the job did, and when on the device's timeline.
struct JobEvent {
  JobEventType type;
  std::int32_t kind;
  std::int64_t time_ns;
};

struct JobMemory {
  /// Events that fit before they must have been read; a step of a few thousand instructions.
  static constexpr std::size_t kEvents = std::size_t{1} << 15;

  std::atomic<std::uint64_t> events_written;
  /// The doorbell has been rung this often (modulo 2^32).
  std::atomic<std::uint32_t> rings;
  /// One bit an instruction kind: run it again instead of going on. Set by the server.
  std::atomic<std::uint32_t> repeat_kinds;
  /// The schedule no longer applies: ask for nothing but the baseline. Set by the server.
  std::atomic<std::uint32_t> released;
  /// Wait for so many milliseconds, once, before the next step begins. Set by the server, taken by the
  /// process.
  std::atomic<std::uint32_t> hold_ms;
  std::array<JobEvent, kEvents> events;
  // plan_length PlanEntry follow.
  [[nodiscard]] PlanEntry* plan() { return reinterpret_cast<PlanEntry*>(this + 1); }

  static std::size_t bytes(std::size_t plan_length) {
    return sizeof(JobMemory) + plan_length * sizeof(PlanEntry);
  }
};

static_assert(std::atomic<std::uint64_t>::is_always_lock_free);

}  // namespace slackline
