#pragma once
#include <functional>
#include <string>

#include "slackline/device/device.h"

namespace slackline {

/// How often an energy counter was seen to refresh.
struct CounterRefresh {
  /// Intervals between two refreshes; the three times are 0 if there is none.
  std::size_t intervals = 0;
  Seconds shortest;
  Seconds median;
  Seconds longest;
  /// Of the last reading that failed; readings that fail now and then are left out.
  std::string fault;
};

/// Reads the counter every `poll` for `duration` and notes when its value changes, whatever the driver says
/// about when that was: so an interval is known to about one poll.
[[nodiscard]] CounterRefresh watch_counter(Device& device, GpuId gpu, Timeline& timeline, Seconds duration,
                                           Seconds poll = Seconds(0.002),
                                           const std::function<void(double)>& done = {});

}  // namespace slackline
