#pragma once
#include <algorithm>
#include <string>
#include <utility>

#include "dice.h"
#include "slackline/profile/profile.h"
#include "slackline/schedule/workload.h"

namespace slackline {

/// Measurements that look like a GPU's: slower and thriftier as the clock falls, with noise, so that some
/// options are dominated and some lie off the hull.
inline std::vector<Measurement> random_measurements(Dice& dice, int clocks) {
  std::vector<Measurement> measurements;
  const double base_time = dice.between(0.002, 0.05);
  const double base_power = dice.between(200, 400);
  for (int k = 0; k < clocks; ++k) {
    const int clock = 1410 - 15 * k;
    const double slowing = 1410.0 / clock * dice.between(0.99, 1.01);
    const double power = base_power / (slowing * slowing) * dice.between(0.97, 1.03);
    measurements.push_back(
        {Megahertz(clock), Seconds(base_time * slowing), Joules(base_time * slowing * power)});
  }
  return measurements;
}

inline Profile random_profile(Dice& dice, int stages, int most_clocks) {
  Profile profile;
  for (int s = 0; s < stages; ++s) {
    StageProfile stage;
    stage.blocking_power = Watts(dice.between(0, 90));
    stage.tensor_parallel = dice.number(1, 4);
    for (const InstructionKind kind : kInstructionKinds) {
      stage.instructions[kind] = random_measurements(dice, dice.number(1, most_clocks));
    }
    // All-max runs both kinds at the stage's highest clock, which every list begins with.
    profile.stages.push_back(std::move(stage));
  }
  return profile;
}

inline Workload random_workload(Dice& dice, int most_stages, int most_microbatches, int most_clocks) {
  const int stages = dice.number(1, most_stages);
  const int microbatches = dice.number(1, most_microbatches);
  const std::string order = dice.number(0, 1) == 0 ? "1f1b" : "gpipe";
  return {random_profile(dice, stages, most_clocks), order, microbatches};
}

}  // namespace slackline
