#include "slackline/report/device_report.h"

#include <algorithm>
#include <nlohmann/json.hpp>
#include <utility>

#include "json_text.h"
#include "number_ranges.h"
#include "slackline/base/number_text.h"
#include "slackline/report/table.h"

namespace slackline {
namespace {

using Json = nlohmann::ordered_json;

std::string text_or_dash(const std::string& text) {
  return text.empty() ? "-" : text;
}

std::string range_text(const std::vector<Megahertz>& clocks) {
  if (clocks.empty()) return "-";
  return std::to_string(clocks.back().value()) + "-" + std::to_string(clocks.front().value()) + " (" +
         std::to_string(clocks.size()) + ")";
}

std::string joined(const std::vector<std::string>& words) {
  std::string text;
  for (const std::string& word : words) text += (text.empty() ? "" : ", ") + word;
  return text;
}

template <class Quantity>
std::string quantity_text(const std::optional<Quantity>& quantity, int decimals) {
  return quantity ? fixed_text(quantity->value(), decimals) : "-";
}

std::string identity_text(const DeviceReport& report) {
  Table table({"GPU", "model", "PCI address", "clocks (MHz)", "UUID"}, {1, 2, 3, 4});
  for (const GpuReport& gpu : report.gpus) {
    table.add_row({std::to_string(gpu.gpu.value()), text_or_dash(gpu.model), text_or_dash(gpu.pci_address),
                   range_text(gpu.clocks), text_or_dash(gpu.uuid)});
  }
  return table.text();
}

std::string readings_text(const DeviceReport& report) {
  Table table({"GPU", "clock (MHz)", "power (W)", "cap (W)", "temperature (C)", "energy counter (J)",
               "event reasons"},
              {6});
  for (const GpuReport& gpu : report.gpus) {
    table.add_row({std::to_string(gpu.gpu.value()), gpu.clock ? std::to_string(gpu.clock->value()) : "-",
                   quantity_text(gpu.power, 1), quantity_text(gpu.power_cap, 0),
                   gpu.temperature ? fixed_text(*gpu.temperature, 0) : "-", quantity_text(gpu.energy, 1),
                   !gpu.event_reasons           ? "-"
                   : gpu.event_reasons->empty() ? "none"
                                                : joined(*gpu.event_reasons)});
  }
  return table.text();
}

/// Equal items of several GPUs, in the order in which they first come.
template <class Item>
class Grouped {
 public:
  void add(const Item& item, GpuId gpu) {
    auto group = std::ranges::find_if(groups_, [&](const auto& g) { return g.first == item; });
    if (group == groups_.end()) group = groups_.insert(groups_.end(), {item, {}});
    group->second.push_back(gpu);
  }
  [[nodiscard]] const std::vector<std::pair<Item, std::vector<GpuId>>>& groups() const { return groups_; }

 private:
  std::vector<std::pair<Item, std::vector<GpuId>>> groups_;
};

/// " (GPU 3)", or nothing if it holds for all.
std::string whom(const std::vector<GpuId>& gpus, const DeviceReport& report) {
  if (gpus.size() == report.gpus.size()) return {};
  return " (GPU " + gpus_text(gpus) + ")";
}

std::string abilities_text(const DeviceReport& report) {
  std::size_t width = 0;
  Grouped<std::string> kinds;
  for (const GpuReport& gpu : report.gpus) {
    for (const AbilityReport& ability : gpu.abilities) {
      kinds.add(ability.what, gpu.gpu);
      width = std::max(width, ability.what.size());
    }
  }
  std::string text;
  for (const auto& [what, everybody] : kinds.groups()) {
    Grouped<AbilityReport> answers;
    for (const GpuReport& gpu : report.gpus) {
      for (const AbilityReport& ability : gpu.abilities) {
        if (ability.what == what) answers.add(ability, gpu.gpu);
      }
    }
    std::string label = what + std::string(width - what.size() + 2, ' ');
    for (const auto& [ability, gpus] : answers.groups()) {
      const std::string who = whom(gpus, report);
      text += label + (ability.why_not.empty() ? "yes" + who : "no" + who + ": " + ability.why_not) + "\n";
      label = std::string(width + 2, ' ');
      if (!ability.why_not.empty() && !ability.remedy.empty())
        text += label + "try: " + ability.remedy + "\n";
    }
  }
  return text;
}

std::string notes_text(const DeviceReport& report) {
  Grouped<std::string> notes;
  for (const GpuReport& gpu : report.gpus) {
    for (const std::string& remark : gpu.remarks) notes.add(remark, gpu.gpu);
    for (const std::string& fault : gpu.faults) notes.add(fault, gpu.gpu);
  }
  std::string text;
  for (const auto& [note, gpus] : notes.groups()) text += "note" + whom(gpus, report) + ": " + note + "\n";
  for (const std::string& gpu : report.left_out) text += "left out: the driver's " + gpu + "\n";
  if (!report.agent.empty()) {
    text += "agent: " + report.agent + " leases clocks to jobs whose user its policy allows\n";
  }
  return text;
}

template <class Value>
Json optional_json(const std::optional<Value>& value) {
  return value ? Json(value->value()) : Json();
}

Json gpu_json(const GpuReport& gpu) {
  Json clocks = Json::array();
  for (const Megahertz clock : gpu.clocks) clocks.push_back(clock.value());
  Json abilities = Json::object();
  for (const AbilityReport& ability : gpu.abilities) {
    std::string key = ability.what;
    std::ranges::replace(key, ' ', '_');
    Json& entry = abilities[key];
    entry["allowed"] = ability.why_not.empty();
    if (!ability.why_not.empty()) entry["why_not"] = ability.why_not;
    if (!ability.remedy.empty()) entry["remedy"] = ability.remedy;
  }
  return {{"gpu", gpu.gpu.value()},
          {"uuid", gpu.uuid},
          {"pci_address", gpu.pci_address},
          {"model", gpu.model},
          {"clocks_mhz", std::move(clocks)},
          {"clock_mhz", optional_json(gpu.clock)},
          {"power_w", optional_json(gpu.power)},
          {"power_cap_w", optional_json(gpu.power_cap)},
          {"temperature_c", gpu.temperature ? Json(*gpu.temperature) : Json()},
          {"energy_j", optional_json(gpu.energy)},
          {"event_reasons", gpu.event_reasons ? Json(*gpu.event_reasons) : Json()},
          {"abilities", std::move(abilities)},
          {"remarks", gpu.remarks},
          {"faults", gpu.faults}};
}

}  // namespace

std::string device_text(const DeviceReport& report) {
  const std::string notes = notes_text(report);
  return report.driver + ", " + std::to_string(report.gpus.size()) +
         (report.gpus.size() == 1 ? " GPU" : " GPUs") + "\n\n" + identity_text(report) + "\n" +
         readings_text(report) + "\n" + abilities_text(report) + (notes.empty() ? "" : "\n" + notes);
}

std::string device_json(const DeviceReport& report) {
  Json gpus = Json::array();
  for (const GpuReport& gpu : report.gpus) gpus.push_back(gpu_json(gpu));
  const Json json{{"driver", report.driver},
                  {"device", report.spec},
                  {"agent", report.agent.empty() ? Json() : Json(report.agent)},
                  {"left_out", report.left_out},
                  {"gpus", std::move(gpus)}};
  return json_text(json);
}

std::string gpus_text(const std::vector<GpuId>& gpus) {
  std::vector<int> numbers;
  for (const GpuId gpu : gpus) numbers.push_back(gpu.value());
  return ranges_text(numbers);
}

}  // namespace slackline
