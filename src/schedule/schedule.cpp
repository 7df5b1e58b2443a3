#include "slackline/schedule/schedule.h"

namespace slackline {

Order Schedule::order() const {
  StageKinds kinds;
  for (const ScheduleStage& stage : stages) kinds.push_back(stage.special_kinds);
  return with_kinds(make_order(order_spec, static_cast<int>(stages.size())), kinds);
}

}  // namespace slackline
