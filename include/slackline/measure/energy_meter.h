#pragma once
#include <condition_variable>
#include <deque>
#include <map>
#include <memory>
#include <mutex>
#include <optional>
#include <set>
#include <string>
#include <thread>
#include <vector>

#include "slackline/device/device.h"

namespace slackline {

/// Energy of GPUs between any two moments, from counters that refresh only now and then: a thread follows
/// their ticks, and a moment between two ticks is interpolated. So the error of an interval is a fraction of
/// one tick's energy at each end, whatever its length.
///
/// A reading that fails now and then is left out, as drivers that are asked often do that. A counter that
/// goes backwards was reset, and what spans that moment is not known.
class EnergyMeter {
 public:
  /// Returns once every GPU has been read, so that later moments are known, or cannot be: where the refresh
  /// period has to be measured first, that takes a second.
  EnergyMeter(Device& device, std::vector<GpuId> gpus, std::unique_ptr<Timeline> timeline);
  EnergyMeter(const EnergyMeter&) = delete;
  EnergyMeter& operator=(const EnergyMeter&) = delete;
  /// The timeline must have been shut down, or end on its own.
  ~EnergyMeter();

  /// Announces a moment, which must not be long past. Any thread.
  void mark(Seconds moment);
  /// Some counter has not ticked since this marked moment.
  [[nodiscard]] bool is_open(Seconds moment) const;
  /// Energy of all GPUs between two marked moments, or of these, by their places in `gpus`; nothing while a
  /// moment is open, or if it will never be known.
  [[nodiscard]] std::optional<Joules> energy_between(Seconds begin, Seconds end) const;
  [[nodiscard]] std::optional<Joules> energy_between(Seconds begin, Seconds end,
                                                     const std::vector<std::size_t>& places) const;
  /// Drops answered marks before `moment`, so that a long run does not pile them up.
  void forget_before(Seconds moment);
  /// Waits until no mark is open or the timeline has ended; not for a counter that stands still.
  void finish();
  /// Why nothing is known any more; empty while all is well.
  [[nodiscard]] std::string fault() const;

 private:
  struct Counter {
    GpuId gpu;
    std::deque<EnergyReading> readings;
    unsigned resets = 0;
    std::optional<Seconds> failing_since;
  };
  /// What a counter showed, and how often it had been reset by then.
  struct Answer {
    Joules total;
    unsigned resets = 0;
  };

  void follow();
  void sample();
  void read(Counter& counter);
  void answer_marks();

  Device& device_;
  std::unique_ptr<Timeline> timeline_;
  mutable std::mutex mutex_;
  std::condition_variable answered_;  // or begun, or ended
  std::vector<Counter> counters_;     // the thread's own
  std::set<Seconds> open_marks_;
  std::map<Seconds, std::vector<Answer>> answers_;  // a counter each
  bool begun_ = false;
  bool ended_ = false;
  std::string fault_;
  std::thread thread_;
};

}  // namespace slackline
