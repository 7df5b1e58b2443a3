#pragma once
#include <chrono>
#include <memory>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "slackline/base/descriptor.h"
#include "slackline/device/sim_world.h"
#include "slackline/runtime/cursor.h"
#include "slackline/runtime/fork_guard.h"
#include "slackline/runtime/job_memory.h"
#include "slackline/runtime/lease_client.h"
#include "slackline/runtime/mapping.h"

namespace slackline {

/// What is behind slackline.h: tells the job's server what the process does, and asks the agent for clocks.
/// Without a server every call does nothing; without an agent the GPUs run at their baseline. In a child that
/// is forked it does nothing either.
class alignas(64) Session {
 public:
  Session() = default;
  Session(const Session&) = delete;
  Session& operator=(const Session&) = delete;
  ~Session();

  /// Never throws for the server's absence. Throws DeviceError if it refuses.
  void open(int stage, int stages);

  /// From a step that does not fit the schedule on, the GPUs stay at their baseline, and there are news.
  void step_begin();
  void step_end();
  void instruction_begin(InstructionKind kind, int microbatch);
  void instruction_end();
  /// What the device's own events say of the run that is about to end.
  void instruction_took(Seconds time);
  [[nodiscard]] bool instruction_again();

  [[nodiscard]] SimWorld* world() { return world_.get(); }
  [[nodiscard]] SimWorld::Participant* participant() { return participant_ ? &*participant_ : nullptr; }

  [[nodiscard]] bool has_news() const { return has_news_; }
  /// What is new, once: `trouble`, why the job no longer fits the schedule, and `notice`, what the user
  /// should know and is no error of the caller's. Either may be empty.
  struct News {
    std::string trouble;
    std::string notice;
  };
  [[nodiscard]] News take_news();

  std::string message;

 private:
  [[nodiscard]] JobMemory* memory() { return static_cast<JobMemory*>(mapping_.get()); }
  /// Joined, and not a forked child of the process that has.
  [[nodiscard]] bool is_open() const { return mapping_ && fork_count() == forks_; }
  /// Leases this stage's GPUs, or says why not.
  [[nodiscard]] std::string lease(Seconds patience);
  /// Without a lease training goes on at the baseline, and one is sought again from time to time.
  void keep_lease();
  void go_without_lease(const std::string& reason);
  void tell(std::string notice);
  void wait_if_asked();
  void record_took();
  void record(JobEventType type, int kind = 0);
  void record(JobEventType type, int kind, std::int64_t time_ns);
  /// Tells the job's server that there is something to read.
  void ring();
  /// Without a schedule the job is being profiled, and every event is told at once.
  void report();
  /// `entry` of the plan, or the baseline.
  void ask_for(std::optional<std::size_t> entry, bool in_step);
  void stop_following(const std::string& reason);
  [[nodiscard]] std::int64_t now_ns();

  // What the hooks around an instruction touch, on two lines of the cache: it is cold when they are called.
  Mapping mapping_;
  std::optional<Cursor> cursor_;
  std::unique_ptr<LeaseClient> lease_;
  std::vector<std::uint32_t> numbers_;  // of the plan's clocks in requests
  unsigned forks_ = 0;
  std::uint32_t requested_ = 0;  // the number in the last request
  bool following_ = false;
  bool asked_in_step_ = false;
  bool has_news_ = false;
  std::optional<Seconds> took_;
  InstructionKind running_ = InstructionKind::kForward;
  std::unique_ptr<SimWorld> world_;
  std::optional<SimWorld::Participant> participant_;

  Descriptor socket_;
  Descriptor doorbell_;
  std::string agent_socket_;
  std::vector<std::string> gpus_;  // to be leased
  std::vector<GpuId> simulated_;   // the same, as the world numbers them
  std::chrono::steady_clock::time_point next_attempt_;
  bool lacks_lease_ = false;  // and has said so
  int baseline_steps_ = 0;
  int steps_ = 0;
  bool out_of_sequence_ = false;
  News news_;
};

}  // namespace slackline
