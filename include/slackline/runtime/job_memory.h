#pragma once
#include <array>
#include <atomic>
#include <cstdint>
#include <span>

namespace slackline {

// What the processes of a job and the `apply` or `profile` around them share: one memfd a process, and one
// board for all, made and sized by the latter. A process writes its event ring, the other side the rest of
// its memory. Clocks are not asked for here but of an agent: see lease_protocol.h.

/// Name of the variable in which a job finds its server's socket.
inline constexpr const char* kSocketVariable = "SLACKLINE_SOCKET";
inline constexpr std::uint32_t kJobMagic = 0x6b6c5305;  // changes with the protocol

/// Room for a GPU's UUID, with its 0.
using GpuName = std::array<char, 64>;

/// First message on the socket, from the process: its place in the job. A pipeline's ranks are the rows of
/// its order; pipelines are replicas; lanes are processes of one rank that work in lockstep (tensor
/// parallelism).
struct JobHello {
  std::uint32_t magic;
  std::int32_t rank;
  std::int32_t ranks;
  std::int32_t pipeline;
  std::int32_t pipelines;
  std::int32_t lane;
  std::int32_t lanes;
  GpuName gpu;  // the one that it drives, or "": those that its place has
};

/// GPUs of a rank that a process may drive.
inline constexpr std::size_t kMostRankGpus = 64;

/// How long the tables are that follow JobMemory.
struct JobShape {
  std::int32_t order_length;  // 0: no schedule
  std::int32_t clock_count;
  std::int32_t plan_capacity;
};

/// Its answer. With status 0 the memfd, the doorbell (an eventfd) and the board come along.
struct JobWelcome {
  std::uint32_t magic;
  std::int32_t status;  // 0, or refused
  JobShape shape;
  std::int32_t plan_count;      // more than one: the ranks of a pipeline must agree, step by step
  std::int32_t baseline_steps;  // at the baseline, in which the order is checked
  std::int32_t epoch;           // counts the runs of the job, each from its step 0
  std::int32_t joins_late;      // others are steps ahead: it cannot agree with them
  std::int32_t detect_steps;    // a pipeline that is behind for so many is a straggler; 0: nobody looks
  double detect_share;          // behind: by more than this share
  std::int32_t gpu_count;       // to be leased; 0: leave the clocks alone
  std::array<GpuName, kMostRankGpus> gpus;
  std::array<char, 256> agent_socket;  // who leases them
  std::array<char, 256> text;          // why it was refused
  std::array<char, 1024> sim_world;    // path of the simulated GPUs, or ""
};

/// Instead of a hello, from anybody: a pipeline of the job, or (-1) something that all of them wait for,
/// takes `slowdown` times as long as it should from now on. 1: no longer.
inline constexpr std::uint32_t kNoticeMagic = 0x6b6c4e01;
struct JobNotice {
  std::uint32_t magic;
  std::int32_t pipeline;
  double slowdown;
};
inline constexpr double kMostSlowdown = 1000;

struct JobNoticeAnswer {
  std::uint32_t magic;
  std::int32_t status;  // 0, or refused
  std::array<char, 256> text;
};

/// One instruction of a rank.
struct OrderEntry {
  std::int32_t kind;
  std::int32_t stage;
  std::int32_t microbatch;
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
  kPlan,     // the step that has begun follows the plan with the number that `kind` holds; -1: none
};

/// What the job did, and when on the device's timeline.
struct JobEvent {
  JobEventType type;
  std::int32_t kind;
  std::int32_t stage;      // of an instruction; -1 where the process does not tell
  std::int32_t clock_mhz;  // that it was to run at; 0: the baseline
  std::int64_t time_ns;
};

/// Written by the server alone, but for `events` and their number, and what the process takes.
struct JobMemory {
  /// Events that fit before they must have been read; a step of a few thousand instructions.
  static constexpr std::size_t kEvents = std::size_t{1} << 15;

  std::atomic<std::uint64_t> events_written;
  /// The doorbell has been rung this often (modulo 2^32).
  std::atomic<std::uint32_t> rings;
  /// One bit an instruction kind: run it again instead of going on.
  std::atomic<std::uint32_t> repeat_kinds;
  /// The schedule no longer applies: ask for nothing but the baseline.
  std::atomic<std::uint32_t> released;
  /// Wait for so many milliseconds, once, before the next step begins. Taken by the process.
  std::atomic<std::uint32_t> hold_ms;
  std::array<JobEvent, kEvents> events;
  // The tables follow; see JobTables.
};

static_assert(std::atomic<std::uint64_t>::is_always_lock_free);
static_assert(sizeof(JobMemory) % alignof(double) == 0);

/// What follows a JobMemory: what its rank runs, and at which clocks.
class JobTables {
 public:
  JobTables(void* memory, const JobShape& shape)
      : memory_(static_cast<std::byte*>(memory) + sizeof(JobMemory)), shape_(shape) {}

  /// Of the memory as a whole. `shape` must be plausible().
  static std::size_t bytes(const JobShape& shape) {
    const auto [length, clocks, plans] = sizes(shape);
    return sizeof(JobMemory) + plans * sizeof(double) + length * sizeof(OrderEntry) +
           clocks * sizeof(std::int32_t) + plans * length * sizeof(std::uint16_t);
  }
  static bool plausible(const JobShape& shape) {
    constexpr std::int32_t kMost = 1 << 28;
    const auto is_in_range = [](std::int32_t n) { return n >= 0 && n <= kMost; };
    return is_in_range(shape.order_length) && shape.clock_count >= 0 && shape.clock_count <= UINT16_MAX &&
           is_in_range(shape.plan_capacity);
  }

  [[nodiscard]] std::int32_t plan_capacity() const { return shape_.plan_capacity; }
  /// Iteration time of each plan.
  [[nodiscard]] std::span<double> seconds() const { return {at<double>(0), sizes(shape_).plans}; }
  [[nodiscard]] std::span<OrderEntry> order() const {
    return {at<OrderEntry>(seconds().size_bytes()), sizes(shape_).length};
  }
  /// In MHz; plans name clocks by their places here.
  [[nodiscard]] std::span<std::int32_t> clocks() const {
    return {at<std::int32_t>(seconds().size_bytes() + order().size_bytes()), sizes(shape_).clocks};
  }
  /// A clock for each instruction of the order.
  [[nodiscard]] std::span<std::uint16_t> plan(std::size_t number) const {
    const std::size_t before = seconds().size_bytes() + order().size_bytes() + clocks().size_bytes();
    return {at<std::uint16_t>(before) + number * sizes(shape_).length, sizes(shape_).length};
  }

 private:
  struct Sizes {
    std::size_t length;
    std::size_t clocks;
    std::size_t plans;
  };
  static Sizes sizes(const JobShape& shape) {
    return {static_cast<std::size_t>(shape.order_length), static_cast<std::size_t>(shape.clock_count),
            static_cast<std::size_t>(shape.plan_capacity)};
  }
  template <class T>
  [[nodiscard]] T* at(std::size_t offset) const {
    return reinterpret_cast<T*>(memory_ + offset);
  }

  std::byte* memory_;
  JobShape shape_;
};

/// What the processes of a job on one node tell each other. All of them and the server map it.
///
/// Agreement. All ranks of a pipeline follow the same plan in the same step, though each is at its own point
/// of time: the pipeline's rank 0 chooses at the begin of its step s and announces it; the others wait for
/// that announcement at the begin of theirs. Rank 0 is the first to have work, so nobody waits for long.
struct JobBoard {
  /// Announcements that stay: hosts run ahead of their GPUs, but not by so many steps.
  static constexpr std::size_t kSteps = 64;

  struct Pipeline {
    /// How many times as long as it should its steps take; 1 if all is well.
    std::atomic<double> slowdown;
    /// The last step's time over what its plan promised; 0 before there is one.
    std::atomic<double> pace;
    /// At step modulo kSteps: see announcement().
    std::array<std::atomic<std::uint64_t>, kSteps> announced;
    std::atomic<std::uint32_t> changes;  // futex: counts announcements
  };

  /// Of something that all pipelines wait for.
  std::atomic<double> outside_slowdown;
  /// Notices received (modulo 2^32).
  std::atomic<std::uint32_t> notices;
  /// Number of the plan to follow when nobody straggles; those after it are slower ones.
  std::atomic<std::uint32_t> first_plan;
  std::atomic<std::uint32_t> plan_count;
  std::int32_t pipeline_count;

  static std::size_t bytes(std::size_t pipelines) { return sizeof(JobBoard) + pipelines * sizeof(Pipeline); }
  [[nodiscard]] std::span<Pipeline> pipelines() {
    return {reinterpret_cast<Pipeline*>(this + 1), static_cast<std::size_t>(pipeline_count)};
  }

  static constexpr std::uint64_t announcement(std::int32_t epoch, std::uint32_t step, std::int32_t plan) {
    return static_cast<std::uint64_t>(epoch & 0xffff) << 48 | static_cast<std::uint64_t>(step) << 16 |
           static_cast<std::uint16_t>(plan + 1);
  }
  /// The plan of an announcement of that step; -1 is the baseline. False if it is of another step.
  static constexpr bool is_of(std::uint64_t announced, std::int32_t epoch, std::uint32_t step) {
    return announced >> 16 == announcement(epoch, step, 0) >> 16;
  }
  static constexpr std::int32_t plan_of(std::uint64_t announced) {
    return static_cast<std::int32_t>(announced & 0xffff) - 1;
  }
};

static_assert(sizeof(JobBoard) % alignof(JobBoard::Pipeline) == 0);
static_assert(std::atomic<double>::is_always_lock_free);

}  // namespace slackline
