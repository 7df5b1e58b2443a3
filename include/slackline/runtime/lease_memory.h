#pragma once
#include <array>
#include <atomic>
#include <cstdint>

namespace slackline {

// What the client and the agent share during a lease: one memfd, made and sized by the agent. The client
// writes the request word and the event ring, the agent everything else. Nothing in it is ever taken as a
// length or an offset.

/// Name of the variable in which a job finds the agent's socket.
inline constexpr const char* kSocketVariable = "SLACKLINE_SOCKET";
inline constexpr std::uint32_t kProtocolMagic = 0x6b6c5301;

/// First message on the socket, from the client.
struct Hello {
  std::uint32_t magic;
  std::int32_t stage;
  std::int32_t stages;
};

/// Its answer. With status 0 the lease's memfd and the doorbell (an eventfd) come along.
struct Welcome {
  std::uint32_t magic;
  std::int32_t status;  // 0, or refused
  std::int32_t plan_length;
  std::int32_t baseline_steps;
  std::array<char, 256> text;        // why it was refused
  std::array<char, 1024> sim_world;  // path of the simulated GPUs, or ""
};

/// One instruction of the plan of a stage.
struct PlanEntry {
  std::int32_t kind;
  std::int32_t microbatch;
  std::int32_t clock_mhz;
};

enum class LeaseEventType : std::int32_t { kStepBegin, kStepEnd, kBegin, kAgain, kEnd, kOutOfSequence };

/// What the job did, and when on the device's timeline.
struct LeaseEvent {
  LeaseEventType type;
  std::int32_t kind;
  std::int64_t time_ns;
};

struct LeaseMemory {
  /// Events that fit before the agent must have read them; a step of a few thousand instructions.
  static constexpr std::size_t kEvents = std::size_t{1} << 15;

  /// (sequence << 32) | clock in MHz; 0 MHz asks for the baseline. The latest request wins.
  std::atomic<std::uint64_t> request;
  std::atomic<std::uint64_t> events_written;
  /// One bit an instruction kind: run it again instead of going on. Set by the agent.
  std::atomic<std::uint32_t> repeat_kinds;
  /// The schedule no longer applies: request nothing but the baseline. Set by the agent.
  std::atomic<std::uint32_t> released;
  std::array<LeaseEvent, kEvents> events;
  // plan_length PlanEntry follow.
  [[nodiscard]] PlanEntry* plan() { return reinterpret_cast<PlanEntry*>(this + 1); }

  static std::size_t bytes(std::size_t plan_length) {
    return sizeof(LeaseMemory) + plan_length * sizeof(PlanEntry);
  }
};

static_assert(std::atomic<std::uint64_t>::is_always_lock_free);

}  // namespace slackline
