#include "slackline/report/profile_report.h"

#include <algorithm>
#include <array>
#include <charconv>
#include <cmath>
#include <nlohmann/json.hpp>
#include <set>
#include <utility>

#include "json_text.h"
#include "slackline/base/number_text.h"
#include "slackline/report/table.h"

namespace slackline {
namespace {

using Json = nlohmann::ordered_json;

constexpr std::size_t kWidth = 100;

/// Four digits, as far as they lie behind the point.
std::string figure(double number) {
  if (number == 0) return "0";
  const double exponent = std::floor(std::log10(std::abs(number)));
  if (exponent < -6 || exponent > 9) {
    std::array<char, 32> buffer{};
    char* const end = buffer.data() + buffer.size();
    return {buffer.data(), std::to_chars(buffer.data(), end, number, std::chars_format::scientific, 3).ptr};
  }
  return fixed_text(number, std::max(0, 3 - static_cast<int>(exponent)));
}

std::string percent(double share) {
  return fixed_text(100 * share, 2);
}

/// Clocks, highest first: "1410, 1395", or "1185-1410 (16)" where they are many.
std::string clocks_text(const std::vector<Megahertz>& clocks) {
  if (clocks.size() > 2) {
    return std::to_string(clocks.back().value()) + "-" + std::to_string(clocks.front().value()) + " (" +
           std::to_string(clocks.size()) + ")";
  }
  std::string text;
  for (const Megahertz clock : clocks) text += (text.empty() ? "" : ", ") + std::to_string(clock.value());
  return text;
}

/// A column that is not shown if it is empty.
struct Column {
  std::string name;
  bool is_words = false;
  std::vector<std::string> cells{};

  [[nodiscard]] bool is_empty() const {
    return std::ranges::all_of(cells, [](const std::string& cell) { return cell.empty(); });
  }
  [[nodiscard]] std::size_t width() const {
    std::size_t width = name.size();
    for (const std::string& cell : cells) width = std::max(width, cell.size());
    return width;
  }
};

std::string table_text(const std::vector<Column>& columns) {
  std::vector<std::string> header;
  std::set<std::size_t> words;
  for (const Column& column : columns) {
    if (column.is_words) words.insert(header.size());
    header.push_back(column.name);
  }
  Table table(header, words);
  for (std::size_t row = 0; row < columns.front().cells.size(); ++row) {
    std::vector<std::string> cells;
    for (const Column& column : columns) {
      cells.push_back(column.cells[row].empty() ? "-" : column.cells[row]);
    }
    table.add_row(cells);
  }
  return "\n" + table.text();
}

/// A table, or several where one would be too wide, each with the `keys`; none without further columns.
std::string tables_text(const std::vector<Column>& keys, const std::vector<Column>& columns) {
  std::size_t key_width = 0;
  for (const Column& key : keys) key_width += key.width() + 2;
  std::string text;
  std::vector<Column> shown = keys;
  std::size_t width = key_width;
  for (const Column& column : columns) {
    if (column.is_empty()) continue;
    const std::size_t more = column.width() + 2;
    if (shown.size() > keys.size() && width + more > kWidth + 2) {
      text += table_text(shown);
      shown = keys;
      width = key_width;
    }
    shown.push_back(column);
    width += more;
  }
  return shown.size() > keys.size() ? text + table_text(shown) : text;
}

using Row = std::pair<std::size_t, const KindSummary*>;

std::vector<Row> rows_of(const ProfileSummary& summary) {
  std::vector<Row> rows;
  for (std::size_t s = 0; s < summary.stages.size(); ++s) {
    for (const KindSummary& kind : summary.stages[s].kinds) rows.emplace_back(s, &kind);
  }
  return rows;
}

/// One cell for each of `items`.
template <class Items, class Cell>
Column column(const std::string& name, const Items& items, const Cell& cell, bool is_words = false) {
  Column result{name, is_words};
  for (const auto& item : items) result.cells.push_back(cell(item));
  return result;
}

std::vector<Column> kind_keys(const std::vector<Row>& rows) {
  return {column("stage", rows, [](const Row& row) { return std::to_string(row.first); }),
          column(
              "kind", rows, [](const Row& row) { return std::string(name_of(row.second->kind)); }, true)};
}

std::string clock_range(const KindSummary& kind) {
  if (kind.clocks.empty()) return "any";
  const std::string lowest = std::to_string(kind.clocks.back().value());
  return kind.clocks.size() == 1 ? lowest : lowest + "-" + std::to_string(kind.clocks.front().value());
}

/// What there is to choose from.
std::string options_text(const std::vector<Row>& rows) {
  const auto of = [&](const std::string& name, const auto& cell) {
    return column(name, rows, [&](const Row& row) { return cell(*row.second); });
  };
  const auto has_choice = [](const KindSummary& kind) { return kind.clocks.size() > 1; };
  const bool has_labels = std::ranges::any_of(rows, [](const Row& row) {
    return !row.second->clocks.empty() && row.second->clocks.size() < row.second->options;
  });
  const bool has_modelled =
      std::ranges::any_of(rows, [](const Row& row) { return row.second->modelled > 0; });
  return tables_text(
      kind_keys(rows),
      {of("clocks",
          [](const KindSummary& k) { return k.clocks.empty() ? "" : std::to_string(k.clocks.size()); }),
       of("options", [&](const KindSummary& k) { return has_labels ? std::to_string(k.options) : ""; }),
       of("modelled",
          [&](const KindSummary& k) {
            return has_modelled && !k.clocks.empty() ? std::to_string(k.modelled) : "";
          }),
       of("MHz", clock_range),
       of("time (s)", [](const KindSummary& k) { return figure(k.highest.time.value()); }),
       of("lowest MHz",
          [&](const KindSummary& k) { return has_choice(k) ? figure(k.lowest.time.value()) : ""; }),
       of("energy (J)", [](const KindSummary& k) { return figure(k.highest.energy.value()); }),
       of("lowest MHz",
          [&](const KindSummary& k) { return has_choice(k) ? figure(k.lowest.energy.value()) : ""; })});
}

/// How well it is known, and whether it makes a curve.
std::string trust_text(const std::vector<Row>& rows) {
  const auto of = [&](const std::string& name, const auto& cell) {
    return column(name, rows, [&](const Row& row) { return cell(*row.second); });
  };
  const auto median = [&](const std::string& name, Spread KindSummary::*spread, const auto& text) {
    return of(name,
              [&](const KindSummary& k) { return (k.*spread).empty() ? "" : text((k.*spread).median()); });
  };
  const auto largest = [&](Spread KindSummary::*spread, const auto& text) {
    return of("most",
              [&](const KindSummary& k) { return (k.*spread).empty() ? "" : text((k.*spread).largest()); });
  };
  const auto plain = [](double number) { return fixed_text(number, 2); };
  const std::string errors = tables_text(
      kind_keys(rows),
      {of("runs", [](const KindSummary& k) { return k.runs.empty() ? "" : fixed_text(k.runs.median(), 0); }),
       of("fewest",
          [](const KindSummary& k) { return k.runs.empty() ? "" : fixed_text(k.runs.smallest(), 0); }),
       median("time +- (%)", &KindSummary::time_errors, percent), largest(&KindSummary::time_errors, percent),
       median("energy +- (%)", &KindSummary::energy_errors, percent),
       largest(&KindSummary::energy_errors, percent),
       median("apart (+-)", &KindSummary::disagreements, plain),
       largest(&KindSummary::disagreements, plain)});
  const auto checked = [&](const std::string& name, const auto& text) {
    return of(name, [&](const KindSummary& k) { return k.check ? text(*k.check) : std::string(); });
  };
  const std::string shape = tables_text(
      kind_keys(rows),
      {of("hull vertices",
          [](const KindSummary& k) { return k.clocks.empty() ? "" : std::to_string(k.hull_vertices); }),
       checked("time off fit (%)", [](const ConvexCheck& c) { return percent(c.time_residual); }),
       checked("energy off fit (%)", [](const ConvexCheck& c) { return percent(c.energy_residual); }),
       checked("outliers", [](const ConvexCheck& c) { return std::to_string(c.outliers.size()); })});
  return errors + shape;
}

std::string stages_text(const ProfileSummary& summary) {
  const auto& stages = summary.stages;
  const auto of = [&](const std::string& name, const auto& cell) { return column(name, stages, cell); };
  /// 0 is not known.
  const auto noted = [&](const std::string& name, const auto& number) {
    return of(name, [&](const StageSummary& s) {
      const double value = s.notes ? number(*s.notes) : 0;
      return value == 0 ? std::string() : figure(value);
    });
  };
  const auto share = [&](const std::string& name, double MeasuringNotes::*part) {
    return of(name,
              [&](const StageSummary& s) { return s.notes ? percent((*s.notes).*part) : std::string(); });
  };
  const auto clocks = [&](const std::string& name, std::vector<Megahertz> MeasuringNotes::*part) {
    return of(name,
              [&](const StageSummary& s) { return s.notes ? clocks_text((*s.notes).*part) : std::string(); });
  };
  const auto drift = [&](const std::string& name, double MeasuringNotes::*part) {
    return of(name, [&](const StageSummary& s) {
      const bool is_known = s.notes && (s.notes->drift != 0 || s.notes->drift_error != 0);
      return is_known ? percent((*s.notes).*part) : std::string();
    });
  };
  Column number{"stage"};
  for (std::size_t s = 0; s < stages.size(); ++s) number.cells.push_back(std::to_string(s));
  return tables_text(
      {number},
      {column(
           "GPU", stages, [](const StageSummary& s) { return s.gpu; }, true),
       of("GPUs", [](const StageSummary& s) { return std::to_string(s.tensor_parallel); }),
       of("pass (s)", [](const StageSummary& s) { return figure(s.pass.value()); }),
       of("transfer (ms)",
          [](const StageSummary& s) {
            return s.transfer > Seconds(0) ? figure(s.transfer.value() * 1e3) : std::string();
          }),
       of("blocking (W)",
          [](const StageSummary& s) {
            return s.blocking_power ? fixed_text(s.blocking_power->value(), 2) : std::string();
          }),
       noted("+- (W)", [](const MeasuringNotes& n) { return n.blocking_error.value(); }),
       noted("second (W)", [](const MeasuringNotes& n) { return n.second_blocking_power.value(); }),
       noted("+- (W)", [](const MeasuringNotes& n) { return n.second_blocking_error.value(); }),
       noted("counter period (ms)", [](const MeasuringNotes& n) { return n.counter_period.value() * 1e3; }),
       noted("measured (s)", [](const MeasuringNotes& n) { return n.duration.value(); }),
       share("throttled (%)", &MeasuringNotes::throttled_share),
       share("foreign (%)", &MeasuringNotes::foreign_share),
       share("unreadable (%)", &MeasuringNotes::unreadable_share), drift("drift (%)", &MeasuringNotes::drift),
       drift("+- (%)", &MeasuringNotes::drift_error),
       clocks("throttled MHz", &MeasuringNotes::throttled_clocks),
       clocks("missed MHz", &MeasuringNotes::missed_clocks)});
}

std::string with_error(double value, double error, int decimals) {
  const std::string text = fixed_text(value, decimals);
  return error > 0 && value > 0 ? text + " ±" + fixed_text(error / value * 100, 1) + "%" : text;
}

std::string title_of(const ProfileSummary& summary) {
  int gpus = 0;
  for (const StageSummary& stage : summary.stages) gpus += stage.tensor_parallel;
  return (summary.model.empty() ? "model not named" : summary.model) + ", " +
         (summary.gpu.empty() ? "GPU not named" : summary.gpu) + ", " +
         std::to_string(summary.stages.size()) + " stages, " + std::to_string(gpus) + " GPUs\n";
}

Json clocks_json(const std::vector<Megahertz>& clocks) {
  Json json = Json::array();
  for (const Megahertz clock : clocks) json.push_back(clock.value());
  return json;
}

void add_spread(Json& json, const std::string& name, const Spread& spread) {
  if (spread.empty()) return;
  json["median_" + name] = spread.median();
  json["largest_" + name] = spread.largest();
}

Json measurement_json(const Measurement& m, const std::vector<std::string>& configs) {
  Json json = Json::object();
  if (m.clock.value() > 0) json["clock_mhz"] = m.clock.value();
  if (m.config.value() > 0) json["config"] = label_of(configs, m.config);
  json["time_s"] = m.time.value();
  json["energy_j"] = m.energy.value();
  return json;
}

Json kind_json(const KindSummary& kind, const std::vector<std::string>& configs) {
  Json json{{"kind", name_of(kind.kind)}, {"options", kind.options}, {"modelled", kind.modelled}};
  if (kind.clocks.empty()) {
    json["fixed"] = measurement_json(kind.highest, configs);
    return json;
  }
  json["clocks_mhz"] = clocks_json(kind.clocks);
  json["highest"] = measurement_json(kind.highest, configs);
  json["lowest"] = measurement_json(kind.lowest, configs);
  json["fastest"] = measurement_json(kind.fastest, configs);
  if (!kind.runs.empty()) {
    json["median_runs"] = kind.runs.median();
    json["fewest_runs"] = kind.runs.smallest();
  }
  add_spread(json, "time_error", kind.time_errors);
  add_spread(json, "energy_error", kind.energy_errors);
  add_spread(json, "disagreement_errors", kind.disagreements);
  json["hull_vertices"] = kind.hull_vertices;
  if (!kind.check) return json;
  json["time_residual"] = kind.check->time_residual;
  json["energy_residual"] = kind.check->energy_residual;
  json["outliers"] = Json::array();
  for (const Outlier& outlier : kind.check->outliers) {
    Json entry{{"clock_mhz", outlier.option.mhz.value()}};
    if (outlier.option.config.value() > 0) entry["config"] = label_of(configs, outlier.option.config);
    entry["of"] = outlier.is_time ? "time" : "energy";
    entry["deviation"] = outlier.deviation;
    entry["sigmas"] = outlier.sigmas;
    json["outliers"].push_back(std::move(entry));
  }
  return json;
}

Json notes_json(const MeasuringNotes& notes) {
  return {{"blocking_power_error_w", notes.blocking_error.value()},
          {"second_blocking_power_w", notes.second_blocking_power.value()},
          {"second_blocking_power_error_w", notes.second_blocking_error.value()},
          {"counter_period_s", notes.counter_period.value()},
          {"duration_s", notes.duration.value()},
          {"throttled_share", notes.throttled_share},
          {"foreign_share", notes.foreign_share},
          {"unreadable_share", notes.unreadable_share},
          {"drift_share", notes.drift},
          {"drift_error_share", notes.drift_error},
          {"throttled_clocks_mhz", clocks_json(notes.throttled_clocks)},
          {"missed_clocks_mhz", clocks_json(notes.missed_clocks)}};
}

}  // namespace

std::string highest_clocks_text(const ProfileSummary& summary) {
  std::set<InstructionKind> kinds;
  for (const auto& [stage, kind] : rows_of(summary)) {
    if (!is_fixed_time(kind->kind)) kinds.insert(kind->kind);
  }
  std::vector<std::string> header{"stage", "clocks (MHz)"};
  for (const InstructionKind kind : kinds)
    header.push_back(std::string(name_of(kind)) + " at highest (s, J)");
  header.emplace_back("blocking (W)");
  Table table(header);
  for (std::size_t s = 0; s < summary.stages.size(); ++s) {
    const StageSummary& stage = summary.stages[s];
    std::vector<std::string> row{std::to_string(s), clock_range(stage.kinds.front())};
    for (const InstructionKind kind : kinds) {
      const auto found = std::ranges::find(stage.kinds, kind, &KindSummary::kind);
      const Measurement m = found == stage.kinds.end() ? Measurement{} : found->highest;
      row.push_back(found == stage.kinds.end() ? "-"
                                               : with_error(m.time.value(), m.time_error.value(), 4) + "  " +
                                                     with_error(m.energy.value(), m.energy_error.value(), 2));
    }
    const Watts error = stage.notes ? stage.notes->blocking_error : Watts(0);
    row.push_back(stage.blocking_power ? with_error(stage.blocking_power->value(), error.value(), 2) : "-");
    table.add_row(row);
  }
  return table.text();
}

std::string profile_text(const ProfileSummary& summary) {
  std::string text = title_of(summary);
  if (summary.stages.size() > 1) {
    text += "slowest pass (forward and backward at the highest clock): stage " +
            std::to_string(summary.slowest_stage) + ", " + fixed_text(summary.slowest_over_mean, 3) +
            " times the mean, " + fixed_text(summary.slowest_over_fastest, 3) + " times the fastest (stage " +
            std::to_string(summary.fastest_stage) + ")\n";
  }
  if (summary.switch_times) {
    text += "a clock is stable " + fixed_text(summary.switch_times->stable_ms, 1) + " ms after its request\n";
  }
  const std::vector<Row> rows = rows_of(summary);
  return text + stages_text(summary) + options_text(rows) + trust_text(rows);
}

std::string profile_json(const ProfileSummary& summary) {
  Json stages = Json::array();
  for (const StageSummary& stage : summary.stages) {
    Json json{{"tensor_parallel", stage.tensor_parallel},
              {"transfer_s", stage.transfer.value()},
              {"blocking_power_w", stage.blocking_power ? Json(stage.blocking_power->value()) : Json()},
              {"pass_s", stage.pass.value()}};
    if (!stage.gpu.empty()) json["gpu"] = stage.gpu;
    if (stage.notes) json["measuring"] = notes_json(*stage.notes);
    json["kinds"] = Json::array();
    for (const KindSummary& kind : stage.kinds) json["kinds"].push_back(kind_json(kind, summary.configs));
    stages.push_back(std::move(json));
  }
  Json json{{"model", summary.model},
            {"gpu", summary.gpu},
            {"imbalance",
             {{"slowest_stage", summary.slowest_stage},
              {"fastest_stage", summary.fastest_stage},
              {"slowest_over_mean", summary.slowest_over_mean},
              {"slowest_over_fastest", summary.slowest_over_fastest}}}};
  if (summary.switch_times) json["switch_stable_ms"] = summary.switch_times->stable_ms;
  json["stages"] = std::move(stages);
  json["warnings"] = profile_warnings(summary);
  return json_text(json);
}

}  // namespace slackline
