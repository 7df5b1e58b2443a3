#pragma once
#include <optional>
#include <string>
#include <vector>

#include "slackline/base/quantity.h"

namespace slackline {

/// One way to run an iteration.
struct ComparisonRow {
  std::string method;
  /// Of one pipeline, all its GPUs.
  Seconds time;
  Joules energy;
  /// How long it took to find it, where that is worth saying.
  std::optional<Seconds> planning{};
};

/// The first row is what the others are compared with.
[[nodiscard]] std::string comparison_text(const std::vector<ComparisonRow>& rows);
[[nodiscard]] std::string comparison_json(const std::vector<ComparisonRow>& rows);

}  // namespace slackline
