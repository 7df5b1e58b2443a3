#include "slackline/base/instruction_kind.h"

namespace slackline {

std::string_view name_of(InstructionKind kind) {
  switch (kind) {
    case InstructionKind::kForward:
      return "forward";
    case InstructionKind::kBackward:
      return "backward";
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
