#include "csv_rows.h"

#include <algorithm>

#include "slackline/base/error.h"
#include "slackline/base/number_text.h"

namespace slackline {
namespace {

constexpr int kMostRows = 2'000'000;

}  // namespace

std::string_view take_line(std::string_view& rest) {
  const std::size_t newline = rest.find('\n');
  std::string_view line = rest.substr(0, newline);
  rest.remove_prefix(newline == std::string_view::npos ? rest.size() : newline + 1);
  if (line.ends_with('\r')) line.remove_suffix(1);
  return line;
}

std::vector<std::string_view> split_cells(std::string_view line) {
  std::vector<std::string_view> cells;
  while (true) {
    const std::size_t comma = line.find(',');
    cells.push_back(line.substr(0, comma));
    if (comma == std::string_view::npos) return cells;
    line.remove_prefix(comma + 1);
  }
}

CsvRows::CsvRows(const std::string& file, std::string_view text) : file_(file), rest_(text) {
  if (text.empty()) throw InputError(file, 0, "", "the file is empty");
  if (text.starts_with("\xEF\xBB\xBF")) {
    fail("", "the file begins with a byte order mark; save it as plain UTF-8");
  }
  header_ = split_cells(take_line(rest_));
}

bool CsvRows::has(std::string_view column) const {
  return std::ranges::find(header_, column) != header_.end();
}

bool CsvRows::next() {
  if (rest_.empty()) return false;
  const std::string_view line = take_line(rest_);
  if (line.empty() && rest_.empty()) return false;
  if (++line_ > kMostRows) fail("", "more than " + std::to_string(kMostRows) + " rows");
  cells_ = split_cells(line);
  if (cells_.size() != header_.size()) {
    fail("",
         std::to_string(cells_.size()) + " values where the header names " + std::to_string(header_.size()));
  }
  return true;
}

std::string_view CsvRows::cell(std::string_view column) const {
  return cells_[static_cast<std::size_t>(std::ranges::find(header_, column) - header_.begin())];
}

std::string CsvRows::quoted(std::string_view column) const {
  return "'" + std::string(cell(column)) + "'";
}

double CsvRows::number(std::string_view column, double most) const {
  const auto value = parse_number(cell(column));
  if (!value) fail(column, quoted(column) + " is not a finite number");
  if (*value < 0) fail(column, quoted(column) + " must not be negative");
  if (*value > most) fail(column, quoted(column) + " is above " + exact_text(most));
  return *value;
}

int CsvRows::integer(std::string_view column, int low, int high) const {
  const auto value = parse_integer(cell(column));
  if (!value || *value < low || *value > high) {
    fail(column, quoted(column) + " is not a whole number from " + std::to_string(low) + " to " +
                     std::to_string(high));
  }
  return static_cast<int>(*value);
}

void CsvRows::fail(std::string_view column, const std::string& reason) const {
  throw InputError(file_, line_, std::string(column), reason);
}

}  // namespace slackline
