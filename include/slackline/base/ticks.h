#pragma once
#include <cmath>
#include <cstdint>

#include "slackline/base/quantity.h"

namespace slackline {

/// Planned time is a whole number of picoseconds, so that adding and comparing it is exact. 2^63 of them are
/// 106 days. A picosecond rather than a nanosecond keeps a sum of thousands of rounded instructions within
/// 1e-11 of the measured times.
using Ticks = std::int64_t;
inline constexpr double kTicksPerSecond = 1e12;
/// Longest iteration that is planned; leaves room for sums in 63 bits.
inline constexpr Ticks kMaxTicks = Ticks{1} << 61;

[[nodiscard]] inline Ticks to_ticks(Seconds time) {
  return std::llround(time.value() * kTicksPerSecond);
}
[[nodiscard]] constexpr Seconds to_seconds(Ticks ticks) {
  return Seconds(static_cast<double>(ticks) / kTicksPerSecond);
}

}  // namespace slackline
