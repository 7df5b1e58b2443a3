#pragma once
#include <array>
#include <atomic>
#include <cstdint>
#include <string>

namespace slackline {

// How a process leases GPUs from an agent, and asks for clocks.
//
//   client                                  agent
//     | LeaseHello ------------------------> |   who, which GPUs; checked against kernel and policy
//     | <------------- LeaseAnswer + 2 memfd |   granted, or why not
//     |                                      |
//     | RequestMemory (the client writes) -> |   one word: what the GPUs shall run at
//     | <- ResultMemory (the agent writes)   |   what they do
//     | one byte now and then -------------> |   "look": only when the agent says that it sleeps
//     | close, or die ---------------------> |   the GPUs go back to where they were
//
// The agent sleeps until something happens at any of its descriptors, deaths and new clients among them; so
// what wakes it is a byte on the connection, not a futex in the shared word.
//
// The agent trusts nothing that it reads: a message has one size or the connection ends; the request word is
// loaded once, and its index looked up in a list of the agent's own. Both memories are sealed: neither side
// can cut them short under the other, and the client cannot write the second.

inline constexpr std::uint32_t kLeaseMagic = 0x6b6c5303;  // changes with the protocol
/// GPUs that one process may lease together; they get the same clocks.
inline constexpr std::size_t kMostLeasedGpus = 64;
inline constexpr std::size_t kMostClocks = 1024;

struct LeaseHello {
  std::uint32_t magic;
  std::uint32_t gpu_count;
  /// When the process began (ticks since boot, from /proc; 0: it cannot tell): on kernels that do not say
  /// themselves who connected, a process number that was used again in the meantime does not pass for its
  /// former owner.
  std::uint64_t start_time;
  std::array<std::array<char, 64>, kMostLeasedGpus> gpus;  // UUIDs, each ended by a zero
};

enum class LeaseStatus : std::int32_t { kGranted = 0, kRefused = 1 };

struct LeaseAnswer {
  std::uint32_t magic;
  LeaseStatus status;
  /// The agent cannot see the process die (another PID namespace): one byte this often, please. 0: no need.
  std::uint32_t heartbeat_ms;
  std::uint32_t reserved;
  std::array<char, 512> text;  // why it was refused
};

/// A request: (sequence << 32) | (in_step << 31) | clock number. Number 0 is the baseline, k the clock k-1 of
/// ResultMemory::clocks_mhz. Posting anew overwrites: the latest wins.
struct ClockRequest {
  std::uint32_t sequence = 0;
  /// More is about to come: the agent looks every fraction of a millisecond rather than sleep.
  bool in_step = false;
  std::uint32_t clock = 0;

  [[nodiscard]] constexpr std::uint64_t word() const {
    return std::uint64_t{sequence} << 32 | (in_step ? std::uint64_t{1} << 31 : 0) | clock;
  }
  [[nodiscard]] static constexpr ClockRequest of(std::uint64_t word) {
    return {static_cast<std::uint32_t>(word >> 32), (word >> 31 & 1) != 0,
            static_cast<std::uint32_t>(word & 0x7fffffff)};
  }
};

struct RequestMemory {
  std::atomic<std::uint64_t> request;
};

/// What became of the latest request on one GPU. Each field is of its own time; `sequence` is written last.
struct GpuResult {
  std::atomic<std::uint32_t> sequence;           // of the last request that was dealt with
  std::atomic<std::int32_t> requested_mhz;       // 0: the baseline
  std::atomic<std::int32_t> observed_mhz;        // read back last; 0: never, or it cannot be read
  std::atomic<std::uint32_t> observed_sequence;  // of the request whose clock that was to be
  std::atomic<std::uint32_t> event_reasons;      // EventReasons::bits, read with it
  std::atomic<std::int64_t> latency_ns;          // from when the agent saw the request to the driver's answer
  std::atomic<std::uint32_t> failures;           // requests that the driver refused
};

/// Why a lease is over.
enum class LeaseEnd : std::uint32_t {
  kNotYet,
  kClosed,
  kProcessEnded,
  kProtocolBroken,
  kClockNotAllowed,
  kDriverRefused,
  kSilent,
  kAgentEnded,
};
inline constexpr std::array kLeaseEnds{"",
                                       "closed",
                                       "process ended",
                                       "protocol broken",
                                       "clock not allowed",
                                       "driver refused",
                                       "silent for too long",
                                       "agent ended"};
/// As logs and metrics have it; "" for what is none.
[[nodiscard]] inline const char* text_of(LeaseEnd end) {
  const auto index = static_cast<std::size_t>(end);
  return index < kLeaseEnds.size() ? kLeaseEnds[index] : "";
}

struct ResultMemory {
  /// Not kNotYet: the lease is over, and its GPUs are at their baseline or on the way there.
  std::atomic<LeaseEnd> ended;
  /// The agent does not look at the request word until it is sent a byte.
  std::atomic<std::uint32_t> asleep;
  std::uint32_t gpu_count;
  std::uint32_t clock_count;
  std::array<std::int32_t, kMostClocks> clocks_mhz;  // highest first; constant
  std::array<GpuResult, kMostLeasedGpus> gpus;       // in the order of the hello
};

static_assert(std::atomic<std::uint64_t>::is_always_lock_free);
static_assert(std::atomic<std::int64_t>::is_always_lock_free);
static_assert(std::atomic<std::uint32_t>::is_always_lock_free);
static_assert(std::atomic<LeaseEnd>::is_always_lock_free);
static_assert(sizeof(LeaseHello) == 16 + 64 * kMostLeasedGpus);

/// Where the agent of a node listens.
inline constexpr const char* kAgentSocket = "/run/slackline/agent.sock";

}  // namespace slackline
