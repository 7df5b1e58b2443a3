#pragma once
#include "slackline/schedule/workload.h"

namespace slackline {

struct EnvPipePlan {
  Clocks clocks;
  /// What the clocks really give, which is also what the artifact publishes; it can be slower than all-max
  /// where the highest clock is not the fastest.
  Evaluation evaluation;
};

/// EnvPipe (ATC 2023) as the Perseus artifact ports it. The outer envelope (the last stage, the first forward
/// and the last backward of every stage) runs at its highest clock, everything else at first at the clock of
/// least energy. Then, round after round, of the instructions on a critical path those with the lowest clock
/// go one clock higher, until the path has nothing left to raise: all its clocks are the highest, as on the
/// outer envelope. There are hence no more rounds than clocks above the first ones. The artifact stops only
/// where the path is the envelope itself; if the last stage is not the heaviest it goes on for ever, with the
/// same clocks. Between critical paths of exactly the same length the choice is ours.
[[nodiscard]] EnvPipePlan envpipe(const Workload& workload);

}  // namespace slackline
