#pragma once
#include <functional>
#include <optional>
#include <string>
#include <vector>

#include "slackline/device/device.h"
#include "slackline/profile/profile.h"

namespace slackline {

/// Whoever may set clocks: the owner of a GPU's lock, in a process with the rights for it.
class ClockSetter {
 public:
  virtual ~ClockSetter() = default;
  /// Returns when the driver's call has. DeviceError if the driver refuses.
  virtual void set_clock(GpuId gpu, Megahertz clock) = 0;
};

struct ClockPair {
  Megahertz from;
  Megahertz to;

  bool operator==(const ClockPair&) const = default;
};

/// Every ordered pair of up to `count` of these clocks (highest first), spread evenly over them.
[[nodiscard]] std::vector<ClockPair> spread_pairs(const std::vector<Megahertz>& clocks, std::size_t count);

struct SwitchOptions {
  /// Switches of each pair; the median counts.
  int repeats = 5;
  /// A clock has arrived when this many readings in a row show it...
  int stable_polls = 5;
  /// ...to within this, as the driver rounds what it reads...
  Megahertz tolerance{7};
  /// ...and never will after this long.
  Seconds timeout{2};
  /// Between two readings: no time is known better than this.
  Seconds poll{0.001};
};

/// What switches from one clock to another took, from before the driver's call.
struct SwitchTime {
  ClockPair pair;
  /// Until the call returned; the median of all switches. Nothing if there was none.
  std::optional<Seconds> call;
  /// Until a reading first differed, and until the first of the readings that then stayed at the new clock;
  /// medians of the switches that arrived. Nothing if none did.
  std::optional<Seconds> first_change;
  std::optional<Seconds> stable;
  int switches = 0;
  int arrived = 0;
  /// Of the last that did not: "1005 MHz 2000 ms after 1410 MHz was asked for; event reasons: power-cap".
  std::string why_not;
};

/// Switches `gpu` between the clocks of each pair, over and over, and watches the clock that it reads. What a
/// driver reports with success is only that it took the request; that a clock arrived is seen, never assumed,
/// and so is a change. A reading that fails now and then is left out.
/// Pairs take turns, so that a drift with temperature meets all alike. Where the first clock of a pair never
/// arrives, that switch counts as one that did not. The GPU is left at some clock: its owner restores it.
/// Ends early, with what it has, when the timeline does. `done`, from 0 to 1, is told after each switch.
[[nodiscard]] std::vector<SwitchTime> measure_switches(Device& device, GpuId gpu, ClockSetter& setter,
                                                       Timeline& timeline,
                                                       const std::vector<ClockPair>& pairs,
                                                       const SwitchOptions& options = {},
                                                       const std::function<void(double)>& done = {});

/// What a profile says of them: the slowest pair's median. Nothing if no pair ever arrived.
[[nodiscard]] std::optional<SwitchTimes> summary_of(const std::vector<SwitchTime>& switches);

}  // namespace slackline
