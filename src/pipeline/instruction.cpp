#include "slackline/pipeline/instruction.h"

namespace slackline {
namespace {

std::string_view letters(InstructionKind kind) {
  switch (kind) {
    case InstructionKind::kForward:
    case InstructionKind::kOverlapped:
      return "F";
    case InstructionKind::kBackward:
      return "B";
    case InstructionKind::kBackwardInput:
      return "I";
    case InstructionKind::kBackwardWeight:
      return "W";
    case InstructionKind::kRecompute:
      return "R";
    case InstructionKind::kForwardBackward:
      return "FB";
    case InstructionKind::kDataLoad:
      return "load";
    case InstructionKind::kSendForward:
      return "sendF";
    case InstructionKind::kReceiveForward:
      return "recvF";
    case InstructionKind::kSendBackward:
      return "sendB";
    case InstructionKind::kReceiveBackward:
      return "recvB";
    case InstructionKind::kGradientAllReduce:
      return "reduce";
    case InstructionKind::kOptimizer:
      return "opt";
  }
  return "?";
}

}  // namespace

std::string short_name(const Instruction& instruction) {
  std::string name(letters(instruction.kind));
  name += std::to_string(instruction.microbatch.value()) + "@" + std::to_string(instruction.stage.value());
  if (instruction.kind == InstructionKind::kOverlapped) name += "&" + short_name(backward_part(instruction));
  return name;
}

}  // namespace slackline
