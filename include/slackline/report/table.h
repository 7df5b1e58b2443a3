#pragma once
#include <string>
#include <vector>

namespace slackline {

/// A table for a terminal: the first column to the left, the others, which are numbers, to the right.
class Table {
 public:
  explicit Table(std::vector<std::string> header);
  /// As many cells as the header has.
  void add_row(std::vector<std::string> cells);
  [[nodiscard]] std::string text() const;

 private:
  std::vector<std::vector<std::string>> rows_;
};

}  // namespace slackline
