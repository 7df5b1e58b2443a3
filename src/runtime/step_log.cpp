#include "slackline/runtime/step_log.h"

#include <algorithm>

namespace slackline {

StepLog::OpenStep& StepLog::open_step(std::size_t number) {
  const std::size_t index = number - steps_.size();
  if (index >= open_.size()) open_.resize(index + 1);
  return open_[index];
}

bool StepLog::add(int stage_number, const JobEvent& event) {
  Stage& stage = stages_[static_cast<std::size_t>(stage_number)];
  const Seconds time(static_cast<double>(event.time_ns) / 1e9);
  if (event.type == JobEventType::kStepBegin) {
    if (stage.begun < steps_.size())
      stage.begun = stage.ended = steps_.size();  // a process that joined again
    OpenStep& step = open_step(stage.begun++);
    step.times.begin = std::max(step.times.begin, time);
    return false;
  }
  if (event.type != JobEventType::kStepEnd || stage.ended >= stage.begun) return false;
  OpenStep& step = open_step(stage.ended++);
  step.times.end = std::max(step.times.end, time);
  if (++step.stages_ended < stages_.size()) return false;
  steps_.push_back(step.times);
  open_.erase(open_.begin());
  return true;
}

void StepLog::abandon_step_of(int stage_number) {
  const Stage& ended = stages_[static_cast<std::size_t>(stage_number)];
  if (ended.begun == ended.ended) return;
  open_.clear();
  for (Stage& stage : stages_) stage.begun = stage.ended = steps_.size();
}

}  // namespace slackline
