#include "slackline/report/use_report.h"

#include <algorithm>
#include <nlohmann/json.hpp>

#include "json_text.h"
#include "slackline/base/number_text.h"
#include "slackline/report/device_report.h"
#include "slackline/report/table.h"

namespace slackline {
namespace {

using Json = nlohmann::ordered_json;

/// The sums, which need every GPU.
struct Total {
  std::optional<Joules> energy = Joules(0);
  Joules energy_error;
  std::optional<Joules> sampled_energy = Joules(0);
  std::optional<Watts> mean_power = Watts(0);
};

Total total_of(const RunUse& run) {
  const auto add = [](auto& sum, const auto& part) {
    if (!part) sum.reset();
    if (sum) *sum += *part;
  };
  Total total;
  for (const UseReport& gpu : run.gpus) {
    add(total.energy, gpu.energy);
    add(total.sampled_energy, gpu.sampled_energy);
    add(total.mean_power, gpu.mean_power);
    total.energy_error += gpu.energy_error;
  }
  return total;
}

template <class Quantity>
std::string quantity_text(const std::optional<Quantity>& quantity) {
  return quantity ? fixed_text(quantity->value(), 1) : "-";
}

template <class Quantity>
Json quantity_json(const std::optional<Quantity>& quantity) {
  return quantity ? Json(quantity->value()) : Json();
}

std::string clock_text(const std::optional<Megahertz>& clock) {
  return clock ? std::to_string(clock->value()) : "-";
}

std::string reasons_text(const UseReport& gpu) {
  std::string text;
  for (const auto& [reason, share] : gpu.event_reasons) {
    const std::string percent = share < 0.01 ? "<1" : fixed_text(share * 100, 0);
    text += (text.empty() ? "" : ", ") + reason + " " + percent + " %";
  }
  return text;
}

/// Empty if the window is long enough for every GPU.
std::string short_window_line(const RunUse& run) {
  std::vector<GpuId> gpus;
  std::size_t most_ticks = 0;
  Joules error;
  for (const UseReport& gpu : run.gpus) {
    if (!gpu.is_short) continue;
    gpus.push_back(gpu.gpu);
    most_ticks = std::max(most_ticks, gpu.ticks);
    error += gpu.energy_error;
  }
  if (gpus.empty()) return {};
  return "GPU " + gpus_text(gpus) + ": " + fixed_text(run.time.value(), 3) + " s hold only " +
         std::to_string(most_ticks) + (most_ticks == 1 ? " tick" : " ticks") +
         " of the energy counter, so energy is uncertain by +-" + fixed_text(error.value(), 1) + " J" +
         (gpus.size() > 1 ? " in all" : "");
}

}  // namespace

std::string use_text(const RunUse& run) {
  Table table({"", "time (s)", "energy (J)", "+- (J)", "power (W)", "lowest (MHz)", "mean", "highest",
               "peak (C)", "event reasons (share of time)"},
              {9});
  for (const UseReport& gpu : run.gpus) {
    table.add_row({"GPU " + std::to_string(gpu.gpu.value()), fixed_text(run.time.value(), 3),
                   quantity_text(gpu.energy), gpu.energy ? fixed_text(gpu.energy_error.value(), 1) : "-",
                   quantity_text(gpu.mean_power), clock_text(gpu.lowest_clock),
                   gpu.mean_clock_mhz ? fixed_text(*gpu.mean_clock_mhz, 0) : "-",
                   clock_text(gpu.highest_clock),
                   gpu.peak_temperature ? fixed_text(*gpu.peak_temperature, 0) : "-", reasons_text(gpu)});
  }
  if (run.gpus.size() > 1) {
    const Total total = total_of(run);
    table.add_row({"total", fixed_text(run.time.value(), 3), quantity_text(total.energy),
                   total.energy ? fixed_text(total.energy_error.value(), 1) : "-",
                   quantity_text(total.mean_power), "", "", "", "", ""});
  }
  return table.text();
}

std::string use_json(const RunUse& run) {
  Json gpus = Json::array();
  for (const UseReport& gpu : run.gpus) {
    Json reasons = Json::object();
    for (const auto& [reason, share] : gpu.event_reasons) reasons[reason] = share;
    gpus.push_back({{"gpu", gpu.gpu.value()},
                    {"uuid", gpu.uuid},
                    {"energy_j", quantity_json(gpu.energy)},
                    {"energy_error_j", gpu.energy ? Json(gpu.energy_error.value()) : Json()},
                    {"counter_ticks", gpu.ticks},
                    {"few_ticks", gpu.is_short},
                    {"sampled_energy_j", quantity_json(gpu.sampled_energy)},
                    {"mean_power_w", quantity_json(gpu.mean_power)},
                    {"lowest_clock_mhz", quantity_json(gpu.lowest_clock)},
                    {"mean_clock_mhz", gpu.mean_clock_mhz ? Json(*gpu.mean_clock_mhz) : Json()},
                    {"highest_clock_mhz", quantity_json(gpu.highest_clock)},
                    {"event_reasons", std::move(reasons)},
                    {"peak_temperature_c", gpu.peak_temperature ? Json(*gpu.peak_temperature) : Json()},
                    {"warnings", gpu.warnings},
                    {"remarks", gpu.remarks}});
  }
  const Total total = total_of(run);
  const Json json{{"command", run.command},
                  {"exit_status", run.exit_status},
                  {"time_s", run.time.value()},
                  {"energy_j", quantity_json(total.energy)},
                  {"energy_error_j", total.energy ? Json(total.energy_error.value()) : Json()},
                  {"sampled_energy_j", quantity_json(total.sampled_energy)},
                  {"mean_power_w", quantity_json(total.mean_power)},
                  {"gpus", std::move(gpus)}};
  return json_text(json);
}

std::vector<std::string> use_notes(const RunUse& run) {
  std::vector<std::pair<std::string, std::vector<GpuId>>> notes;
  const auto add = [&](const std::string& text, GpuId gpu) {
    auto note = std::ranges::find_if(notes, [&](const auto& n) { return n.first == text; });
    if (note == notes.end()) note = notes.insert(notes.end(), {text, {}});
    note->second.push_back(gpu);
  };
  for (const UseReport& gpu : run.gpus) {
    for (const std::string& warning : gpu.warnings) add(warning, gpu.gpu);
    for (const std::string& remark : gpu.remarks) add(remark, gpu.gpu);
  }
  std::vector<std::string> lines;
  if (const std::string line = short_window_line(run); !line.empty()) lines.push_back(line);
  for (const auto& [text, gpus] : notes) lines.push_back("GPU " + gpus_text(gpus) + ": " + text);
  return lines;
}

}  // namespace slackline
