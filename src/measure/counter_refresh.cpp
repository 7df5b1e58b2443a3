#include "slackline/measure/counter_refresh.h"

#include <algorithm>
#include <optional>
#include <vector>

#include "slackline/base/error.h"

namespace slackline {

CounterRefresh watch_counter(Device& device, GpuId gpu, Timeline& timeline, Seconds duration, Seconds poll,
                             const std::function<void(double)>& done) {
  CounterRefresh refresh;
  std::vector<Seconds> intervals;
  std::optional<Joules> value;
  std::optional<Seconds> changed;
  const Seconds begin = timeline.now();
  Seconds now = begin;
  while (now < begin + duration) {
    try {
      const Joules total = device.energy(gpu).total;
      now = timeline.now();
      if (value && total != *value) {
        if (changed) intervals.push_back(now - *changed);
        changed = now;
      }
      value = total;
    } catch (const DeviceError& error) {
      refresh.fault = error.what();
    }
    if (done) done((now - begin) / duration);
    if (!timeline.sleep_until(now + poll)) break;
    now = timeline.now();
  }
  if (intervals.empty()) return refresh;
  std::ranges::sort(intervals);
  refresh.intervals = intervals.size();
  refresh.shortest = intervals.front();
  refresh.median = intervals[intervals.size() / 2];
  refresh.longest = intervals.back();
  return refresh;
}

}  // namespace slackline
