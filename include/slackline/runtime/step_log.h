#pragma once
#include <cstdint>
#include <vector>

#include "slackline/base/quantity.h"
#include "slackline/runtime/job_memory.h"

namespace slackline {

/// An iteration as a whole: from when the last stage was ready to begin to when the last one had ended.
/// Stages of a pipeline end one after the other, and the early ones begin the next step by waiting; so steps
/// do not overlap.
struct StepTimes {
  Seconds begin;
  Seconds end;
  [[nodiscard]] Seconds duration() const { return end - begin; }
};

/// Puts the stages' steps together. The n-th step of every stage is the n-th iteration.
class StepLog {
 public:
  explicit StepLog(std::size_t stages) : stages_(stages) {}
  /// True if this event completes an iteration, which is then steps().back().
  bool add(int stage, const JobEvent& event);
  /// The process of `stage` has ended; if in the middle of a step, that step is no iteration, and counting
  /// begins anew with what comes next.
  void abandon_step_of(int stage);
  [[nodiscard]] const std::vector<StepTimes>& steps() const { return steps_; }

 private:
  struct Stage {
    std::size_t begun = 0;
    std::size_t ended = 0;
  };
  struct OpenStep {
    StepTimes times;
    std::size_t stages_ended = 0;
  };
  OpenStep& open_step(std::size_t number);

  std::vector<Stage> stages_;
  std::vector<OpenStep> open_;  // steps steps_.size() and following
  std::vector<StepTimes> steps_;
};

}  // namespace slackline
