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
#include "slackline/device/sim_world.h"
#include "slackline/runtime/job_memory.h"

namespace slackline {

/// What the processes of a job are told.
struct JobOptions {
  /// UUIDs of each stage's GPUs.
  std::vector<std::vector<std::string>> stage_gpus;
  /// Per stage, in the order of execution; empty: no schedule, clocks are left to others.
  std::vector<std::vector<PlanEntry>> plan;
  /// Steps that each process runs at its baseline before it follows the plan.
  int baseline_steps = 0;
  /// Who leases the GPUs to a process that follows a plan.
  std::string agent_socket;
  /// One rank of a pipeline, of which others have the rest: one process, which may drive any stage of it, and
  /// is number 0 here. On a simulated node it has to drive `simulated_stage`.
  bool has_one_rank = false;
  std::optional<int> simulated_stage{};
};

/// Hears what the job does, in the server's thread. Times are on the device's timeline.
class JobObserver {
 public:
  virtual ~JobObserver() = default;
  /// The process of a stage has joined; it says which one of how many it drives.
  virtual void on_join(int /*stage*/, int /*pipeline_stage*/, int /*pipeline_stages*/) {}
  virtual void on_event(int /*stage*/, const JobEvent& /*event*/) {}
  /// The process of a stage has ended or closed its session.
  virtual void on_end(int /*stage*/) {}
  /// The job cannot be served as it is (another number of stages, say).
  virtual void on_refusal(const std::string& /*reason*/) {}
  /// Something connected that is no process of a job, and was sent away.
  virtual void on_stranger(const std::string& /*reason*/) {}
};

/// What `apply` and `profile` are to the job that they run: gives each stage's process its part of the plan
/// and hears what it does. Has no privileges and touches no GPU; the processes lease theirs from an agent.
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

  /// Kinds that the process of `stage` shall run again and again; one bit each.
  void set_repeat(int stage, std::uint32_t kinds);
  /// The process of `stage` waits for so long, once, before its next step.
  void hold(int stage, Seconds time);
  /// The schedule is over: GPUs go to their baseline and stay there.
  void release();
  [[nodiscard]] std::uint64_t events_lost() const { return events_lost_; }

 private:
  struct Member;

  void watch(int fd, std::uint64_t token);
  void accept_member();
  void answer_hello(int fd);
  /// Why, or "", and whether the job cannot go on without an answer.
  [[nodiscard]] std::pair<std::string, bool> reason_to_refuse(const JobHello& hello) const;
  void handle_ring(Member& member);
  void drain_events(Member& member);
  void end_member(int stage);

  std::mutex mutex_;
  std::shared_ptr<SimWorld> world_;
  std::optional<SimWorld::Participant> participant_;
  JobOptions options_;
  JobObserver& observer_;
  std::string socket_path_;
  Descriptor epoll_;
  Descriptor listener_;
  std::map<int, Descriptor> greeting_;              // accepted, hello still to come; by descriptor
  std::map<int, std::unique_ptr<Member>> members_;  // by stage
  std::vector<std::uint32_t> repeat_;               // by stage; outlives members
  std::vector<int> steps_begun_;                    // by stage; outlives members
  bool released_ = false;
  std::uint64_t events_lost_ = 0;
};

}  // namespace slackline
