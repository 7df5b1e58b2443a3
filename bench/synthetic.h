#pragma once
#include <cmath>
#include <utility>
#include <vector>

#include "dice.h"
#include "slackline/profile/profile.h"

namespace slackline {

/// What a GPU of 48 clocks measures: time grows as the clock falls, power falls faster, both with a percent
/// of noise, so that some options are dominated and some lie off the hull.
inline std::vector<Measurement> synthetic_measurements(Dice& dice, double seconds) {
  std::vector<Measurement> measurements;
  for (int clock = 1410; clock >= 705; clock -= 15) {
    const double share = clock / 1410.0;
    const double time = seconds * (0.2 + 0.8 / share) * dice.between(0.995, 1.005);
    const double power = (120 + 330 * std::pow(share, 2.4)) * dice.between(0.99, 1.01);
    measurements.push_back({Megahertz(clock), Seconds(time), Joules(time * power)});
  }
  return measurements;
}

/// A pipeline whose stages are balanced to ten percent, as a partitioner leaves them; a backward takes about
/// twice as long as a forward. The same seed gives the same profile on every machine.
inline Profile synthetic_profile(std::uint64_t seed, int stages) {
  Dice dice(seed);
  Profile profile;
  for (int s = 0; s < stages; ++s) {
    const double forward = 0.05 * dice.between(0.9, 1.1);
    StageProfile stage;
    stage.blocking_power = Watts(80);
    stage.instructions[InstructionKind::kForward] = synthetic_measurements(dice, forward);
    stage.instructions[InstructionKind::kBackward] = synthetic_measurements(dice, 2 * forward);
    profile.stages.push_back(std::move(stage));
  }
  return profile;
}

}  // namespace slackline
