#pragma once
#include <atomic>
#include <chrono>
#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <thread>
#include <vector>

#include "slackline/base/descriptor.h"
#include "slackline/device/sim_world.h"
#include "slackline/runtime/lease_protocol.h"
#include "slackline/runtime/mapping.h"

namespace slackline {

/// This process's right to set the clocks of some GPUs, by way of an agent; ends with this object, with the
/// process, or with the agent. A child that is forked has no part in it. post() makes no system call (but to
/// wake an agent that sleeps) and allocates nothing.
class alignas(64) LeaseClient {
 public:
  /// Nothing if no agent listens at `socket`. DeviceError, with the agent's words, if it refuses. Waits for
  /// its answer for `patience` at most. `world`: the simulated node that the GPUs are in, or null; GPUs are
  /// then those with the numbers `simulated`.
  static std::unique_ptr<LeaseClient> open(const std::string& socket, const std::vector<std::string>& gpus,
                                           Seconds patience = Seconds(10), SimWorld* world = nullptr,
                                           std::vector<GpuId> simulated = {});
  LeaseClient(const LeaseClient&) = delete;
  LeaseClient& operator=(const LeaseClient&) = delete;
  ~LeaseClient();

  /// The clocks that the agent lets this process choose from, highest first.
  [[nodiscard]] const std::vector<Megahertz>& clocks() const { return clocks_; }
  /// The number of a clock in a request, or nothing if it is not among clocks(). 0 MHz, the baseline, is 0.
  [[nodiscard]] std::optional<std::uint32_t> number_of(Megahertz clock) const;

  /// Asks for clock `number` on all GPUs; `in_step`: more requests will follow soon. One thread at a time.
  /// Does nothing in a forked child.
  void post(std::uint32_t number, bool in_step);

  /// The lease is over: the agent ended it, or has ended itself. A system call.
  [[nodiscard]] bool is_over();
  /// Once it is: "the agent has ended the lease: clock not allowed".
  [[nodiscard]] std::string why_over() const;
  /// What happened on a GPU, by its place in `gpus`.
  [[nodiscard]] const GpuResult& result(std::size_t gpu) const { return results()->gpus[gpu]; }
  /// The number of the last post.
  [[nodiscard]] std::uint32_t sequence() const { return sequence_; }

 private:
  LeaseClient() = default;
  [[nodiscard]] const ResultMemory* results() const {
    return static_cast<const ResultMemory*>(results_.get());
  }
  void wake() const;
  void beat(std::chrono::milliseconds period);

  // What post() touches, on one line of the cache: it is cold when it is called.
  Mapping requests_;
  Mapping results_;
  std::uint32_t sequence_ = 0;
  unsigned forks_ = 0;
  SimWorld* world_ = nullptr;
  Descriptor socket_;

  std::atomic<bool> is_over_ = false;
  std::vector<Megahertz> clocks_;
  std::vector<GpuId> simulated_;
  Descriptor heart_;  // an eventfd that ends the thread
  std::unique_ptr<std::thread> heartbeat_;
};

}  // namespace slackline
