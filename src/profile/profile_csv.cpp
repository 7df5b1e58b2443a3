#include <algorithm>
#include <array>
#include <map>
#include <optional>
#include <set>
#include <string_view>
#include <tuple>

#include "../base/csv_rows.h"
#include "slackline/base/error.h"
#include "slackline/profile/profile_io.h"

namespace slackline {
namespace {

constexpr std::array<std::string_view, 5> kColumns{"stage", "instruction", "frequency", "time", "energy"};
constexpr std::array<std::string_view, 4> kRankColumns{"rank", "dp_rank", "pp_rank", "tp_rank"};
constexpr std::string_view kTensorParallelRank = kRankColumns[3];
constexpr std::string_view kConfigColumn = "config";
constexpr int kMostRanks = 10'000'000;

bool is_config_column(std::string_view column) {
  return column == kConfigColumn || column.starts_with("config_");
}

class Table : public CsvRows {
 public:
  /// The header may name further columns.
  Table(const std::string& file, std::string_view text) : CsvRows(file, text) {
    std::set<std::string_view> seen;
    for (const std::string_view column : header()) {
      if (!seen.insert(column).second) fail(column, "the column comes twice");
      const bool known = std::find(kColumns.begin(), kColumns.end(), column) != kColumns.end() ||
                         std::find(kRankColumns.begin(), kRankColumns.end(), column) != kRankColumns.end() ||
                         is_config_column(column);
      if (!known) fail(column, "unknown column in the header");
    }
    for (const std::string_view column : kColumns) {
      if (has(column)) continue;
      fail(column, "the header lacks this column; expected stage,instruction,frequency,time,energy");
    }
  }

  /// Values of all rank columns, to tell the ranks of a stage apart; empty without such columns.
  [[nodiscard]] std::string rank() const {
    std::string rank;
    for (const std::string_view column : kRankColumns) {
      if (has(column)) rank += std::to_string(integer(column, 0, kMostRanks)) + ",";
    }
    return rank;
  }

  /// Nothing without such a column.
  [[nodiscard]] std::optional<int> tensor_parallel_rank() const {
    if (!has(kTensorParallelRank)) return std::nullopt;
    return integer(kTensorParallelRank, 0, kMostRanks);
  }

  /// The label of the row: what stands in `config`, and NAME=VALUE for each column config_NAME.
  [[nodiscard]] std::string config() const {
    std::string label;
    for (const std::string_view column : header()) {
      if (!is_config_column(column) || cell(column).empty()) continue;
      if (!label.empty()) label += ' ';
      if (column != kConfigColumn) label += std::string(column.substr(kConfigColumn.size() + 1)) + "=";
      label += cell(column);
    }
    return label;
  }

  [[nodiscard]] double positive_number(std::string_view column) const {
    const double value = number(column);
    if (value == 0) fail(column, quoted(column) + " must be above 0");
    return value;
  }
};

/// All rows of one stage, kind and clock: one a rank.
struct Samples {
  double slowest = 0;
  double energy_sum = 0;
  std::set<std::string> ranks;
  std::set<int> tensor_parallel_ranks;
};

/// Stage, kind, minus the clock (the highest sorts first), label.
using Key = std::tuple<int, InstructionKind, int, std::string>;

std::map<Key, Samples> read_rows(const std::string& file, const std::string& text) {
  std::map<Key, Samples> rows;
  Table table(file, text);
  while (table.next()) {
    const auto kind = instruction_kind(table.cell("instruction"));
    if (!kind) table.fail("instruction", "unknown instruction " + table.quoted("instruction"));
    const int stage = table.integer("stage", 0, kMaxStages - 1);
    const bool fixed = is_fixed_time(*kind);
    const int clock = table.integer("frequency", fixed ? 0 : 1, fixed ? 0 : kMaxClock);
    if (fixed && !table.config().empty()) table.fail("config", "a kind with a fixed time takes no label");
    Samples& samples = rows[{stage, *kind, -clock, table.config()}];
    if (!samples.ranks.insert(table.rank()).second) {
      table.fail("frequency", std::to_string(clock) + " MHz comes twice for " + std::string(name_of(*kind)) +
                                  " of stage " + std::to_string(stage));
    }
    if (const auto rank = table.tensor_parallel_rank()) {
      samples.tensor_parallel_ranks.insert(*rank);
      if (samples.tensor_parallel_ranks.size() > static_cast<std::size_t>(kMaxTensorParallel)) {
        table.fail(kTensorParallelRank, "more than " + std::to_string(kMaxTensorParallel) + " of one stage");
      }
    }
    samples.slowest = std::max(samples.slowest, table.positive_number("time"));
    samples.energy_sum += table.number("energy");
  }
  if (rows.empty()) throw InputError(file, 1, "", "the file has a header but no measurements");
  return rows;
}

}  // namespace

Profile parse_profile_csv(const std::string& file, const std::string& text) {
  Profile profile;
  for (const auto& [key, samples] : read_rows(file, text)) {
    const auto& [stage, kind, negative_clock, label] = key;
    const std::size_t last = profile.stages.size();
    if (static_cast<std::size_t>(stage) > last) {
      throw InputError(file, 0, "stage",
                       "stage " + std::to_string(last) +
                           " is missing; stages are numbered from 0 "
                           "without a gap");
    }
    if (static_cast<std::size_t>(stage) == last) profile.stages.emplace_back();
    StageProfile& last_stage = profile.stages.back();
    last_stage.tensor_parallel =
        std::max(last_stage.tensor_parallel, static_cast<int>(samples.tensor_parallel_ranks.size()));
    last_stage.instructions[kind].push_back(
        {Megahertz(-negative_clock), Seconds(samples.slowest),
         Joules(samples.energy_sum / static_cast<double>(samples.ranks.size())),
         config_of(profile.configs, label)});
  }
  for (std::size_t stage = 0; stage < profile.stages.size(); ++stage) {
    if (const auto missing = missing_kind(profile.stages[stage])) {
      throw InputError(file, 0, "instruction",
                       "stage " + std::to_string(stage) + " has no '" + std::string(name_of(*missing)) + "'");
    }
  }
  return profile;
}

}  // namespace slackline
