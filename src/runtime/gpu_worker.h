#pragma once
#include <atomic>
#include <chrono>
#include <condition_variable>
#include <cstdint>
#include <functional>
#include <memory>
#include <mutex>
#include <optional>
#include <string>
#include <thread>

#include "slackline/device/device.h"
#include "slackline/device/sim_world.h"
#include "slackline/runtime/journal.h"
#include "slackline/runtime/lease_protocol.h"

namespace slackline {

/// What was asked of a GPU, and where the answer goes. `result` stays valid while `keeper` lives.
struct ClockOrder {
  std::uint32_t sequence = 0;
  /// 0 MHz: the baseline.
  Megahertz clock;
  std::int64_t seen_ns = 0;
  GpuResult* result = nullptr;
  std::shared_ptr<void> keeper;
};

/// What a worker has done since it began.
struct WorkerCounts {
  std::uint64_t applied = 0;
  std::uint64_t skipped = 0;    // the GPU was at this clock already
  std::uint64_t overtaken = 0;  // a newer request came before the driver could take this one
  std::uint64_t failed = 0;
  std::uint64_t restored = 0;
  std::uint64_t restore_failures = 0;
  Megahertz requested;
  std::optional<Megahertz> observed;
  std::optional<Joules> energy;
  std::optional<Seconds> last_call;
};

/// Does the slow work on one GPU, in a thread of its own, so that nobody waits for a driver. Its mailbox
/// holds one order, the latest: what is overtaken is never replayed. The GPU is in the journal before it is
/// first changed, and until it is restored.
///
/// The clock is read back when it has had time to settle; where orders come faster than that, ten times a
/// second before the next one, which is later by as much as the driver takes for two readings.
class GpuWorker {
 public:
  /// `left`: Device::state of a GPU that is in the journal already, because its last owner could not be
  /// undone; that is then the first thing to do. `wake` is called, in the worker's thread, when restore() is
  /// done or refused, an order failed, or it has ended.
  GpuWorker(Device& device, SimWorld* world, GpuId gpu, Journal::Claim claim, Megahertz baseline,
            std::optional<std::string> left, std::function<void()> wake);
  GpuWorker(const GpuWorker&) = delete;
  GpuWorker& operator=(const GpuWorker&) = delete;
  /// Restores what it has changed, and waits for that.
  ~GpuWorker();

  /// `announced`: requests that simulated time waits for, this one and those that it overtook.
  void post(ClockOrder order, std::uint32_t announced);
  /// Drops what is not yet begun, lets the call in flight end, and undoes every change; again and again where
  /// the driver refuses. is_restored() tells when.
  void restore();
  /// Reads clock and energy when nothing else is to be done; counts() tells.
  void take_reading();
  [[nodiscard]] bool is_restored() const;
  /// Restores what it has changed, and ends: has_ended() tells when.
  void stop();
  [[nodiscard]] bool has_ended() const { return has_ended_; }
  /// For how long the call that is under way has been, if one is.
  [[nodiscard]] std::chrono::nanoseconds in_driver_for() const;
  /// The driver's words when an order failed last, or the first attempt of a restoration, given once.
  [[nodiscard]] std::optional<std::string> take_fault();
  [[nodiscard]] WorkerCounts counts() const;

 private:
  void run();
  void carry_out(const ClockOrder& order);
  bool undo();
  void read_back(const ClockOrder& order);
  void read();
  void change(Megahertz clock);
  [[nodiscard]] bool is_read_back_due() const;

  Device& device_;
  SimWorld* world_;
  GpuId gpu_;
  Journal::Claim claim_;
  Megahertz baseline_;
  std::function<void()> wake_;

  // Of the worker's thread.
  bool is_changed_ = false;  // in the journal
  std::string state_;        // before the first change
  Megahertz clock_;          // locked now, by us; 0: the baseline
  bool is_refused_ = false;  // the last attempt to undo was
  std::int64_t read_back_ns_ = 0;

  std::atomic<std::int64_t> in_driver_since_ns_ = 0;  // 0: no call is under way
  std::atomic<bool> has_ended_ = false;

  mutable std::mutex mutex_;
  std::condition_variable changed_;
  std::optional<ClockOrder> order_;
  std::uint32_t announced_ = 0;
  bool wants_restore_ = false;
  bool wants_reading_ = false;
  bool stops_ = false;
  std::optional<std::string> fault_;
  WorkerCounts counts_;

  std::thread thread_;  // last: it uses all of the above
};

/// CLOCK_MONOTONIC in nanoseconds.
[[nodiscard]] std::int64_t steady_ns();

}  // namespace slackline
