#include "slackline/runtime/step_log.h"

#include <algorithm>

namespace slackline {

StepLog::OpenStep& StepLog::open_step(std::size_t number) {
  const std::size_t index = number - steps_.size();
  if (index >= open_.size()) open_.resize(index + 1);
  return open_[index];
}

bool StepLog::add(int number, const JobEvent& event) {
  Member& member = members_[number];
  const Seconds time(static_cast<double>(event.time_ns) / 1e9);
  if (event.type == JobEventType::kStepBegin) {
    if (member.begun < steps_.size())
      member.begun = member.ended = steps_.size();  // a process that joined again
    OpenStep& step = open_step(member.begun++);
    step.times.begin = std::max(step.times.begin, time);
    return false;
  }
  if (member.ended >= member.begun) return false;
  if (event.type == JobEventType::kPlan) {
    OpenStep& step = open_step(member.ended);
    if (step.plans_told++ == 0) step.times.plan = event.kind;
    if (step.times.plan != event.kind) step.times.plan.reset();
    return false;
  }
  if (event.type != JobEventType::kStepEnd) return false;
  OpenStep& step = open_step(member.ended++);
  step.times.end = std::max(step.times.end, time);
  if (++step.members_ended < members_.size()) return false;
  steps_.push_back(step.times);
  open_.erase(open_.begin());
  return true;
}

void StepLog::abandon_step_of(int number) {
  const Member& ended = members_[number];
  if (ended.begun == ended.ended) return;
  open_.clear();
  for (auto& [other, member] : members_) member.begun = member.ended = steps_.size();
}

}  // namespace slackline
