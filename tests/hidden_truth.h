#pragma once
#include <algorithm>
#include <cmath>
#include <vector>

#include "dice.h"
#include "slackline/profile/profile.h"

namespace slackline {

/// A profile with every figure moved: a factor for each stage and kind, one that grows towards low clocks,
/// and some jitter of each clock.
inline Profile hidden_truth(Profile profile, Dice& dice, double jitter = 0.003) {
  for (StageProfile& stage : profile.stages) {
    stage.blocking_power = *stage.blocking_power * dice.between(0.85, 1.15);
    for (auto& [kind, options] : stage.instructions) {
      const double time = dice.between(0.85, 1.15);
      const double energy = dice.between(0.85, 1.15);
      const double bend = dice.between(-0.05, 0.05);
      for (std::size_t i = 0; i < options.size(); ++i) {
        const double down = static_cast<double>(i) / static_cast<double>(options.size());
        options[i].time = options[i].time * (time * (1 + bend * down) * (1 + jitter * normal(dice)));
        options[i].energy = options[i].energy * (energy * (1 - bend * down) * (1 + jitter * normal(dice)));
      }
    }
  }
  return profile;
}

/// As a profiler would measure `truth`: with a little noise, which is stated.
inline Profile measurements(Profile truth, Dice& dice, double time_noise = 0.002,
                            double energy_noise = 0.004) {
  for (StageProfile& stage : truth.stages) {
    for (auto& [kind, options] : stage.instructions) {
      for (Measurement& m : options) {
        m.time_error = m.time * time_noise;
        m.energy_error = m.energy * energy_noise;
        m.time = m.time * (1 + time_noise * normal(dice));
        m.energy = m.energy * (1 + energy_noise * normal(dice));
      }
    }
  }
  return truth;
}

/// The clocks of each stage, highest first.
inline std::vector<std::vector<Megahertz>> clocks_of(const Profile& profile) {
  std::vector<std::vector<Megahertz>> clocks;
  for (const StageProfile& stage : profile.stages) {
    clocks.emplace_back();
    for (const Measurement& m : stage.instructions.begin()->second) clocks.back().push_back(m.clock);
  }
  return clocks;
}

/// `profile` with only these clocks of each stage.
inline Profile only(Profile profile, const std::vector<std::vector<Megahertz>>& clocks) {
  for (std::size_t s = 0; s < profile.stages.size(); ++s) {
    for (auto& [kind, options] : profile.stages[s].instructions) {
      std::erase_if(options, [&](const Measurement& m) {
        return std::find(clocks[s].begin(), clocks[s].end(), m.clock) == clocks[s].end();
      });
    }
  }
  return profile;
}

/// `count` of `clocks`, both ends among them.
inline std::vector<Megahertz> evenly(const std::vector<Megahertz>& clocks, std::size_t count) {
  std::vector<Megahertz> chosen;
  for (std::size_t k = 0; k < count; ++k) {
    const double at = static_cast<double>(k * (clocks.size() - 1)) / static_cast<double>(count - 1);
    chosen.push_back(clocks[static_cast<std::size_t>(std::lround(at))]);
  }
  return chosen;
}

}  // namespace slackline
