#pragma once
#include <cstddef>
#include <string>

namespace slackline {

/// Unlocks what processes that died have left locked, says so, and removes simulated nodes that nobody uses.
/// Returns how many GPUs could not be restored.
std::size_t restore_leftovers(const std::string& runtime_folder);

}  // namespace slackline
