#pragma once
#include <limits>
#include <string>
#include <string_view>
#include <vector>

namespace slackline {

/// Takes the first line off `rest`, and its end, be it LF or CRLF.
[[nodiscard]] std::string_view take_line(std::string_view& rest);
/// The cells of a line between its commas; at least one.
[[nodiscard]] std::vector<std::string_view> split_cells(std::string_view line);

/// The rows of a CSV file without quotes, under a header that names its columns; at most two million, so that
/// a hostile file does not exhaust memory. What is wrong is an InputError with file, line, column and reason.
/// `file` and `text` belong to the caller and outlive this.
class CsvRows {
 public:
  /// Reads the header.
  CsvRows(const std::string& file, std::string_view text);

  [[nodiscard]] const std::vector<std::string_view>& header() const { return header_; }
  [[nodiscard]] bool has(std::string_view column) const;
  /// Goes on to the next row; false at the end.
  [[nodiscard]] bool next();

  // Of the row. The column must be in the header.
  [[nodiscard]] int line() const { return line_; }
  [[nodiscard]] std::string_view cell(std::string_view column) const;
  [[nodiscard]] std::string quoted(std::string_view column) const;
  /// From 0 to `most`, and finite.
  [[nodiscard]] double number(std::string_view column,
                              double most = std::numeric_limits<double>::infinity()) const;
  [[nodiscard]] int integer(std::string_view column, int low, int high) const;

  [[noreturn]] void fail(std::string_view column, const std::string& reason) const;

 private:
  const std::string& file_;
  std::string_view rest_;
  std::vector<std::string_view> header_;
  std::vector<std::string_view> cells_;
  int line_ = 1;
};

}  // namespace slackline
