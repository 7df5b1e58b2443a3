#pragma once
#include <string>
#include <vector>

#include "slackline/device/device.h"

namespace slackline {

/// How long this process waits for one kind of reading.
struct ReadingCost {
  std::string reading;  // "clock"
  Seconds median;       // of the host's time
  Seconds longest;
  std::string why_not;  // it cannot be read here; empty if it can
};

/// Of each reading that a Device has, in a fixed order, by `calls` calls of each, one kind after the other.
[[nodiscard]] std::vector<ReadingCost> reading_costs(Device& device, GpuId gpu, int calls = 50);

}  // namespace slackline
