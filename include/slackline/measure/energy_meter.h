#pragma once
#include <condition_variable>
#include <deque>
#include <map>
#include <memory>
#include <mutex>
#include <optional>
#include <set>
#include <thread>
#include <vector>

#include "slackline/device/device.h"

namespace slackline {

/// Energy of GPUs up to any moment, from counters that refresh only now and then: a thread follows their
/// ticks, and a moment between two ticks is interpolated. So the error of an interval is a fraction of one
/// tick's energy at each end, whatever its length.
class EnergyMeter {
 public:
  /// Starts to follow `gpus` of `device` at once.
  EnergyMeter(Device& device, std::vector<GpuId> gpus, std::unique_ptr<Timeline> timeline);
  EnergyMeter(const EnergyMeter&) = delete;
  EnergyMeter& operator=(const EnergyMeter&) = delete;
  /// The timeline must have been shut down, or end on its own.
  ~EnergyMeter();

  /// Asks for the energy up to `moment`, which must not be long past. Any thread.
  void mark(Seconds moment);
  /// Energy of all GPUs up to a marked moment, once every counter has ticked after it.
  [[nodiscard]] std::optional<Joules> energy_until(Seconds moment) const;
  /// Drops answered marks before `moment`, so that a long run does not pile them up.
  void forget_before(Seconds moment);
  /// Waits until all marks are answered or the timeline has ended; not for a counter that stands still.
  void finish();

 private:
  void follow();
  void sample();
  [[nodiscard]] Joules interpolate(const std::deque<EnergyReading>& readings, Seconds moment) const;

  Device& device_;
  std::vector<GpuId> gpus_;
  std::unique_ptr<Timeline> timeline_;
  mutable std::mutex mutex_;
  std::condition_variable answered_;
  std::vector<std::deque<EnergyReading>> readings_;
  std::set<Seconds> open_marks_;
  std::map<Seconds, Joules> answers_;
  bool ended_ = false;
  std::thread thread_;
};

}  // namespace slackline
