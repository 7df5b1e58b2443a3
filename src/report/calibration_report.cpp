#include "slackline/report/calibration_report.h"

#include <nlohmann/json.hpp>

#include "json_text.h"
#include "slackline/base/number_text.h"
#include "slackline/report/table.h"

namespace slackline {
namespace {

using Json = nlohmann::ordered_json;

std::string in_ms(Seconds time) {
  return fixed_text(time.value() * 1e3, 1);
}

std::string in_us(Seconds time) {
  return fixed_text(time.value() * 1e6, 1);
}

std::string costs_text(const ReadingsReport& report) {
  Table table({"reading", "median (us)", "longest (us)", ""}, {3});
  for (const ReadingsReport::Cost& cost : report.costs) {
    const bool can = cost.why_not.empty();
    table.add_row(
        {cost.reading, can ? in_us(cost.median) : "-", can ? in_us(cost.longest) : "-", cost.why_not});
  }
  return table.text();
}

std::string refresh_text(const ReadingsReport& report) {
  Table table({"energy counter", "shortest (ms)", "median (ms)", "longest (ms)"});
  if (report.stated_refresh) table.add_row({"refresh, as we take it", "", in_ms(*report.stated_refresh), ""});
  table.add_row({"refresh, seen " + std::to_string(report.intervals) + " times",
                 report.intervals > 0 ? in_ms(report.shortest) : "-",
                 report.intervals > 0 ? in_ms(report.median) : "-",
                 report.intervals > 0 ? in_ms(report.longest) : "-"});
  return table.text();
}

std::string agreement_text(const ReadingsReport& report) {
  Table table({"over " + fixed_text(report.time.value(), 1) + " s", "energy (J)", "+- (J)", "power (W)"});
  const auto row = [&](const char* name, const std::optional<Joules>& energy, const std::string& error) {
    table.add_row({name, energy ? fixed_text(energy->value(), 1) : "-", error,
                   energy ? fixed_text((*energy / report.time).value(), 1) : "-"});
  };
  row("energy counter", report.counted, report.counted ? fixed_text(report.counted_error.value(), 1) : "-");
  row("power readings", report.sampled, "");
  std::string text = table.text();
  if (report.counted && report.sampled && *report.counted > Joules(0)) {
    const double apart = (*report.sampled - *report.counted) / *report.counted * 100;
    text += "apart by " + fixed_text(apart, 1) + " %\n";
  }
  return text;
}

}  // namespace

std::string readings_text(const ReadingsReport& report) {
  return "GPU " + std::to_string(report.gpu.value()) + ", " + report.driver + "\n\n" + costs_text(report) +
         "\n" + refresh_text(report) + "\n" + agreement_text(report);
}

std::string readings_json(const ReadingsReport& report) {
  Json costs = Json::array();
  for (const ReadingsReport::Cost& cost : report.costs) {
    Json entry{{"reading", cost.reading}};
    if (cost.why_not.empty()) {
      entry["median_s"] = cost.median.value();
      entry["longest_s"] = cost.longest.value();
    } else {
      entry["why_not"] = cost.why_not;
    }
    costs.push_back(std::move(entry));
  }
  const auto optional_json = [](const auto& value) { return value ? Json(value->value()) : Json(); };
  const auto seen = [&](Seconds time) { return report.intervals > 0 ? Json(time.value()) : Json(); };
  const Json json{{"gpu", report.gpu.value()},
                  {"uuid", report.uuid},
                  {"driver", report.driver},
                  {"readings", std::move(costs)},
                  {"energy_refresh",
                   {{"stated_s", optional_json(report.stated_refresh)},
                    {"intervals", report.intervals},
                    {"shortest_s", seen(report.shortest)},
                    {"median_s", seen(report.median)},
                    {"longest_s", seen(report.longest)}}},
                  {"agreement",
                   {{"time_s", report.time.value()},
                    {"counted_j", optional_json(report.counted)},
                    {"counted_error_j", report.counted ? Json(report.counted_error.value()) : Json()},
                    {"sampled_j", optional_json(report.sampled)}}},
                  {"warnings", report.warnings}};
  return json_text(json);
}

std::string switches_text(const std::vector<SwitchReport>& switches) {
  Table table({"clocks (MHz)", "call (ms)", "first change (ms)", "stable (ms)", "arrived", ""}, {5});
  for (const SwitchReport& one : switches) {
    const auto optional_ms = [](const std::optional<Seconds>& time) { return time ? in_ms(*time) : "-"; };
    table.add_row({std::to_string(one.from.value()) + " -> " + std::to_string(one.to.value()),
                   one.call ? fixed_text(one.call->value() * 1e3, 2) : "-", optional_ms(one.first_change),
                   optional_ms(one.stable),
                   std::to_string(one.arrived) + " of " + std::to_string(one.switches), one.why_not});
  }
  return table.text();
}

std::string switches_json(const std::vector<SwitchReport>& switches) {
  const auto optional_json = [](const std::optional<Seconds>& time) {
    return time ? Json(time->value()) : Json();
  };
  Json json = Json::array();
  for (const SwitchReport& one : switches) {
    json.push_back({{"from_mhz", one.from.value()},
                    {"to_mhz", one.to.value()},
                    {"call_s", optional_json(one.call)},
                    {"first_change_s", optional_json(one.first_change)},
                    {"stable_s", optional_json(one.stable)},
                    {"switches", one.switches},
                    {"arrived", one.arrived}});
    if (!one.why_not.empty()) json.back()["why_not"] = one.why_not;
  }
  return json_text(json);
}

}  // namespace slackline
