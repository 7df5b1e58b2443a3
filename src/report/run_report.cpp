#include "slackline/report/run_report.h"

#include <algorithm>
#include <nlohmann/json.hpp>

#include "json_text.h"
#include "slackline/base/number_text.h"
#include "slackline/report/table.h"

namespace slackline {
namespace {

const RunPhase* all_max_of(const std::vector<RunPhase>& phases, const RunPhase& phase) {
  const auto found = std::ranges::find_if(phases, [&](const RunPhase& other) {
    return other.name == kAllMaxPhase && other.pipeline == phase.pipeline;
  });
  return found == phases.end() ? nullptr : &*found;
}

std::optional<double> measured_saving(const std::vector<RunPhase>& phases, const RunPhase& phase) {
  const RunPhase* const all_max = all_max_of(phases, phase);
  if (all_max == nullptr || !phase.energy || !all_max->energy) return std::nullopt;
  return (1 - *phase.energy / *all_max->energy) * 100;
}

std::optional<double> predicted_saving(const RunPhase& phase, Joules all_max_energy) {
  if (!phase.predicted_energy) return std::nullopt;
  return (1 - *phase.predicted_energy / all_max_energy) * 100;
}

std::string optional_text(std::optional<double> number, int decimals) {
  return number ? fixed_text(*number, decimals) : "-";
}

std::optional<double> value_of(const std::optional<Joules>& energy) {
  return energy ? std::optional(energy->value()) : std::nullopt;
}

}  // namespace

std::string run_text(const std::vector<RunPhase>& phases, Joules all_max_energy) {
  const bool has_pipelines =
      std::ranges::any_of(phases, [](const RunPhase& p) { return p.pipeline.has_value(); });
  std::vector<std::string> header{"per step",  "steps",     "time (s)",  "predicted",       "energy (J)",
                                  "predicted", "saved (%)", "predicted", "gap to bound (%)"};
  if (has_pipelines) header.insert(header.begin() + 1, "pipeline");
  Table table(header);
  for (const RunPhase& phase : phases) {
    const bool is_reference = phase.name == kAllMaxPhase;
    std::vector<std::string> row{
        phase.name,
        std::to_string(phase.steps),
        fixed_text(phase.time.value(), 3),
        fixed_text(phase.predicted_time.value(), 3),
        optional_text(value_of(phase.energy), 1),
        optional_text(value_of(phase.predicted_energy), 1),
        is_reference ? "" : optional_text(measured_saving(phases, phase), 2),
        is_reference ? "" : optional_text(predicted_saving(phase, all_max_energy), 2),
        phase.gap_percent ? fixed_text(*phase.gap_percent, 3) : ""};
    if (has_pipelines) row.insert(row.begin() + 1, phase.pipeline ? std::to_string(*phase.pipeline) : "");
    table.add_row(row);
  }
  return table.text();
}

std::string run_json(const std::vector<RunPhase>& phases, Joules all_max_energy) {
  using Json = nlohmann::ordered_json;
  const auto optional_json = [](std::optional<double> number) { return number ? Json(*number) : Json(); };
  Json json = Json::array();
  for (const RunPhase& phase : phases) {
    json.push_back({{"phase", phase.name},
                    {"pipeline", phase.pipeline ? Json(*phase.pipeline) : Json()},
                    {"steps", phase.steps},
                    {"time_s", phase.time.value()},
                    {"predicted_time_s", phase.predicted_time.value()},
                    {"energy_j", optional_json(value_of(phase.energy))},
                    {"predicted_energy_j", optional_json(value_of(phase.predicted_energy))},
                    {"saved_percent", optional_json(measured_saving(phases, phase))},
                    {"predicted_saved_percent", optional_json(predicted_saving(phase, all_max_energy))},
                    {"gap_percent", optional_json(phase.gap_percent)}});
  }
  return json_text(json);
}

}  // namespace slackline
