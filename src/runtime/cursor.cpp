#include "slackline/runtime/cursor.h"

#include "slackline/base/instruction_kind.h"

namespace slackline {
namespace {

std::string describe(std::int32_t kind, std::int32_t microbatch) {
  std::string text(name_of(static_cast<InstructionKind>(kind)));
  if (microbatch >= 0) text += " of microbatch " + std::to_string(microbatch);
  return text;
}

}  // namespace

std::string Cursor::mismatch(std::int32_t kind, std::int32_t microbatch) const {
  if (next_ >= plan_.size()) {
    return "the job runs " + describe(kind, microbatch) + " after the " + std::to_string(plan_.size()) +
           " instructions that the schedule lists for this stage";
  }
  const PlanEntry& planned = plan_[next_];
  return "the job runs " + describe(kind, microbatch) + " where the schedule has " +
         describe(planned.kind, planned.microbatch) + " (instruction " + std::to_string(next_) +
         " of the step)";
}

std::string Cursor::leftover() const {
  if (next_ == plan_.size()) return {};
  return "the step ends after " + std::to_string(next_) + " of the " + std::to_string(plan_.size()) +
         " instructions that the schedule lists for this stage";
}

}  // namespace slackline
