#pragma once
#include <cstddef>
#include <string>

namespace slackline {

/// Unlocks what processes that died have left locked, says so, and removes what they have left of folders of
/// their own. Returns how many GPUs could not be restored.
std::size_t restore_leftovers(const std::string& runtime_folder);

}  // namespace slackline
