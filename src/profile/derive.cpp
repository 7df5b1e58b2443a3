#include "slackline/profile/derive.h"

#include <algorithm>
#include <cmath>
#include <utility>

#include "slackline/base/error.h"
#include "slackline/base/number_text.h"

namespace slackline {
namespace {

constexpr std::string_view kSplit = "split-backward=";
/// An instruction cannot take no time at all.
constexpr double kInputShareOfFirstStage = 1e-3;

[[noreturn]] void refuse(const std::string& reason) {
  throw InputError("", 0, "--derive", reason);
}

using Options = std::vector<Measurement>;

const Options& needed(const StageProfile& stage, InstructionKind kind, std::size_t number) {
  const auto found = stage.instructions.find(kind);
  if (found == stage.instructions.end()) {
    refuse("stage " + std::to_string(number) + " has no '" + std::string(name_of(kind)) +
           "' to make it from");
  }
  return found->second;
}

Options share_of(const Options& whole, double share) {
  Options part = whole;
  for (Measurement& m : part) {
    m.time = m.time * share;
    m.energy = m.energy * share;
    m.time_error = m.time_error * share;
    m.energy_error = m.energy_error * share;
    m.second_energy = m.second_energy * share;
    m.second_energy_error = m.second_energy_error * share;
  }
  return part;
}

/// Option by option where both have the same clock and label.
Options sum_of(const Options& a, const Options& b, std::size_t number) {
  Options sum;
  for (const Measurement& first : a) {
    const auto second = std::find_if(b.begin(), b.end(), [&](const Measurement& m) {
      return m.clock == first.clock && m.config == first.config;
    });
    if (second == b.end()) continue;
    // The errors of the times add up, as they do where everything is late at once.
    Measurement both{first.clock,
                     first.time + second->time,
                     first.energy + second->energy,
                     first.config,
                     first.time_error + second->time_error,
                     Joules(std::hypot(first.energy_error.value(), second->energy_error.value()))};
    both.is_modelled = first.is_modelled || second->is_modelled;
    sum.push_back(both);
  }
  if (sum.empty()) refuse("the kinds to add up have no clock in common on stage " + std::to_string(number));
  return sum;
}

void split_backward(Profile& profile, double share) {
  for (std::size_t s = 0; s < profile.stages.size(); ++s) {
    auto& kinds = profile.stages[s].instructions;
    const bool has_input = kinds.contains(InstructionKind::kBackwardInput);
    if (has_input != kinds.contains(InstructionKind::kBackwardWeight)) {
      refuse("stage " + std::to_string(s) + " has only one half of its backward; measure the other one too");
    }
    if (has_input) continue;
    const Options& backward = needed(profile.stages[s], InstructionKind::kBackward, s);
    const double input = s == 0 ? kInputShareOfFirstStage : share;
    kinds[InstructionKind::kBackwardWeight] = share_of(backward, 1 - input);
    kinds[InstructionKind::kBackwardInput] = share_of(backward, input);
  }
}

void join_backward(Profile& profile) {
  for (std::size_t s = 0; s < profile.stages.size(); ++s) {
    StageProfile& stage = profile.stages[s];
    if (stage.instructions.contains(InstructionKind::kBackward)) continue;
    Options backward = sum_of(needed(stage, InstructionKind::kBackwardInput, s),
                              needed(stage, InstructionKind::kBackwardWeight, s), s);
    stage.instructions[InstructionKind::kBackward] = std::move(backward);
  }
}

void add_recompute(Profile& profile) {
  for (std::size_t s = 0; s < profile.stages.size(); ++s) {
    StageProfile& stage = profile.stages[s];
    const Options forward = needed(stage, InstructionKind::kForward, s);
    const Options backward = needed(stage, InstructionKind::kBackward, s);
    stage.instructions.emplace(InstructionKind::kRecompute, forward);
    stage.instructions.emplace(InstructionKind::kForwardBackward, sum_of(forward, backward, s));
  }
}

}  // namespace

void derive_kinds(Profile& profile, std::string_view request) {
  const std::string_view name = request.substr(0, request.find('='));
  for (const std::string& earlier : profile.derived) {
    if (std::string_view(earlier).substr(0, earlier.find('=')) == name) {
      refuse("'" + std::string(name) + "' is asked for twice");
    }
  }
  profile.derived.emplace_back(request);
  if (request == "backward") return join_backward(profile);
  if (request == "recompute") return add_recompute(profile);
  if (!request.starts_with(kSplit)) {
    refuse("unknown request '" + std::string(request) +
           "'; known: split-backward=SHARE, backward, recompute");
  }
  const auto share = parse_number(request.substr(kSplit.size()));
  if (!share || *share <= 0 || *share >= 1) {
    refuse("'" + std::string(request.substr(kSplit.size())) + "' is not a share above 0 and below 1");
  }
  split_backward(profile, *share);
}

}  // namespace slackline
