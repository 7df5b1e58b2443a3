#include "slackline/report/schedule_report.h"

#include <nlohmann/json.hpp>

#include "json_text.h"
#include "slackline/base/number_text.h"
#include "slackline/report/table.h"

namespace slackline {
namespace {

/// Where the plan lies on the frontier, if anywhere special.
std::string mark_of(const Schedule& schedule, std::size_t k) {
  std::string mark = k == schedule.chosen ? " *" : "";
  const auto nearest = [&](Seconds time) {  // the slowest that is not above it
    return schedule.plans[k].time <= time &&
           (k + 1 == schedule.plans.size() || schedule.plans[k + 1].time > time);
  };
  if (nearest(schedule.least_energy_time)) mark += " T_E";
  if (nearest(schedule.cheapest_time)) mark += " T_max";
  return mark;
}

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
  std::string job;
  if (schedule.data_parallel > 1) {
    const double pipelines = schedule.data_parallel;
    job = "all " + std::to_string(schedule.data_parallel) +
          " pipelines: " + fixed_text((pipelines * plan.energy).value() / 1e6, 3) + " MJ instead of " +
          fixed_text((pipelines * schedule.all_max_energy).value() / 1e6, 3) + " MJ\n";
  }
  std::string sensitivity;
  if (plan.late_time) {
    sensitivity = "if every instruction is slower by the standard error of its time: " +
                  signed_text((*plan.late_time / plan.time - 1) * 100, 2) + " % time\n";
  }
  return table.text() + job + sensitivity + "frontier: fastest " +
         fixed_text(schedule.fastest_time.value(), 3) + " s, least energy at " +
         fixed_text(schedule.least_energy_time.value(), 3) + " s (T_E), cheapest for a straggler at " +
         fixed_text(schedule.cheapest_time.value(), 3) + " s (T_max)\n";
}

std::string plans_text(const Schedule& schedule) {
  Table table({"plan", "time (s)", "energy (J)", "saved (%)", "slower (%)", "gap to bound (%)"});
  for (std::size_t k = 0; k < schedule.plans.size(); ++k) {
    const Plan& plan = schedule.plans[k];
    table.add_row({std::to_string(k) + mark_of(schedule, k), fixed_text(plan.time.value(), 3),
                   fixed_text(plan.energy.value(), 1), fixed_text(schedule.saving_percent(plan), 2),
                   signed_text(schedule.slowdown_percent(plan), 2), fixed_text(plan.gap_percent(), 3)});
  }
  return table.text();
}

std::string straggler_text(const Schedule& schedule, const StragglerAnswer& answer) {
  Table table({"until " + fixed_text(answer.until.value(), 3) + " s", "time (s)", "energy (J)", "saved (%)"});
  const auto saved = [&](Joules energy) { return fixed_text((1 - energy / answer.all_max_energy) * 100, 2); };
  const auto row = [&](const std::string& name, Seconds time, Joules energy) {
    table.add_row({name, fixed_text(time.value(), 3), fixed_text(energy.value(), 1), saved(energy)});
  };
  row("all-max, then wait", schedule.all_max_time, answer.all_max_energy);
  row("plan " + std::to_string(schedule.chosen) + ", then wait", schedule.plans[schedule.chosen].time,
      answer.chosen_energy);
  row("plan " + std::to_string(answer.plan), schedule.plans[answer.plan].time, answer.energy);
  std::string job;
  if (schedule.data_parallel > 1) {
    const double others = schedule.data_parallel - 1;
    job = "the " + std::to_string(schedule.data_parallel - 1) + " others save " +
          fixed_text((others * (answer.all_max_energy - answer.energy)).value() / 1e6, 3) +
          " MJ an iteration against all-max\n";
  }
  return "\nwhile a straggler takes longer, every other pipeline should run plan " +
         std::to_string(answer.plan) + ":\n" + table.text() + job;
}

std::string schedule_json(const Schedule& schedule, const std::optional<StragglerAnswer>& straggler) {
  using Json = nlohmann::ordered_json;
  Json json{{"model", schedule.model},
            {"gpu", schedule.gpu},
            {"order", schedule.order_spec.name},
            {"stages", schedule.stages.size()},
            {"microbatches", schedule.order_spec.microbatches},
            {"data_parallel", schedule.data_parallel},
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
    if (plan.late_time) json["plans"].back()["late_time_s"] = plan.late_time->value();
  }
  if (straggler) {
    json["straggler"] = {{"until_s", straggler->until.value()},
                         {"plan", straggler->plan},
                         {"energy_j", straggler->energy.value()},
                         {"chosen_energy_j", straggler->chosen_energy.value()},
                         {"all_max_energy_j", straggler->all_max_energy.value()},
                         {"saved_percent", straggler->saving_percent()}};
  }
  return json_text(json);
}

}  // namespace slackline
