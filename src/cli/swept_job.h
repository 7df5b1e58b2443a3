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

  void on_join(int stage, int pipeline_stage, int pipeline_stages) override;
  void on_event(int stage, const JobEvent& event) override;
  void on_end(int stage) override { trace_->gone(stage); }
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
  /// Which stage of how many the process that joined first drives.
  struct Place {
    int stage = 0;
    int stages = 0;
  };
  [[nodiscard]] std::optional<Place> place() const;

 private:
  enum class Owner { kJob, kStranger, kUnknown };
  [[nodiscard]] std::vector<std::unique_ptr<LeaseClient>>::const_iterator lost_lease() const;
  [[nodiscard]] Owner owner_of(int pid);

  Device& device_;
  std::shared_ptr<SimWorld> world_;
  std::vector<std::unique_ptr<LeaseClient>> leases_;  // by stage
  JobServer* server_ = nullptr;
  JobTrace* trace_ = nullptr;
  std::string refusal_;
  mutable std::mutex mutex_;  // of the rest
  std::optional<Recording> kept_;
  std::optional<Place> place_;
  std::map<int, Owner> owners_;  // the sweep thread's
};

}  // namespace slackline
