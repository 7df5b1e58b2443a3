#pragma once
#include <map>
#include <memory>
#include <mutex>
#include <optional>
#include <string>
#include <vector>

#include "job_device.h"
#include "slackline/measure/clock_sweep.h"
#include "slackline/runtime/job_server.h"
#include "slackline/runtime/lease_client.h"

namespace slackline {

/// Stands between a job and the sweep that measures it: passes on what the job does, sets the clocks that the
/// sweep wants, and keeps what it has measured.
class SweptJob : public JobObserver, public SweepControl {
 public:
  explicit SweptJob(const JobDevice& device);
  void begin(JobServer& server, JobTrace& trace);

  void on_join(int rank, const JobPlace& place, const std::vector<std::string>& gpus) override;
  void on_event(int rank, const JobEvent& event) override;
  void on_end(int rank) override { trace_->gone(rank); }
  void on_refusal(const std::string& reason) override { refusal_ = reason; }
  void on_stranger(const std::string& reason) override;

  void set_clock(int stage, Megahertz clock) override;
  void set_repeat(int stage, std::uint32_t kinds) override { server_->set_repeat(stage, kinds); }
  void hold(int stage, Seconds time) override { server_->hold(stage, time); }
  [[nodiscard]] bool has_stranger(GpuId gpu) override;
  void keep(const Recording& recording) override;

  /// What was last kept and not taken yet.
  [[nodiscard]] std::optional<Recording> take_kept();
  [[nodiscard]] const std::string& refusal() const { return refusal_; }
  /// The clocks are nobody's any more: what is measured from here on is not what it is taken for.
  [[nodiscard]] bool has_lost_lease() const { return lost_lease() != leases_.end(); }
  [[nodiscard]] std::string why_lost() const { return (*lost_lease())->why_over(); }
  /// Of the process that joined first.
  [[nodiscard]] std::optional<JobPlace> place() const;
  /// Says which stages an earlier recording has found on a rank.
  void expect_stages(int rank, const std::vector<int>& stages);

 private:
  enum class Owner { kJob, kStranger, kUnknown };
  [[nodiscard]] std::vector<std::unique_ptr<LeaseClient>>::const_iterator lost_lease() const;
  [[nodiscard]] Owner owner_of(int pid);
  void name_stages(Recording& recording) const;  // with the mutex held
  [[nodiscard]] Task task_of(int rank, const JobEvent& event);

  Device& device_;
  std::shared_ptr<SimWorld> world_;
  std::vector<std::unique_ptr<LeaseClient>> leases_;  // by rank
  JobServer* server_ = nullptr;
  JobTrace* trace_ = nullptr;
  std::string refusal_;
  mutable std::mutex mutex_;  // of the rest
  std::optional<Recording> kept_;
  std::optional<JobPlace> place_;
  std::map<int, int> ranks_;                // their numbers in their pipelines
  std::map<int, std::vector<int>> stages_;  // of each rank, in the order in which they were seen
  std::map<int, Owner> owners_;             // the sweep thread's
};

}  // namespace slackline
