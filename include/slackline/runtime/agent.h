#pragma once
#include <cstdint>
#include <functional>
#include <map>
#include <memory>
#include <mutex>
#include <optional>
#include <string>
#include <vector>

#include "slackline/base/descriptor.h"
#include "slackline/device/device.h"
#include "slackline/device/sim_world.h"
#include "slackline/runtime/journal.h"
#include "slackline/runtime/lease_memory.h"

namespace slackline {

/// What the agent hands to the processes of a job.
struct AgentOptions {
  /// GPUs of each stage.
  std::vector<std::vector<GpuId>> stage_gpus;
  /// Per stage, in the order of execution; empty: no schedule, clocks are left to others.
  std::vector<std::vector<PlanEntry>> plan;
  /// Steps that each process runs at its baseline before it follows the plan.
  int baseline_steps = 0;
};

/// Hears what the job does, in the agent's thread. Times are on the device's timeline.
class JobObserver {
 public:
  virtual ~JobObserver() = default;
  virtual void on_event(int /*stage*/, const LeaseEvent& /*event*/) {}
  /// The process of a stage has ended or closed its session.
  virtual void on_lease_end(int /*stage*/) {}
  /// The job cannot be served as it is (another number of stages, say).
  virtual void on_refusal(const std::string& /*reason*/) {}
  /// A GPU could not be set; its stage is released.
  virtual void on_fault(const std::string& /*what*/) {}
};

/// Owns the clocks of a node while a job runs: accepts one lease a stage on a socket, does what the leases
/// ask for, and gives their GPUs back when a lease ends, for whatever reason. A GPU is in the journal before
/// its first change. One thread: poll fd() and call serve() when it is readable. repeat(), release() may come
/// from any thread.
class Agent {
 public:
  /// `world` is the simulated node behind `device`, or null.
  Agent(Device& device, std::shared_ptr<SimWorld> world, Journal& journal, AgentOptions options,
        const std::string& socket_path, JobObserver& observer);
  Agent(const Agent&) = delete;
  Agent& operator=(const Agent&) = delete;
  /// Restores what is left.
  ~Agent();

  [[nodiscard]] int fd() const { return epoll_.get(); }
  void serve();

  /// Locks all GPUs of a stage, or unlocks them at 0 MHz, on behalf of this process rather than the job's.
  /// Does nothing while no process of the job drives the stage.
  void set_stage_clock(int stage, Megahertz clock);
  /// Kinds that the process of `stage` shall run again and again; one bit each.
  void set_repeat(int stage, std::uint32_t kinds);
  /// The schedule is over: GPUs go to their baseline and stay there.
  void release();
  /// Ends all leases and restores every GPU.
  void restore_all();
  [[nodiscard]] std::uint64_t events_lost() const { return events_lost_; }

 private:
  struct Lease;

  void watch(int fd, std::uint64_t token);
  void accept_client();
  void answer_hello(int fd);
  void handle_request(Lease& lease);
  void drain_events(Lease& lease);
  void end_lease(int stage);
  void set_clock(Lease& lease, Megahertz clock);
  /// Every GPU that the lease may have changed; `for_good` also forgets them.
  void unlock(Lease& lease, bool for_good);

  std::mutex mutex_;
  Device& device_;
  std::shared_ptr<SimWorld> world_;
  std::optional<SimWorld::Participant> participant_;
  Journal& journal_;
  AgentOptions options_;
  JobObserver& observer_;
  std::string socket_path_;
  Descriptor epoll_;
  Descriptor listener_;
  std::map<int, Descriptor> greeting_;            // accepted, Hello still to come; by descriptor
  std::map<int, std::unique_ptr<Lease>> leases_;  // by stage
  std::vector<std::uint32_t> repeat_;             // by stage; outlives leases
  std::vector<int> steps_begun_;                  // by stage; outlives leases
  bool released_ = false;
  std::uint64_t events_lost_ = 0;
};

}  // namespace slackline
