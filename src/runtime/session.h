#pragma once
#include <chrono>
#include <memory>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "plan_agreement.h"
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

  /// `place.magic` is set here. Never throws for the server's absence. Throws DeviceError if it refuses.
  void open(JobHello place);

  /// Every step is checked against the schedule's order; after steps at the baseline, if there are any, the
  /// plan is followed only if one of them has fitted. From a step that does not fit on, the GPUs stay at
  /// their baseline, and there are news. `plan`: what the ranks of the pipeline have agreed on by other
  /// means; -1 is the baseline.
  void step_begin(std::optional<int> plan = {});
  void step_end();
  /// Outside of steps it follows no schedule. A stage or microbatch of -1 is not known.
  void instruction_begin(InstructionKind kind, int stage, int microbatch);
  void instruction_end();
  /// What the device's own events say of the run that is about to end.
  void instruction_took(Seconds time);
  [[nodiscard]] bool instruction_again();

  /// The plan that this step follows; -1: none.
  [[nodiscard]] int plan() const { return plan_; }
  /// How the ranks of a pipeline agree, where they have to; or null.
  [[nodiscard]] PlanAgreement* agreement() { return is_open() && agreement_ ? &*agreement_ : nullptr; }
  /// What this rank runs by the schedule; empty without one.
  [[nodiscard]] std::span<const OrderEntry> order() const { return order_; }

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
  [[nodiscard]] const JobTables& tables() const { return *tables_; }
  /// Leases this rank's GPUs, or says why not.
  [[nodiscard]] std::string lease(Seconds patience);
  /// Requests for the rank's clocks, or why one that a plan wants may not be set.
  [[nodiscard]] std::string number_clocks();
  /// Without a lease training goes on at the baseline, and one is sought again from time to time.
  void keep_lease();
  void go_without_lease(const std::string& reason);
  void tell(std::string notice);
  void wait_if_asked();
  void record_took();
  void record(JobEventType type, int kind = 0);
  void record(const JobEvent& event);
  /// The run under way, at now.
  void record_run(JobEventType type);
  /// Tells the job's server that there is something to read.
  void ring();
  /// Without a schedule the job is being profiled, and every event is told at once.
  void report();
  void launch();
  [[nodiscard]] int agreed_plan(std::optional<int> plan);
  /// `entry` of the step's plan, or the baseline.
  void ask_for(std::optional<std::size_t> entry, bool in_step);
  void stop_following(const std::string& reason);
  [[nodiscard]] std::int64_t now_ns();

  // What the hooks around an instruction touch, on two lines of the cache: it is cold when they are called.
  Mapping mapping_;
  std::optional<Cursor> cursor_;
  std::unique_ptr<LeaseClient> lease_;
  std::span<const std::uint16_t> clocks_;  // of the step's plan, by their numbers in the tables
  std::vector<std::uint32_t> numbers_;     // of the tables' clocks in requests
  unsigned forks_ = 0;
  std::uint32_t requested_ = 0;  // the number in the last request
  bool in_step_ = false;
  bool checking_ = false;   // the step's order
  bool following_ = false;  // the step's plan
  bool asked_in_step_ = false;
  bool has_news_ = false;
  std::optional<Seconds> took_;
  OrderEntry running_{};
  std::int32_t running_mhz_ = 0;
  std::unique_ptr<SimWorld> world_;
  std::optional<SimWorld::Participant> participant_;

  Descriptor socket_;
  Descriptor doorbell_;
  std::string agent_socket_;
  std::vector<std::string> gpus_;  // to be leased
  std::vector<GpuId> simulated_;   // the same, as the world numbers them
  std::chrono::steady_clock::time_point next_attempt_;
  bool lacks_lease_ = false;  // and has said so
  std::optional<JobTables> tables_;
  std::span<const OrderEntry> order_;
  std::optional<PlanAgreement> agreement_;
  int baseline_steps_ = 0;
  int plan_count_ = 0;
  std::uint32_t steps_ = 0;
  int plan_ = -1;
  bool has_fitted_ = false;  // a whole step
  bool out_of_sequence_ = false;
  std::optional<std::int64_t> first_begin_ns_;  // of the step
  std::int64_t last_end_ns_ = 0;
  News news_;
};

}  // namespace slackline
