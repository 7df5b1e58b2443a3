#pragma once
#include <string>

#include "slackline/profile/profile.h"

namespace slackline {

/// An SVG that needs no other file: energy over time of every kind with clocks to choose, a panel a stage,
/// with bars of two standard errors and the lower convex hull. Light or dark as its reader has it. The same
/// profile gives the same bytes. Figures must have passed summarise().
[[nodiscard]] std::string profile_svg(const Profile& profile);

}  // namespace slackline
