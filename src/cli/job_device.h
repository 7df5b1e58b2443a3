#pragma once
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "clock_agent.h"
#include "device_spec.h"
#include "slackline/base/user.h"
#include "slackline/device/device.h"
#include "slackline/runtime/rank.h"

namespace slackline {

inline constexpr const char* kJobDeviceHelp =
    "nvml[:0,1,...] or amdsmi[:0,1,...]: this node's GPUs, rank after rank; or sim:PROFILE[,KEY=X...]: "
    "simulated GPUs that behave as PROFILE measured. pace: simulated seconds a second (0: virtual time, as "
    "fast as it goes); switch_ms: until a clock takes effect (PROFILE's own, else 10); tick_ms: refresh of "
    "the "
    "energy counter (100); noise, energy_noise: relative, of times and energies (0); seed; node: folder to "
    "keep them in, for several commands; ranks, placement: how many ranks hold the stages (as many as "
    "these), "
    "dealt out in a loop or there and back (loop, v); pipelines: replicas (1). What goes wrong, if asked "
    "for: throttle, intruder: share of the "
    "time "
    "in which a stage runs at throttle_mhz (1110) or shares its GPUs with another process, for throttle_s or "
    "intruder_s (1) at once; leakage: relative growth of power in leakage_s (60); counter_stops_s, "
    "counter_resets_s, lost_s: when that befalls GPU 0; stuck_mhz: no clock gets above it; straggler: times "
    "as "
    "long as the last pipeline takes, from straggler_from_s to straggler_until_s";

/// The GPUs that a command runs a job on, and who sets their clocks. In this order: privileges that the job
/// does not need are given up, what crashed processes have left is restored, the device is opened, and an
/// agent found or started.
class JobDevice {
 public:
  struct Request {
    std::string device{};  // the flag
    std::string agent{};   // socket of the agent to use; "": the node's, or one of our own
    /// GPUs that each rank of a real device needs, of which the first that it has come; empty: as many ranks
    /// as there are groups of `tensor_parallel`. Simulated ones have their profile's.
    std::vector<int> rank_gpus{};
    int tensor_parallel = 1;
    /// Clocks are not to be set, so no agent is needed.
    bool read_only = false;
    /// They are set by this process, not by the job's.
    bool leases_itself = false;
    /// The job is one rank of several: of a real device it has the GPU of its local rank, of a simulated node
    /// those of the rank that has its number.
    std::optional<Rank> rank{};
  };

  explicit JobDevice(const Request& request);
  JobDevice(const JobDevice&) = delete;
  JobDevice& operator=(const JobDevice&) = delete;
  ~JobDevice();

  [[nodiscard]] Device& device() const { return *device_; }
  /// The simulated node, or null.
  [[nodiscard]] std::shared_ptr<SimWorld> world() const;
  /// Stages that each rank of a simulated pipeline holds, and replicas of the pipeline.
  [[nodiscard]] const std::vector<std::vector<StageId>>& rank_stages() const { return spec_->rank_stages; }
  [[nodiscard]] int pipelines() const { return spec_->pipelines; }
  /// What drives simulated GPUs, or null.
  [[nodiscard]] const Profile* profile() const { return spec_ ? &spec_->profile : nullptr; }
  [[nodiscard]] const std::vector<std::vector<GpuId>>& rank_gpus() const { return rank_gpus_; }
  [[nodiscard]] std::vector<std::vector<std::string>> rank_uuids() const;
  /// All that the job may use.
  [[nodiscard]] std::vector<GpuId> gpus() const;
  [[nodiscard]] std::vector<std::string> uuids_of(const std::vector<GpuId>& gpus) const;
  [[nodiscard]] const std::string& runtime_folder() const { return runtime_folder_; }
  /// Whom the job's processes lease GPUs from; "" if nobody is to set clocks.
  [[nodiscard]] std::string agent_socket() const { return agent_ ? agent_->socket() : ""; }
  /// A place for the job's own socket, where the job's user may connect.
  [[nodiscard]] std::string job_socket() const { return folder() + "/job.sock"; }
  /// Lets the job's user, where that is another, connect to job_socket().
  void hand_over_job_socket() const;
  /// As whom the job is to run; nothing: as this process.
  [[nodiscard]] const std::optional<User>& user() const { return user_; }

  void look_after_agent();
  bool end_agent();

 private:
  /// The job's own.
  [[nodiscard]] const std::string& folder() const {
    return own_folder_ ? own_folder_->path() : node_->folder();
  }
  void choose_gpus(const Request& request);

  std::optional<User> user_;
  std::string runtime_folder_;
  std::optional<PrivateFolder> own_folder_;
  std::optional<DeviceSpec> spec_;
  std::unique_ptr<SimulatedNode> node_;
  std::unique_ptr<Device> opened_;
  Device* device_ = nullptr;
  std::vector<std::vector<GpuId>> rank_gpus_;
  std::optional<ClockAgent> agent_;
};

}  // namespace slackline
