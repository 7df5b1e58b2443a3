#pragma once
#include <optional>
#include <vector>

#include "slackline/pipeline/order.h"
#include "slackline/profile/profile.h"

namespace slackline {

// For who can measure only a few clocks of each stage: which ones, and what of the others.

struct NextClocks {
  /// What to measure next of each stage; nothing of one that gains nothing any more.
  std::vector<std::optional<Megahertz>> clocks;
  /// How much more energy, relative, a plan made of what is known now is expected to use than one that knows
  /// all. 1 while that is not even a guess.
  double predicted_regret = 1;
};

/// The clock of each stage whose measurement changes the plan most: not the one where its curve is least
/// sure, but where plans use it. `measured`: stages without instructions have not been measured at all.
/// `supported`: clocks of each stage, highest first. First the ends, highest then lowest; from then on, stage
/// by stage, that clock which takes most off the sum over all clocks of (how often the frontier's plans use
/// it, or one beside it) x (how far its cost may be off, by the DVFS model). By the envelope theorem that sum
/// is how far the frontier itself may be off: its energy moves by an option's cost as often as the option is
/// used. InputError if the order cannot be made of the stages.
[[nodiscard]] NextClocks next_clocks(const Profile& measured,
                                     const std::vector<std::vector<Megahertz>>& supported,
                                     const OrderSpec& order);

/// With every supported clock between the lowest and the highest one that was measured; those that were not
/// are predicted by a DvfsModel, with its errors, and marked.
[[nodiscard]] Profile completed(const Profile& measured,
                                const std::vector<std::vector<Megahertz>>& supported);

}  // namespace slackline
