#pragma once
#include <optional>
#include <vector>

#include "slackline/measure/recording.h"
#include "slackline/profile/profile.h"

namespace slackline {

/// The stages of a profile from all visits of them, as many as recordings say there are.
///
/// Drift. A GPU gets warmer and leaks more while it is measured. Clocks that were visited twice tell by how
/// much: the relative change of energies per second, one number a stage, from all such pairs. Energies are
/// taken to the middle of the measuring by it. (Where the second pass is the first one backwards, means of
/// two visits are there already, and the error of the drift does not matter.) Blocking power has a drift of
/// its own and is a mean over the whole time.
///
/// Errors. Those of the visits, widened where visits of the same clock differ by more than they say; for the
/// blocking power, by how far visits are apart.
///
/// Ranks. Recordings of the same stage are of GPUs in lockstep or of replicas of the pipeline: the slowest
/// time and the mean energy count. `tensor_parallel`: GPUs in lockstep, where they are not all.
///
/// InputError if a stage has no recording, or recordings do not belong together.
[[nodiscard]] std::vector<StageProfile> combine(const std::vector<Recording>& recordings,
                                                std::optional<int> tensor_parallel = {});

}  // namespace slackline
