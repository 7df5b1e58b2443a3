#pragma once
#include <string>
#include <string_view>
#include <vector>

#include "slackline/base/ids.h"
#include "slackline/base/instruction_kind.h"

namespace slackline {

/// One step of one microbatch on one stage.
struct Instruction {
  InstructionKind kind = InstructionKind::kForward;
  StageId stage;
  MicrobatchId microbatch;

  bool operator==(const Instruction&) const = default;
};

/// Who runs what when: for each stage its instructions in the order of execution. (The field calls this a
/// pipeline schedule; in Slackline "schedule" always means clocks.)
using Order = std::vector<std::vector<Instruction>>;

/// Largest iteration that is planned, in instructions.
inline constexpr std::int64_t kMaxInstructions = 2'000'000;

/// Names that make_order knows.
[[nodiscard]] const std::vector<std::string>& order_names();

/// The order called `name`. InputError, naming the flag, for an unknown name, for a count below 1 or for more
/// than kMaxInstructions.
///
/// "1f1b": PipeDream-flush, as Megatron-LM, torch and DeepSpeed run it. Stage s of S warms up with min(S-1-s,
/// M) forwards, then alternates one forward with one backward, then drains. "gpipe": all forwards, then all
/// backwards, both in the order of the microbatches (torch's ScheduleGPipe).
[[nodiscard]] Order make_order(std::string_view name, int stages, std::int64_t microbatches);

}  // namespace slackline
