#pragma once
#include "slackline/profile/profile.h"

namespace slackline {

/// How far measurements lie from the smooth curves through them: root mean square of the relative deviations.
struct SmoothingResidual {
  double time = 0;
  double energy = 0;
};

/// Replaces noisy measurements by nearby ones without noise, at the same clocks: time becomes a convex
/// function of the clock, and the effective cost (energy less what waiting would draw) a convex function of
/// that time, both by least squares relative to the values (convex_fit). A hull picks the luckiest of noisy
/// points; of these it does not. Kinds with fewer than five clocks stay as they are. Needs blocking powers.
/// Noted in Profile::derived as "smooth=convex".
SmoothingResidual smooth_convex(Profile& profile);

}  // namespace slackline
