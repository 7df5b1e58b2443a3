#pragma once
#include <algorithm>
#include <string>
#include <utility>

#include "dice.h"
#include "slackline/base/error.h"
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
    for (const InstructionKind kind : {InstructionKind::kForward, InstructionKind::kBackward}) {
      stage.instructions[kind] = random_measurements(dice, dice.number(1, most_clocks));
    }
    profile.stages.push_back(std::move(stage));
  }
  return profile;
}

/// Some options carry a label, others the same clock with another.
inline void label_some(Dice& dice, Profile& profile, std::vector<Measurement>& options) {
  std::vector<Measurement> labelled;
  for (const Measurement& m : options) {
    labelled.push_back(m);
    if (dice.number(0, 3) != 0) continue;
    labelled.back().config = config_of(profile.configs, "fused");
    labelled.push_back({m.clock, m.time * dice.between(0.9, 1.2), m.energy * dice.between(0.9, 1.2),
                        config_of(profile.configs, dice.number(0, 1) == 0 ? "sms=96" : "none 12")});
  }
  options = std::move(labelled);
}

/// Every kind that an order can run, sometimes fixed-time ones, overlapped pairs, transfers and labels.
/// Stages agree about their GPUs if `alike`, as those of one rank must.
inline Profile random_rich_profile(Dice& dice, int stages, int most_clocks, bool alike) {
  Profile profile = random_profile(dice, stages, most_clocks);
  const bool with_fixed_times = dice.number(0, 2) == 0;
  const bool with_labels = dice.number(0, 3) == 0;
  const bool with_transfers = dice.number(0, 1) == 0;
  const bool with_errors = dice.number(0, 1) == 0;
  for (StageProfile& stage : profile.stages) {
    if (alike) {
      stage.blocking_power = profile.stages[0].blocking_power;
      stage.tensor_parallel = profile.stages[0].tensor_parallel;
    }
    if (with_transfers) stage.transfer = Seconds(dice.between(0, 0.01));
    for (const InstructionKind kind : kInstructionKinds) {
      const bool is_optional = is_fixed_time(kind) || kind == InstructionKind::kOverlapped;
      if (is_optional && (!with_fixed_times || dice.number(0, 1) == 0)) continue;
      if (is_fixed_time(kind)) {
        stage.instructions[kind] = {
            {Megahertz(0), Seconds(dice.between(0.001, 0.01)), Joules(dice.between(0, 1))}};
      } else if (!stage.instructions.contains(kind)) {
        stage.instructions[kind] = random_measurements(dice, dice.number(1, most_clocks));
      }
      if (with_errors) {
        for (Measurement& m : stage.instructions[kind]) m.time_error = m.time * dice.between(0, 0.01);
      }
      if (with_labels && !is_fixed_time(kind)) label_some(dice, profile, stage.instructions[kind]);
    }
  }
  return profile;
}

/// Any order that these numbers allow.
inline Workload random_workload(Dice& dice, int most_stages, int most_microbatches, int most_clocks) {
  const auto& names = order_names();
  while (true) {
    const std::string& name =
        names[static_cast<std::size_t>(dice.number(0, static_cast<int>(names.size()) - 1))];
    const int stages = dice.number(1, most_stages);
    const OrderSpec spec{name, dice.number(1, most_microbatches)};
    try {
      (void)make_order(spec, stages);
    } catch (const InputError&) {  // not with these numbers
      continue;
    }
    const bool shares_ranks = default_chunks(name) > 1 || name == "dualpipe";
    return {random_rich_profile(dice, stages, most_clocks, shares_ranks), spec};
  }
}

}  // namespace slackline
