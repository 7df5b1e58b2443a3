#pragma once
#include <vector>

#include "slackline/frontier/frontier.h"

namespace slackline {

/// Times for plans along the frontier, rising, from its fastest time to its slowest; `kept` are among them.
/// At any time between two of them the earlier plan runs and waits: the times lie so that this never costs
/// more than `loss` (relative) over the bound there.
[[nodiscard]] std::vector<Ticks> times_within(const Frontier& frontier, const std::vector<Ticks>& kept,
                                              double loss);

/// At most `count` of them (but all of `kept` and both ends), so that the largest loss is as small as it can
/// be.
[[nodiscard]] std::vector<Ticks> spread_times(const Frontier& frontier, const std::vector<Ticks>& kept,
                                              std::size_t count);

}  // namespace slackline
