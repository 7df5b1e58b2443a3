#pragma once
#include <cstdint>
#include <map>
#include <optional>
#include <vector>

#include "slackline/base/quantity.h"
#include "slackline/runtime/job_memory.h"

namespace slackline {

/// An iteration of a pipeline as a whole: from when the last rank was ready to begin to when the last one had
/// ended. Ranks end one after the other, and the early ones begin the next step by waiting; so steps do not
/// overlap.
struct StepTimes {
  Seconds begin;
  Seconds end;
  /// That all its ranks followed; -1: they ran at their baseline. Nothing where they differed.
  std::optional<int> plan;
  [[nodiscard]] Seconds duration() const { return end - begin; }
};

/// Puts the steps of a pipeline's processes together. The n-th step of every one is the n-th iteration.
class StepLog {
 public:
  /// One more process takes part; before any of them ends its first step, or in another's stead.
  void join(int member) { members_.try_emplace(member); }
  /// True if this event completes an iteration, which is then steps().back().
  bool add(int member, const JobEvent& event);
  /// The process has ended; if in the middle of a step, that step is no iteration, and counting begins anew
  /// with what comes next.
  void abandon_step_of(int member);
  [[nodiscard]] const std::vector<StepTimes>& steps() const { return steps_; }

 private:
  struct Member {
    std::size_t begun = 0;
    std::size_t ended = 0;
  };
  struct OpenStep {
    StepTimes times;
    std::size_t plans_told = 0;
    std::size_t members_ended = 0;
  };
  OpenStep& open_step(std::size_t number);

  std::map<int, Member> members_;
  std::vector<OpenStep> open_;  // steps steps_.size() and following
  std::vector<StepTimes> steps_;
};

}  // namespace slackline
