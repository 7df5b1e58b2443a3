#pragma once
#include <string>
#include <vector>

#include "slackline/base/ids.h"

namespace slackline {

/// Clocks, highest first: "1410, 1395", or "1185-1410 (16)" where they are many.
[[nodiscard]] inline std::string clocks_text(const std::vector<Megahertz>& clocks) {
  if (clocks.size() > 2) {
    return std::to_string(clocks.back().value()) + "-" + std::to_string(clocks.front().value()) + " (" +
           std::to_string(clocks.size()) + ")";
  }
  std::string text;
  for (const Megahertz clock : clocks) text += (text.empty() ? "" : ", ") + std::to_string(clock.value());
  return text;
}

}  // namespace slackline
