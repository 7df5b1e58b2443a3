#pragma once
#include <vector>

#include "sim_layout.h"
#include "slackline/device/sim_world.h"

namespace slackline {

/// Bytes of a node's file with these ranks.
[[nodiscard]] std::size_t layout_bytes(const std::vector<SimRank>& ranks);
/// Describes the ranks and their GPUs in a layout that is zero; its mutex and magic are the caller's.
void build(SimLayout& world, const std::vector<SimRank>& ranks, const SimOptions& options);

}  // namespace slackline
