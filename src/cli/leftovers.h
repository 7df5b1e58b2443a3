#pragma once
#include <string>

namespace slackline {

[[nodiscard]] std::string journal_folder(const std::string& runtime_folder);

/// Unlocks what processes that died have left locked, says so, and removes simulated nodes that nobody uses.
void restore_leftovers(const std::string& runtime_folder);

}  // namespace slackline
