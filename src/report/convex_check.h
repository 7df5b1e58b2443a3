#pragma once
#include <optional>
#include <vector>

#include "slackline/report/profile_report.h"

namespace slackline {

/// Of options of one kind with one label; modelled ones do not count.
///
/// One outlier bends a least-squares fit towards itself and makes outliers of its neighbours. So the worst is
/// set aside and the rest fitted again, until all of the rest are near. A standard error below 1e-3 of its
/// figure counts as that: no GPU follows a convex curve more exactly, and no plan needs it.
[[nodiscard]] std::optional<ConvexCheck> check_convexity(const std::vector<Measurement>& options);

}  // namespace slackline
