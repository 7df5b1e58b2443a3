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

ConfigId config_of(std::vector<std::string>& configs, const std::string& label) {
  if (label.empty()) return ConfigId(0);
  const auto found = std::find(configs.begin(), configs.end(), label);
  const auto number = static_cast<std::int32_t>(found - configs.begin()) + 1;
  if (found == configs.end()) configs.push_back(label);
  return ConfigId(number);
}

const std::string& label_of(const std::vector<std::string>& configs, ConfigId config) {
  static const std::string none;
  return config.value() == 0 ? none : configs[config.index() - 1];
}

std::map<ConfigId, std::vector<Measurement>> by_label(const std::vector<Measurement>& options) {
  std::map<ConfigId, std::vector<Measurement>> series;
  for (const Measurement& m : options) series[m.config].push_back(m);
  return series;
}

std::optional<InstructionKind> missing_kind(const StageProfile& stage) {
  const auto has = [&](InstructionKind kind) { return stage.instructions.contains(kind); };
  if (!has(InstructionKind::kForward)) return InstructionKind::kForward;
  if (has(InstructionKind::kBackward) || has(InstructionKind::kForwardBackward)) return std::nullopt;
  if (!has(InstructionKind::kBackwardInput) && !has(InstructionKind::kBackwardWeight)) {
    return InstructionKind::kBackward;
  }
  if (!has(InstructionKind::kBackwardInput)) return InstructionKind::kBackwardInput;
  if (!has(InstructionKind::kBackwardWeight)) return InstructionKind::kBackwardWeight;
  return std::nullopt;
}

int gpu_count(const Profile& profile) {
  return std::accumulate(profile.stages.begin(), profile.stages.end(), 0,
                         [](int sum, const StageProfile& stage) { return sum + stage.tensor_parallel; });
}

}  // namespace slackline
