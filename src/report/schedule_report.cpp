#include "slackline/report/schedule_report.h"

#include <nlohmann/json.hpp>

#include "slackline/base/number_text.h"
#include "slackline/report/table.h"

namespace slackline {
namespace {

std::string signed_text(double number, int decimals) {
  return (number >= 0 ? "+" : "") + fixed_text(number, decimals);
}

}  // namespace

std::string summary_text(const Schedule& schedule) {
  const Plan& plan = schedule.plans[schedule.chosen];
  Table table({"", "time (s)", "energy (J)", "saved (%)", "slower (%)", "gap to bound (%)"});
  table.add_row({"all-max", fixed_text(schedule.all_max_time.value(), 3),
                 fixed_text(schedule.all_max_energy.value(), 1), "", "", ""});
  table.add_row({"plan " + std::to_string(schedule.chosen), fixed_text(plan.time.value(), 3),
                 fixed_text(plan.energy.value(), 1), fixed_text(schedule.saving_percent(plan), 2),
                 signed_text(schedule.slowdown_percent(plan), 2), fixed_text(plan.gap_percent(), 3)});
  table.add_row({"bound at its time", fixed_text(plan.time.value(), 3), fixed_text(plan.bound.value(), 1),
                 fixed_text((1 - plan.bound / schedule.all_max_energy) * 100, 2), "", ""});
  return table.text() + "frontier: fastest " + fixed_text(schedule.fastest_time.value(), 3) +
         " s, least energy at " + fixed_text(schedule.least_energy_time.value(), 3) +
         " s (T_E), cheapest for a straggler at " + fixed_text(schedule.cheapest_time.value(), 3) +
         " s (T_max)\n";
}

std::string plans_text(const Schedule& schedule) {
  Table table({"plan", "time (s)", "energy (J)", "saved (%)", "slower (%)", "gap to bound (%)"});
  for (std::size_t k = 0; k < schedule.plans.size(); ++k) {
    const Plan& plan = schedule.plans[k];
    table.add_row({std::to_string(k) + (k == schedule.chosen ? " *" : ""), fixed_text(plan.time.value(), 3),
                   fixed_text(plan.energy.value(), 1), fixed_text(schedule.saving_percent(plan), 2),
                   signed_text(schedule.slowdown_percent(plan), 2), fixed_text(plan.gap_percent(), 3)});
  }
  return table.text();
}

std::string schedule_json(const Schedule& schedule) {
  using Json = nlohmann::ordered_json;
  Json json{{"model", schedule.model},
            {"gpu", schedule.gpu},
            {"order", schedule.order_spec.name},
            {"stages", schedule.stages.size()},
            {"microbatches", schedule.order_spec.microbatches},
            {"all_max_time_s", schedule.all_max_time.value()},
            {"all_max_energy_j", schedule.all_max_energy.value()},
            {"fastest_time_s", schedule.fastest_time.value()},
            {"least_energy_time_s", schedule.least_energy_time.value()},
            {"cheapest_time_s", schedule.cheapest_time.value()},
            {"chosen", schedule.chosen}};
  for (const Plan& plan : schedule.plans) {
    json["plans"].push_back({{"time_s", plan.time.value()},
                             {"energy_j", plan.energy.value()},
                             {"bound_j", plan.bound.value()},
                             {"gap_percent", plan.gap_percent()},
                             {"saved_percent", schedule.saving_percent(plan)},
                             {"slowdown_percent", schedule.slowdown_percent(plan)}});
  }
  return json.dump(2) + "\n";
}

}  // namespace slackline
