#pragma once
#include <cstdint>
#include <string>
#include <vector>

#include "slackline/device/event_reasons.h"

namespace slackline {

/// One by one, for reports, which know nothing of devices.
[[nodiscard]] inline std::vector<std::string> names_of(EventReasons reasons) {
  std::vector<std::string> names;
  for (std::uint32_t bit = 1; bit != 0; bit <<= 1) {
    if ((reasons.bits() & bit) != 0) names.push_back(text_of(EventReasons(bit)));
  }
  return names;
}

}  // namespace slackline
