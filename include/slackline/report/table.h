#pragma once
#include <cstddef>
#include <set>
#include <string>
#include <vector>

namespace slackline {

/// A table for a terminal: the first column to the left, the others, which are numbers, to the right, but for
/// those that `words` names.
class Table {
 public:
  explicit Table(std::vector<std::string> header, std::set<std::size_t> words = {});
  /// As many cells as the header has.
  void add_row(std::vector<std::string> cells);
  [[nodiscard]] std::string text() const;

 private:
  std::vector<std::vector<std::string>> rows_;
  std::set<std::size_t> words_;
};

}  // namespace slackline
