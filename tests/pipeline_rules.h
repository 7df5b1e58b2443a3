#pragma once
#include <algorithm>
#include <set>
#include <string>
#include <tuple>
#include <vector>

#include "slackline/pipeline/order.h"

namespace slackline {

// The rules of a pipeline, written down anew: shares nothing with the Dag.

constexpr auto kForward = InstructionKind::kForward;
constexpr auto kBackward = InstructionKind::kBackward;

inline Instruction instruction(InstructionKind kind, int stage, int microbatch) {
  return {kind, StageId(stage), MicrobatchId(microbatch)};
}
inline Instruction forward(int stage, int microbatch) {
  return instruction(kForward, stage, microbatch);
}
inline Instruction backward(int stage, int microbatch) {
  return instruction(kBackward, stage, microbatch);
}

/// Of each set, one has to have run.
using Needs = std::vector<std::vector<Instruction>>;

inline std::vector<Instruction> gradients_of(int stage, int microbatch) {
  return {backward(stage, microbatch), instruction(InstructionKind::kBackwardInput, stage, microbatch),
          instruction(InstructionKind::kForwardBackward, stage, microbatch)};
}

inline Needs needs_of(const Instruction& i, int stages) {
  const int stage = i.stage.value();
  const int m = i.microbatch.value();
  Needs needs;
  switch (i.kind) {
    case InstructionKind::kForward:
      if (stage > 0) needs.push_back({forward(stage - 1, m)});
      break;
    case InstructionKind::kOverlapped:
      needs = needs_of(forward_part(i), stages);
      for (auto& need : needs_of(backward_part(i), stages)) needs.push_back(need);
      break;
    case InstructionKind::kBackwardWeight:
      needs.push_back({instruction(InstructionKind::kBackwardInput, stage, m)});
      break;
    case InstructionKind::kRecompute:
      needs.push_back({forward(stage, m)});
      break;
    default:
      needs.push_back({forward(stage, m)});
      if (stage + 1 < stages) needs.push_back(gradients_of(stage + 1, m));
  }
  return needs;
}

/// Runs an order as a job would: every rank waits for what its next instruction needs, and nothing else. True
/// if all of it runs.
inline bool runs_to_the_end(const Order& order, int stages) {
  using Key = std::tuple<InstructionKind, StageId, MicrobatchId>;
  std::set<Key> done;
  const auto key = [](const Instruction& i) { return Key{i.kind, i.stage, i.microbatch}; };
  const auto is_met = [&](const std::vector<Instruction>& need) {
    return std::any_of(need.begin(), need.end(), [&](const Instruction& i) { return done.contains(key(i)); });
  };
  std::vector<std::size_t> next(order.size(), 0);
  for (bool progress = true; progress;) {
    progress = false;
    for (std::size_t rank = 0; rank < order.size(); ++rank) {
      while (next[rank] < order[rank].size()) {
        const Instruction& i = order[rank][next[rank]];
        const Needs needs = needs_of(i, stages);
        if (!std::all_of(needs.begin(), needs.end(), is_met)) break;
        if (i.kind == InstructionKind::kOverlapped) {
          done.insert(key(forward_part(i)));
          done.insert(key(backward_part(i)));
        } else {
          done.insert(key(i));
        }
        ++next[rank];
        progress = true;
      }
    }
  }
  for (std::size_t rank = 0; rank < order.size(); ++rank) {
    if (next[rank] != order[rank].size()) return false;
  }
  return true;
}

}  // namespace slackline
