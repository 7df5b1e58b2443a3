#pragma once
#include <condition_variable>
#include <map>
#include <memory>
#include <mutex>
#include <optional>
#include <string>
#include <thread>
#include <vector>

#include "slackline/device/device.h"

namespace slackline {

/// What a GPU did between two moments. What could not be read is empty and says why; the rest stands.
struct GpuUse {
  GpuId gpu;
  Seconds time;

  /// By its energy counter, between whose ticks the two moments are interpolated.
  std::optional<Joules> energy;
  std::string why_no_energy;
  /// By how much that may be off: what was drawn within the tick at either end.
  Joules energy_error;
  /// Refreshes of the counter within the window.
  std::size_t ticks = 0;

  /// By the power readings, an independent way to the same energy.
  std::optional<Joules> sampled_energy;
  std::string why_no_power;
  Watts least_power;
  Watts most_power;

  struct Clocks {
    Megahertz lowest;
    double mean_mhz = 0;
    Megahertz highest;
  };
  std::optional<Clocks> clocks;
  /// Share of the time, from 0 to 1, that each reason was there; only those that were.
  std::map<EventReason, double> reasons;
  std::string why_no_reasons;
  /// Degrees Celsius.
  std::optional<double> peak_temperature;

  /// Energy over time, by the counter if there is one.
  [[nodiscard]] std::optional<Watts> mean_power() const;
  /// So few ticks that the ends weigh: under 20.
  [[nodiscard]] bool is_short() const;
  /// How far the power readings are from the counter, relative to the counter, if that is over 10 % and
  /// neither the ends of the window nor a driver that averages power over a second can explain it.
  [[nodiscard]] std::optional<double> disagreement() const;
};

/// Follows GPUs while something runs on them, in a thread of its own, and only by reading: clock, power,
/// event reasons and temperature every so often, and the energy counter. A reading that fails now and then is
/// left out, as drivers that are asked often do that; a counter that goes backwards was reset, and voids the
/// energy.
class PowerLog {
 public:
  /// Starts at once, and returns when every GPU has been read. The timeline is the thread's.
  PowerLog(Device& device, std::vector<GpuId> gpus, std::unique_ptr<Timeline> timeline,
           Seconds interval = Seconds(0.05));
  PowerLog(const PowerLog&) = delete;
  PowerLog& operator=(const PowerLog&) = delete;
  /// Stops, after one interval at most.
  ~PowerLog();

  /// The window. Not before the log started, and not long past: readings are kept for a hundred intervals.
  void begin(Seconds moment);
  void end(Seconds moment);
  /// Waits until the counters have ticked after the end, but not for long beyond it.
  void finish();
  /// After finish(): one for each GPU, in their order.
  [[nodiscard]] std::vector<GpuUse> uses() const;

 private:
  class Gpu;

  void follow();
  [[nodiscard]] bool is_over(Seconds now) const;

  std::unique_ptr<Timeline> timeline_;
  Seconds interval_;
  Seconds patience_;  // with a counter that does not tick after the end
  mutable std::mutex mutex_;
  std::condition_variable changed_;
  std::vector<std::unique_ptr<Gpu>> gpus_;
  std::optional<Seconds> begin_;
  std::optional<Seconds> end_;
  bool started_ = false;
  bool stopped_ = false;
  bool ended_ = false;
  std::thread thread_;
};

}  // namespace slackline
