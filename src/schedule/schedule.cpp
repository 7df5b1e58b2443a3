#include "slackline/schedule/schedule.h"

namespace slackline {

Order Schedule::order() const {
  return make_order(order_name, static_cast<int>(stages.size()), microbatches);
}

}  // namespace slackline
