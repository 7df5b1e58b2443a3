#pragma once
#include <functional>
#include <optional>
#include <string>
#include <vector>

#include "slackline/profile/profile.h"

namespace slackline {

struct KareusOptions {
  /// Ranks of a stage: global rank r belongs to stage r / tensor_parallel.
  int tensor_parallel = 1;
  /// Iterations at the begin of each clock that do not count.
  int warm_up_iterations = 10;
  /// Forwards of a rank in an iteration: they tell where the warm-up ends if the file does not have more
  /// spans of iterations than that. Where this is unknown, too, the first third of the instructions is left
  /// out.
  std::optional<int> microbatches;
};

struct KareusImport {
  std::vector<StageProfile> stages;
  /// What had to be assumed.
  std::vector<std::string> remarks;
};

/// Measurements that the profiling scripts of Kareus have left: one training run a clock, under
/// FOLDER/node<n>/<MHz>/timers or FOLDER/<MHz>/timers, where each rank has a time-energy-GLOBAL-LOCAL.csv and
/// an instructions-GLOBAL-LOCAL.csv. Spans named <kind>-compute are instructions, those named
/// forward-backward iterations; whatever else an iteration does is waiting. Time and energy of each kind are
/// those of estimate(), ranks come together as combine() does it. `done`, from 0 to 1, is called now and
/// then. InputError with file, line, key and reason.
[[nodiscard]] KareusImport import_kareus(const std::string& folder, const KareusOptions& options,
                                         const std::function<void(double)>& done = {});

}  // namespace slackline
