#include <algorithm>
#include <array>
#include <map>
#include <optional>
#include <set>
#include <string_view>
#include <tuple>

#include "slackline/base/error.h"
#include "slackline/base/number_text.h"
#include "slackline/profile/profile_io.h"

namespace slackline {
namespace {

constexpr std::array<std::string_view, 5> kColumns{"stage", "instruction", "frequency", "time", "energy"};
constexpr std::array<std::string_view, 4> kRankColumns{"rank", "dp_rank", "pp_rank", "tp_rank"};
constexpr std::string_view kTensorParallelRank = kRankColumns[3];
constexpr std::string_view kConfigColumn = "config";

bool is_config_column(std::string_view column) {
  return column == kConfigColumn || column.starts_with("config_");
}

std::vector<std::string_view> split(std::string_view line) {
  std::vector<std::string_view> cells;
  while (true) {
    const std::size_t comma = line.find(',');
    cells.push_back(line.substr(0, comma));
    if (comma == std::string_view::npos) return cells;
    line.remove_prefix(comma + 1);
  }
}

/// A row under a header that may name further columns.
class Table {
 public:
  Table(const std::string& file, std::string_view header) : file_(file), header_(split(header)) {
    std::set<std::string_view> seen;
    for (const std::string_view column : header_) {
      if (!seen.insert(column).second) fail(std::string(column), "the column comes twice");
      const bool known = std::find(kColumns.begin(), kColumns.end(), column) != kColumns.end() ||
                         std::find(kRankColumns.begin(), kRankColumns.end(), column) != kRankColumns.end() ||
                         is_config_column(column);
      if (!known) fail(std::string(column), "unknown column in the header");
    }
    for (const std::string_view column : kColumns) {
      if (!seen.contains(column)) {
        fail(std::string(column),
             "the header lacks this column; expected stage,instruction,frequency,time,energy");
      }
    }
  }

  void next(std::string_view line) {
    ++line_;
    cells_ = split(line);
    if (cells_.size() != header_.size()) {
      fail("", std::to_string(cells_.size()) + " values where the header names " +
                   std::to_string(header_.size()));
    }
  }

  [[nodiscard]] std::string_view cell(std::string_view column) const {
    return cells_[static_cast<std::size_t>(std::find(header_.begin(), header_.end(), column) -
                                           header_.begin())];
  }

  /// Values of all rank columns, to tell the ranks of a stage apart; empty without such columns.
  [[nodiscard]] std::string rank() const {
    std::string rank;
    for (const std::string_view column : kRankColumns) {
      if (std::find(header_.begin(), header_.end(), column) == header_.end()) continue;
      rank += std::to_string(integer(column, 0, 10'000'000)) + ",";
    }
    return rank;
  }

  /// Nothing without such a column.
  [[nodiscard]] std::optional<int> tensor_parallel_rank() const {
    if (std::find(header_.begin(), header_.end(), kTensorParallelRank) == header_.end()) return std::nullopt;
    return integer(kTensorParallelRank, 0, 10'000'000);
  }

  /// The label of the row: what stands in `config`, and NAME=VALUE for each column config_NAME.
  [[nodiscard]] std::string config() const {
    std::string label;
    for (const std::string_view column : header_) {
      if (!is_config_column(column) || cell(column).empty()) continue;
      if (!label.empty()) label += ' ';
      if (column != kConfigColumn) label += std::string(column.substr(kConfigColumn.size() + 1)) + "=";
      label += cell(column);
    }
    return label;
  }

  [[nodiscard]] double number(std::string_view column, bool zero_allowed) const {
    const auto value = parse_number(cell(column));
    if (!value) fail(column, quoted(column) + " is not a finite number");
    if (*value < 0) fail(column, quoted(column) + " must not be negative");
    if (*value == 0 && !zero_allowed) fail(column, quoted(column) + " must be above 0");
    return *value;
  }

  [[nodiscard]] int integer(std::string_view column, int low, int high) const {
    const auto value = parse_integer(cell(column));
    if (!value || *value < low || *value > high) {
      fail(column, quoted(column) + " is not a whole number from " + std::to_string(low) + " to " +
                       std::to_string(high));
    }
    return static_cast<int>(*value);
  }

  [[noreturn]] void fail(std::string_view column, const std::string& reason) const {
    throw InputError(file_, line_, std::string(column), reason);
  }
  [[nodiscard]] std::string quoted(std::string_view column) const {
    return "'" + std::string(cell(column)) + "'";
  }

 private:
  const std::string& file_;
  std::vector<std::string_view> header_;
  std::vector<std::string_view> cells_;
  int line_ = 1;
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
  std::optional<Table> table;
  std::string_view rest = text;
  while (!rest.empty()) {
    const std::size_t newline = rest.find('\n');
    std::string_view line = rest.substr(0, newline);
    rest.remove_prefix(newline == std::string_view::npos ? rest.size() : newline + 1);
    if (line.ends_with('\r')) line.remove_suffix(1);
    if (!table) {
      table.emplace(file, line);
      continue;
    }
    if (line.empty() && rest.empty()) break;
    table->next(line);
    const auto kind = instruction_kind(table->cell("instruction"));
    if (!kind) table->fail("instruction", "unknown instruction " + table->quoted("instruction"));
    const int stage = table->integer("stage", 0, kMaxStages - 1);
    const bool fixed = is_fixed_time(*kind);
    const int clock = table->integer("frequency", fixed ? 0 : 1, fixed ? 0 : kMaxClock);
    if (fixed && !table->config().empty()) table->fail("config", "a kind with a fixed time takes no label");
    Samples& samples = rows[{stage, *kind, -clock, table->config()}];
    if (!samples.ranks.insert(table->rank()).second) {
      table->fail("frequency", std::to_string(clock) + " MHz comes twice for " + std::string(name_of(*kind)) +
                                   " of stage " + std::to_string(stage));
    }
    if (const auto rank = table->tensor_parallel_rank()) {
      samples.tensor_parallel_ranks.insert(*rank);
      if (samples.tensor_parallel_ranks.size() > static_cast<std::size_t>(kMaxTensorParallel)) {
        table->fail(kTensorParallelRank, "more than " + std::to_string(kMaxTensorParallel) + " of one stage");
      }
    }
    samples.slowest = std::max(samples.slowest, table->number("time", false));
    samples.energy_sum += table->number("energy", true);
  }
  if (rows.empty()) throw InputError(file, 1, "", "the file has a header but no measurements");
  return rows;
}

}  // namespace

Profile parse_profile_csv(const std::string& file, const std::string& text) {
  if (text.empty()) throw InputError(file, 0, "", "the file is empty");
  if (text.starts_with("\xEF\xBB\xBF")) {
    throw InputError(file, 1, "", "the file begins with a byte order mark; save it as plain UTF-8");
  }
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
