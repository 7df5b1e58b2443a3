#pragma once
#include <cstdint>
#include <map>
#include <memory>
#include <mutex>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "slackline/base/descriptor.h"
#include "slackline/base/ids.h"
#include "slackline/device/sim_world.h"
#include "slackline/runtime/job_memory.h"
#include "slackline/runtime/mapping.h"

namespace slackline {

/// What the ranks of a pipeline run, and the plans among which they choose.
struct JobPlans {
  struct Rank {
    std::vector<OrderEntry> order;
    /// Plan by plan, a clock for each instruction of `order`.
    std::vector<std::vector<Megahertz>> clocks;
  };
  std::vector<Rank> ranks;
  /// Iteration time of each plan, rising: the first is for when nobody straggles.
  std::vector<Seconds> times;

  [[nodiscard]] bool empty() const { return ranks.empty(); }
};

/// Where a process is in the job; see JobHello.
struct JobPlace {
  int rank = 0;
  int ranks = 1;
  int pipeline = 0;
  int pipelines = 1;
  int lane = 0;
  int lanes = 1;

  bool operator==(const JobPlace&) const = default;
};

/// What the processes of a job are told.
struct JobOptions {
  /// UUIDs of each rank's GPUs, one pipeline's ranks after the other's, for processes that name none.
  std::vector<std::vector<std::string>> rank_gpus{};
  /// Those that processes may name themselves.
  std::vector<std::string> gpus{};
  /// Empty: no schedule, clocks are left to others.
  JobPlans plans{};
  /// Steps that each process runs at its baseline before it follows a plan, and one of which must fit the
  /// order; at least one where a process joins anew. 0: it follows from the first one on.
  int baseline_steps = 0;
  /// Who leases the GPUs to a process that follows a plan.
  std::string agent_socket{};
  /// One process of several, which are served elsewhere; it is number 0 here. On a simulated node it has to
  /// have the place of `simulated_rank`.
  bool has_one_rank = false;
  std::optional<int> simulated_rank{};
  /// A pipeline that is behind the fastest by more than `detect_share` for so many steps is a straggler.
  int detect_steps = 0;
  double detect_share = 0.05;
};

/// Hears what the job does, in the server's thread. Times are on the device's timeline. Processes go by
/// number: lane by lane, rank by rank, pipeline by pipeline.
class JobObserver {
 public:
  virtual ~JobObserver() = default;
  /// `gpus`: UUIDs of those that it drives.
  virtual void on_join(int /*member*/, const JobPlace& /*place*/, const std::vector<std::string>& /*gpus*/) {}
  virtual void on_event(int /*member*/, const JobEvent& /*event*/) {}
  /// The process has ended or closed its session.
  virtual void on_end(int /*member*/) {}
  /// The job cannot be served as it is (another number of ranks, say).
  virtual void on_refusal(const std::string& /*reason*/) {}
  /// Something connected that is no process of a job, and was sent away.
  virtual void on_stranger(const std::string& /*reason*/) {}
  /// Somebody has told the job of a straggler.
  virtual void on_notice(int /*pipeline*/, double /*slowdown*/) {}
};

/// What `apply` and `profile` are to the job that they run: gives each process its part of the plans and
/// hears what it does. Has no privileges and touches no GPU; the processes lease theirs from an agent.
/// One thread: poll fd() and call serve() when it is readable. set_repeat() and release() may come from any
/// thread.
class JobServer {
 public:
  /// `world` is the simulated node that the job runs on, or null.
  JobServer(std::shared_ptr<SimWorld> world, JobOptions options, const std::string& socket_path,
            JobObserver& observer);
  JobServer(const JobServer&) = delete;
  JobServer& operator=(const JobServer&) = delete;
  ~JobServer();

  [[nodiscard]] int fd() const { return epoll_.get(); }
  void serve();

  /// Kinds that a process shall run again and again; one bit each.
  void set_repeat(int member, std::uint32_t kinds);
  /// A process waits for so long, once, before its next step.
  void hold(int member, Seconds time);
  /// The schedule is over: GPUs go to their baseline and stay there.
  void release();
  [[nodiscard]] std::uint64_t events_lost() const { return events_lost_; }

 private:
  struct Member;

  void watch(int fd, std::uint64_t token);
  void accept_member();
  void answer_first_message(int fd);
  void answer_notice(const Descriptor& client, const JobNotice& notice);
  void admit(Descriptor client, const JobHello& hello);
  /// Why, or "", and whether the job cannot go on without an answer.
  [[nodiscard]] std::pair<std::string, bool> reason_to_refuse(const JobHello& hello) const;
  [[nodiscard]] int number_of(const JobHello& hello) const;
  /// Of the process at this place; empty if there are none.
  [[nodiscard]] std::vector<std::string> gpus_of(const JobHello& hello) const;
  void make_board(int pipelines);
  [[nodiscard]] JobBoard* board() const { return static_cast<JobBoard*>(board_.get()); }
  void begin_epoch(const JobPlace& first);
  void handle_ring(Member& member);
  void drain_events(Member& member);
  void end_member(int number);

  std::mutex mutex_;
  std::shared_ptr<SimWorld> world_;
  std::optional<SimWorld::Participant> participant_;
  JobOptions options_;
  JobObserver& observer_;
  std::string socket_path_;
  Descriptor epoll_;
  Descriptor listener_;
  std::map<int, Descriptor> greeting_;  // accepted, first message still to come; by descriptor
  std::map<int, std::unique_ptr<Member>> members_;
  std::map<int, std::uint32_t> repeat_;  // by member; outlives it
  std::map<int, int> steps_begun_;       // by member; outlives it
  std::optional<JobPlace> shape_;        // of the job: numbers of ranks, pipelines and lanes
  Descriptor board_memory_;
  Mapping board_;
  std::int32_t epoch_ = 0;
  bool has_begun_ = false;  // a step of this epoch
  bool released_ = false;
  std::uint64_t events_lost_ = 0;
};

}  // namespace slackline
