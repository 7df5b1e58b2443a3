#include "slackline/schedule/straggler.h"

#include <algorithm>

#include "slackline/base/error.h"
#include "slackline/base/number_text.h"

namespace slackline {

StragglerAnswer answer_straggler(const Schedule& schedule, Seconds until) {
  const auto& plans = schedule.plans;
  const auto after = std::upper_bound(plans.begin(), plans.end(), until,
                                      [](Seconds time, const Plan& plan) { return time < plan.time; });
  if (after == plans.begin()) {
    throw NoAnswer("no kept plan ends within " + exact_text(until.value()) + " s; the fastest takes " +
                   exact_text(plans.front().time.value()) + " s");
  }
  const Watts blocking = schedule.blocking_power();
  const auto waiting_from = [&](Seconds time) { return blocking * std::max(Seconds(0), until - time); };
  StragglerAnswer answer;
  answer.until = until;
  answer.plan = static_cast<std::size_t>(after - plans.begin()) - 1;
  const Plan& plan = plans[answer.plan];
  const Plan& chosen = plans[schedule.chosen];
  answer.energy = plan.energy + waiting_from(plan.time);
  answer.chosen_energy = chosen.energy + waiting_from(chosen.time);
  answer.all_max_energy = schedule.all_max_energy + waiting_from(schedule.all_max_time);
  return answer;
}

}  // namespace slackline
