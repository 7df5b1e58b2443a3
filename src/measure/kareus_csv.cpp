#include "slackline/measure/kareus_csv.h"

#include <string_view>
#include <utility>

#include "slackline/base/error.h"
#include "slackline/base/number_text.h"

namespace slackline {
namespace {

/// Keeps a hostile file from exhausting memory; a rank of a real recording has thousands.
constexpr std::size_t kMostRows = 2'000'000;
/// Beyond every clock and every counter; sums of such numbers are still exact enough.
constexpr double kLatest = 1e11;
constexpr double kMostEnergy = 1e15;

/// The rows under a header that has to be exactly `header`.
class Rows {
 public:
  Rows(const std::string& file, std::string_view text, std::string_view header) : file_(file), rest_(text) {
    if (text.empty()) throw InputError(file, 0, "", "the file is empty");
    if (text.starts_with("\xEF\xBB\xBF")) {
      throw InputError(file, 1, "", "the file begins with a byte order mark; save it as plain UTF-8");
    }
    const std::string_view line = next_line();
    if (line != header) fail("", "the header is not '" + std::string(header) + "'");
    columns_ = split(header);
  }

  /// False at the end.
  bool next() {
    if (rest_.empty()) return false;
    const std::string_view line = next_line();
    if (line.empty() && rest_.empty()) return false;
    if (static_cast<std::size_t>(line_) > kMostRows) {
      fail("", "more than " + std::to_string(kMostRows) + " rows");
    }
    cells_ = split(line);
    if (cells_.size() != columns_.size()) {
      fail("", std::to_string(cells_.size()) + " values where the header names " +
                   std::to_string(columns_.size()));
    }
    return true;
  }

  [[nodiscard]] int line() const { return line_; }
  [[nodiscard]] std::string_view cell(std::size_t column) const { return cells_[column]; }
  [[nodiscard]] double number(std::size_t column, double most) const {
    const auto value = parse_number(cell(column));
    if (!value) fail(columns_[column], quoted(column) + " is not a finite number");
    if (*value < 0) fail(columns_[column], quoted(column) + " must not be negative");
    if (*value > most) fail(columns_[column], quoted(column) + " is above " + exact_text(most));
    return *value;
  }
  [[nodiscard]] std::string quoted(std::size_t column) const { return "'" + std::string(cell(column)) + "'"; }
  [[noreturn]] void fail(std::string_view key, const std::string& reason) const {
    throw InputError(file_, line_, std::string(key), reason);
  }

 private:
  static std::vector<std::string_view> split(std::string_view line) {
    std::vector<std::string_view> cells;
    while (true) {
      const std::size_t comma = line.find(',');
      cells.push_back(line.substr(0, comma));
      if (comma == std::string_view::npos) return cells;
      line.remove_prefix(comma + 1);
    }
  }

  std::string_view next_line() {
    ++line_;
    const std::size_t newline = rest_.find('\n');
    std::string_view line = rest_.substr(0, newline);
    rest_.remove_prefix(newline == std::string_view::npos ? rest_.size() : newline + 1);
    if (line.ends_with('\r')) line.remove_suffix(1);
    return line;
  }

  const std::string& file_;
  std::string_view rest_;
  std::vector<std::string_view> columns_;
  std::vector<std::string_view> cells_;
  int line_ = 0;
};

}  // namespace

std::vector<EnergyReading> parse_kareus_energy(const std::string& file, const std::string& text) {
  std::vector<EnergyReading> readings;
  Rows rows(file, text, "time,energy");
  while (rows.next()) {
    const EnergyReading reading{Joules(rows.number(1, kMostEnergy)), Seconds(rows.number(0, kLatest))};
    if (!readings.empty() && reading.at <= readings.back().at) {
      rows.fail("time", rows.quoted(0) + " is not after the row before");
    }
    readings.push_back(reading);
  }
  return readings;
}

std::vector<KareusSpan> parse_kareus_instructions(const std::string& file, const std::string& text) {
  std::vector<KareusSpan> spans;
  Rows rows(file, text, "instruction,start,end");
  while (rows.next()) {
    KareusSpan span{std::string(rows.cell(0)),
                    {Seconds(rows.number(1, kLatest)), Seconds(rows.number(2, kLatest))},
                    rows.line()};
    if (span.name.empty()) rows.fail("instruction", "it has no name");
    if (span.span.end < span.span.begin) rows.fail("end", rows.quoted(2) + " is before the start");
    spans.push_back(std::move(span));
  }
  return spans;
}

}  // namespace slackline
