#pragma once
#include <cmath>
#include <string>
#include <vector>

#include "dice.h"
#include "slackline/profile/profile_io.h"

namespace slackline {

inline double relative_error(double measured, double expected) {
  return std::abs(measured / expected - 1);
}

/// The published profile of a model, or of GPT-3's first stages.
inline Profile published(const std::string& model) {
  return read_profile(std::string(SLACKLINE_SOURCE_DIR) + "/profiles/" + model + "-a100-sxm.yaml");
}
inline Profile published(std::size_t stages) {
  Profile profile = published("gpt3-175b");
  profile.stages.resize(stages);
  return profile;
}

/// The same with every figure moved: a factor for each stage and kind, one that grows towards low clocks, and
/// some jitter.
template <class Which>
Profile hidden_truth(Dice& dice, const Which& which) {
  Profile profile = published(which);
  for (StageProfile& stage : profile.stages) {
    stage.blocking_power = *stage.blocking_power * dice.between(0.85, 1.15);
    for (auto& [kind, options] : stage.instructions) {
      const double time = dice.between(0.85, 1.15);
      const double energy = dice.between(0.85, 1.15);
      const double bend = dice.between(-0.05, 0.05);
      for (std::size_t i = 0; i < options.size(); ++i) {
        const double down = static_cast<double>(i) / static_cast<double>(options.size());
        options[i].time = options[i].time * (time * (1 + bend * down) * (1 + 0.003 * normal(dice)));
        options[i].energy = options[i].energy * (energy * (1 - bend * down) * (1 + 0.003 * normal(dice)));
      }
    }
  }
  return profile;
}

}  // namespace slackline
