#pragma once
#include <functional>

#include "slackline/device/device.h"

namespace slackline {

/// How often a counter refreshes, found by watching it: the median distance of a few changes. Takes six
/// changes or a second and a half, whichever comes first. A reading that fails is left out.
/// DeviceError if the counter changes less than twice in that time, or if the timeline is shut down.
///
/// A change counts from when the reading says it was, so a driver that stamps its readings gives the period
/// exactly; one that does not gives it as exactly as it is polled, which is every 2 ms.
[[nodiscard]] Seconds measure_refresh_period(const std::function<EnergyReading()>& read, Timeline& time);

}  // namespace slackline
