#pragma once
#include <set>
#include <vector>

#include "slackline/pipeline/order.h"

namespace slackline {

/// For each stage the kinds that its profile has.
using StageKinds = std::vector<std::set<InstructionKind>>;

/// What the ranks run of `order`, given what was measured. An overlapped pair whose forward's stage has no
/// options for it runs as a forward and then a backward. Fixed-time kinds that a stage has take their places:
/// data-load before each forward; receive and send directly before and after each instruction whose input or
/// result crosses ranks; gradient-all-reduce and then optimizer at the end,
/// under the number of the rank's first microbatch.
[[nodiscard]] Order with_kinds(const Order& order, const StageKinds& kinds);

}  // namespace slackline
