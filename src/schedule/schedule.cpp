#include "slackline/schedule/schedule.h"

namespace slackline {

Order Schedule::order() const {
  StageKinds kinds;
  for (const ScheduleStage& stage : stages) kinds.push_back(stage.special_kinds);
  return with_kinds(make_order(order_spec, static_cast<int>(stages.size())), kinds);
}

Watts Schedule::blocking_power() const {
  Watts power;
  // Stages of one rank sit on the same GPUs.
  for (const auto& row : order()) {
    const ScheduleStage& stage = stages[row.front().stage.index()];
    power += stage.blocking_power * stage.tensor_parallel;
  }
  return power;
}

}  // namespace slackline
