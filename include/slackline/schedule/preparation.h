#pragma once
#include <string_view>

#include "slackline/profile/profile.h"

namespace slackline {

/// Changes a profile as it is said in Schedule::derived: a request of derive_kinds, or "smooth=convex".
void prepare(Profile& profile, std::string_view request);

}  // namespace slackline
