#include "slackline/runtime/cursor.h"

#include "slackline/base/instruction_kind.h"

namespace slackline {
namespace {

std::string describe(const OrderEntry& instruction) {
  std::string text(name_of(static_cast<InstructionKind>(instruction.kind)));
  if (instruction.microbatch >= 0) text += " of microbatch " + std::to_string(instruction.microbatch);
  if (instruction.stage >= 0) text += " on stage " + std::to_string(instruction.stage);
  return text;
}

}  // namespace

std::string Cursor::mismatch(const OrderEntry& run) const {
  if (next_ >= order_.size()) {
    return "the job runs " + describe(run) + " after the " + std::to_string(order_.size()) +
           " instructions that the schedule lists for this rank";
  }
  return "the job runs " + describe(run) + " where the schedule has " + describe(order_[next_]) +
         " (instruction " + std::to_string(next_) + " of the step)";
}

std::string Cursor::leftover() const {
  if (next_ == order_.size()) return {};
  return "the step ends after " + std::to_string(next_) + " of the " + std::to_string(order_.size()) +
         " instructions that the schedule lists for this rank; " + describe(order_[next_]) + " was next";
}

}  // namespace slackline
