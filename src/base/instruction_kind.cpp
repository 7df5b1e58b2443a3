#include "slackline/base/instruction_kind.h"

namespace slackline {

std::string_view name_of(InstructionKind kind) {
  switch (kind) {
    case InstructionKind::kForward:
      return "forward";
    case InstructionKind::kBackward:
      return "backward";
    case InstructionKind::kBackwardInput:
      return "backward-input";
    case InstructionKind::kBackwardWeight:
      return "backward-weight";
    case InstructionKind::kRecompute:
      return "recompute";
    case InstructionKind::kForwardBackward:
      return "forward-backward";
    case InstructionKind::kOverlapped:
      return "overlapped-forward-backward";
    case InstructionKind::kDataLoad:
      return "data-load";
    case InstructionKind::kSendForward:
      return "send-forward";
    case InstructionKind::kReceiveForward:
      return "receive-forward";
    case InstructionKind::kSendBackward:
      return "send-backward";
    case InstructionKind::kReceiveBackward:
      return "receive-backward";
    case InstructionKind::kGradientAllReduce:
      return "gradient-all-reduce";
    case InstructionKind::kOptimizer:
      return "optimizer";
  }
  return "unknown";
}

std::optional<InstructionKind> instruction_kind(std::string_view name) {
  for (const InstructionKind kind : kInstructionKinds) {
    if (name_of(kind) == name) return kind;
  }
  return std::nullopt;
}

}  // namespace slackline
