#include "slackline/report/run_report.h"

#include <nlohmann/json.hpp>

#include "slackline/base/number_text.h"
#include "slackline/report/table.h"

namespace slackline {
namespace {

std::string percent_off(double measured, double predicted) {
  const double percent = (measured / predicted - 1) * 100;
  return (percent >= 0 ? "+" : "") + fixed_text(percent, 2) + " %";
}

}  // namespace

std::string run_text(const std::vector<RunPhase>& phases, const RunPhase* baseline, const RunPhase* planned) {
  Table table({"per step", "steps", "time (s)", "predicted", "off by", "energy (J)", "predicted", "off by"});
  for (const RunPhase& phase : phases) {
    table.add_row({phase.name, std::to_string(phase.steps), fixed_text(phase.time.value(), 3),
                   fixed_text(phase.predicted_time.value(), 3),
                   percent_off(phase.time.value(), phase.predicted_time.value()),
                   phase.energy ? fixed_text(phase.energy->value(), 1) : "?",
                   fixed_text(phase.predicted_energy.value(), 1),
                   phase.energy ? percent_off(phase.energy->value(), phase.predicted_energy.value()) : "?"});
  }
  std::string text = table.text();
  if (baseline == nullptr || planned == nullptr || !baseline->energy || !planned->energy) return text;
  const double measured = (1 - *planned->energy / *baseline->energy) * 100;
  const double predicted = (1 - planned->predicted_energy / baseline->predicted_energy) * 100;
  return text + "energy saved: " + fixed_text(measured, 2) + " % measured, " + fixed_text(predicted, 2) +
         " % predicted; time: " + percent_off(planned->time.value(), baseline->time.value()) + " measured, " +
         percent_off(planned->predicted_time.value(), baseline->predicted_time.value()) + " predicted\n";
}

std::string run_json(const std::vector<RunPhase>& phases) {
  nlohmann::ordered_json json = nlohmann::ordered_json::array();
  for (const RunPhase& phase : phases) {
    nlohmann::ordered_json row{{"phase", phase.name},
                               {"steps", phase.steps},
                               {"time_s", phase.time.value()},
                               {"predicted_time_s", phase.predicted_time.value()},
                               {"predicted_energy_j", phase.predicted_energy.value()}};
    row["energy_j"] = phase.energy ? nlohmann::ordered_json(phase.energy->value()) : nlohmann::ordered_json();
    json.push_back(std::move(row));
  }
  return json.dump(2) + "\n";
}

}  // namespace slackline
