#pragma once
#include <string>

#include "slackline/base/ids.h"
#include "slackline/base/instruction_kind.h"

namespace slackline {

/// One step of an iteration: of one microbatch on one stage. Kinds that run once an iteration go by the first
/// microbatch.
struct Instruction {
  InstructionKind kind = InstructionKind::kForward;
  StageId stage;
  MicrobatchId microbatch;
  /// Of kOverlapped only: the backward that runs beside the forward of `stage` and `microbatch`.
  StageId backward_stage{};
  MicrobatchId backward_microbatch{};

  bool operator==(const Instruction&) const = default;
};

/// Two parts of an overlapped pair, to be run one after the other.
[[nodiscard]] inline Instruction forward_part(const Instruction& pair) {
  return {InstructionKind::kForward, pair.stage, pair.microbatch};
}
[[nodiscard]] inline Instruction backward_part(const Instruction& pair) {
  return {InstructionKind::kBackward, pair.backward_stage, pair.backward_microbatch};
}

/// "F3@1": forward of microbatch 3 on stage 1. I is backward-input, W backward-weight, R recompute, FB
/// forward-backward; "F3@1&B0@6" is an overlapped pair.
[[nodiscard]] std::string short_name(const Instruction& instruction);

}  // namespace slackline
