#include "slackline/report/run_report.h"

#include <nlohmann/json.hpp>

#include "json_text.h"
#include "slackline/base/number_text.h"
#include "slackline/report/table.h"

namespace slackline {
namespace {

std::optional<double> measured_saving(const RunPhase& phase, const RunPhase& all_max) {
  if (!phase.energy || !all_max.energy || all_max.steps == 0) return std::nullopt;
  return (1 - *phase.energy / *all_max.energy) * 100;
}

double predicted_saving(const RunPhase& phase, const RunPhase& all_max) {
  return (1 - phase.predicted_energy / all_max.predicted_energy) * 100;
}

std::string optional_text(std::optional<double> number, int decimals) {
  return number ? fixed_text(*number, decimals) : "-";
}

std::optional<double> value_of(const std::optional<Joules>& energy) {
  return energy ? std::optional(energy->value()) : std::nullopt;
}

}  // namespace

std::string run_text(const std::vector<RunPhase>& phases, const RunPhase& all_max) {
  Table table({"per step", "steps", "time (s)", "predicted", "energy (J)", "predicted", "saved (%)",
               "predicted", "gap to bound (%)"});
  for (const RunPhase& phase : phases) {
    const bool is_reference = phase.name == all_max.name;
    table.add_row({phase.name, std::to_string(phase.steps), fixed_text(phase.time.value(), 3),
                   fixed_text(phase.predicted_time.value(), 3), optional_text(value_of(phase.energy), 1),
                   fixed_text(phase.predicted_energy.value(), 1),
                   is_reference ? "" : optional_text(measured_saving(phase, all_max), 2),
                   is_reference ? "" : fixed_text(predicted_saving(phase, all_max), 2),
                   phase.gap_percent ? fixed_text(*phase.gap_percent, 3) : ""});
  }
  return table.text();
}

std::string run_json(const std::vector<RunPhase>& phases, const RunPhase& all_max) {
  using Json = nlohmann::ordered_json;
  const auto optional_json = [](std::optional<double> number) { return number ? Json(*number) : Json(); };
  Json json = Json::array();
  for (const RunPhase& phase : phases) {
    json.push_back({{"phase", phase.name},
                    {"steps", phase.steps},
                    {"time_s", phase.time.value()},
                    {"predicted_time_s", phase.predicted_time.value()},
                    {"energy_j", optional_json(value_of(phase.energy))},
                    {"predicted_energy_j", phase.predicted_energy.value()},
                    {"saved_percent", optional_json(measured_saving(phase, all_max))},
                    {"predicted_saved_percent", predicted_saving(phase, all_max)},
                    {"gap_percent", optional_json(phase.gap_percent)}});
  }
  return json_text(json);
}

}  // namespace slackline
