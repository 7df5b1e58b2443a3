#include "slackline/report/comparison.h"

#include <nlohmann/json.hpp>

#include "json_text.h"
#include "slackline/base/number_text.h"
#include "slackline/report/table.h"

namespace slackline {
namespace {

double saved_percent(const ComparisonRow& row, const ComparisonRow& base) {
  return (1 - row.energy / base.energy) * 100;
}

double slower_percent(const ComparisonRow& row, const ComparisonRow& base) {
  return (row.time / base.time - 1) * 100;
}

}  // namespace

std::string comparison_text(const std::vector<ComparisonRow>& rows) {
  Table table({"", "time (s)", "slower (%)", "energy (J)", "saved (%)", "planning (s)"});
  for (const ComparisonRow& row : rows) {
    table.add_row({row.method, fixed_text(row.time.value(), 3),
                   fixed_text(slower_percent(row, rows.front()), 2), fixed_text(row.energy.value(), 1),
                   fixed_text(saved_percent(row, rows.front()), 2),
                   row.planning ? fixed_text(row.planning->value(), 3) : ""});
  }
  return table.text();
}

std::string comparison_json(const std::vector<ComparisonRow>& rows) {
  using Json = nlohmann::ordered_json;
  Json json = Json::array();
  for (const ComparisonRow& row : rows) {
    Json entry{{"method", row.method},
               {"time_s", row.time.value()},
               {"energy_j", row.energy.value()},
               {"saved_percent", saved_percent(row, rows.front())},
               {"slowdown_percent", slower_percent(row, rows.front())}};
    if (row.planning) entry["planning_s"] = row.planning->value();
    json.push_back(std::move(entry));
  }
  return json_text(json);
}

}  // namespace slackline
