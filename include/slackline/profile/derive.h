#pragma once
#include <string_view>

#include "slackline/profile/profile.h"

namespace slackline {

/// Adds to every stage that lacks them kinds made from what was measured, clock by clock (an estimate, which
/// only measuring replaces). InputError, naming --derive, for an unknown request or a stage without what it
/// is made from.
///
/// "split-backward=SHARE": backward-input takes SHARE (above 0, below 1) of backward's time and energy,
///     backward-weight the rest. Stage 0 has no input gradient to compute: it takes a thousandth there.
/// "backward": the sum of backward-input and backward-weight.
/// "recompute": recompute is a forward; forward-backward the sum of forward and backward.
void derive_kinds(Profile& profile, std::string_view request);

}  // namespace slackline
