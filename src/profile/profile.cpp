#include "slackline/profile/profile.h"

#include <algorithm>
#include <numeric>

namespace slackline {

Megahertz highest_clock(const StageProfile& stage) {
  Megahertz highest;
  for (const auto& [kind, options] : stage.instructions) {
    for (const Measurement& option : options) highest = std::max(highest, option.clock);
  }
  return highest;
}

const Measurement* find_measurement(const StageProfile& stage, InstructionKind kind, Megahertz clock) {
  const auto options = stage.instructions.find(kind);
  if (options == stage.instructions.end()) return nullptr;
  const auto found = std::find_if(options->second.begin(), options->second.end(),
                                  [&](const Measurement& option) { return option.clock == clock; });
  return found == options->second.end() ? nullptr : &*found;
}

int gpu_count(const Profile& profile) {
  return std::accumulate(profile.stages.begin(), profile.stages.end(), 0,
                         [](int sum, const StageProfile& stage) { return sum + stage.tensor_parallel; });
}

}  // namespace slackline
