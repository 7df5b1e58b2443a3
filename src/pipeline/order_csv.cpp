#include "slackline/pipeline/order_csv.h"

#include <array>
#include <charconv>
#include <map>
#include <optional>
#include <string_view>
#include <vector>

#include "../base/csv_rows.h"
#include "slackline/base/error.h"
#include "slackline/base/file.h"
#include "slackline/pipeline/dag.h"

namespace slackline {
namespace {

constexpr int kMaxNumber = 1'000'000;
constexpr std::string_view kOverlapSuffix = "OVERLAP_F_B";
constexpr std::array<std::string_view, 7> kCommunication{"SEND_F",  "RECV_F",  "SEND_B",     "RECV_B",
                                                         "UNSHARD", "RESHARD", "REDUCE_GRAD"};

std::optional<InstructionKind> kind_of_word(std::string_view word) {
  if (word == "F") return InstructionKind::kForward;
  if (word == "B") return InstructionKind::kBackward;
  if (word == "I") return InstructionKind::kBackwardInput;
  if (word == "W") return InstructionKind::kBackwardWeight;
  return std::nullopt;
}

/// Stage, word and microbatch of an action: digits, capitals, digits.
struct Action {
  int stage = 0;
  std::string_view word;
  std::optional<int> microbatch;
};

/// Nothing if the whole text is not one action.
std::optional<Action> parse_action(std::string_view text) {
  const auto take_number = [&]() -> std::optional<int> {
    int number = 0;
    const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), number);
    if (error != std::errc() || number < 0 || number > kMaxNumber || text.front() == '-') return std::nullopt;
    text.remove_prefix(static_cast<std::size_t>(end - text.data()));
    return number;
  };
  Action action;
  const std::optional<int> stage = text.empty() ? std::nullopt : take_number();
  if (!stage) return std::nullopt;
  action.stage = *stage;
  const std::size_t word_end = std::min(text.find_first_of("0123456789"), text.size());
  action.word = text.substr(0, word_end);
  text.remove_prefix(word_end);
  if (!text.empty()) {
    action.microbatch = take_number();
    if (!action.microbatch || !text.empty()) return std::nullopt;
  }
  return action;
}

/// Where a cell is, for messages.
struct Cell {
  int line = 0;
  int number = 0;
};

class OrderReader {
 public:
  OrderReader(const std::string& file, std::string_view text) : file_(file), rest_(text) {}

  OrderSpec run() {
    while (!rest_.empty()) read_row(take_line(rest_));
    if (order_.empty()) throw InputError(file_, 0, "", "the file is empty");
    check_communication();
    OrderSpec spec{"csv", 0, 0, 0, order_};
    try {
      spec.microbatches = Dag(order_).microbatches();
    } catch (const OrderError& error) {
      fail(cells_[error.rank()].empty()
               ? Cell{static_cast<int>(error.rank()) + 1, 0}
               : cells_[error.rank()][std::min(error.position(), cells_[error.rank()].size() - 1)],
           error.reason());
    }
    return spec;
  }

 private:
  [[noreturn]] void fail(const Cell& cell, const std::string& reason) const {
    throw InputError(file_, cell.line, cell.number > 0 ? "cell " + std::to_string(cell.number) : "", reason);
  }

  void read_row(std::string_view line) {
    order_.emplace_back();
    cells_.emplace_back();
    Cell cell{static_cast<int>(order_.size()), 0};
    for (const std::string_view text : split_cells(line)) {
      ++cell.number;
      read_cell(text, cell);
    }
    if (order_.back().empty()) fail({cell.line, 0}, "the rank has nothing to run");
  }

  void read_cell(std::string_view text, const Cell& cell) {
    // csv writers may quote any cell; none of ours needs it.
    if (text.size() >= 2 && text.front() == '"' && text.back() == '"') text = text.substr(1, text.size() - 2);
    if (text.empty()) return;
    if (text.front() == '(') return read_overlap(text, cell);
    const std::optional<Action> action = parse_action(text);
    if (!action) fail(cell, "'" + std::string(text) + "' is not an action");
    if (const auto kind = kind_of_word(action->word)) return add(instruction_of(*action, *kind, cell), cell);
    for (const std::string_view word : kCommunication) {
      if (action->word == word) return communication_.push_back({*action, order_.size() - 1, cell});
    }
    fail(cell, "'" + std::string(action->word) + "' in '" + std::string(text) + "' is not a known action");
  }

  void read_overlap(std::string_view text, const Cell& cell) {
    const std::size_t semicolon = text.find(';');
    const std::size_t close = text.find(')');
    if (semicolon == std::string_view::npos || close == std::string_view::npos || semicolon > close ||
        text.substr(close + 1) != kOverlapSuffix) {
      fail(cell, "'" + std::string(text) + "' is not of the form (0F7;7B3)OVERLAP_F_B");
    }
    const auto part = [&](std::size_t begin, std::size_t end, InstructionKind expected) {
      const std::optional<Action> action = parse_action(text.substr(begin, end - begin));
      if (!action || kind_of_word(action->word) != expected) {
        fail(cell, "'" + std::string(text) + "' does not overlap a forward (F) with a backward (B)");
      }
      return instruction_of(*action, expected, cell);
    };
    const Instruction forward = part(1, semicolon, InstructionKind::kForward);
    const Instruction backward = part(semicolon + 1, close, InstructionKind::kBackward);
    claim(backward.stage, cell);
    add({InstructionKind::kOverlapped, forward.stage, forward.microbatch, backward.stage,
         backward.microbatch},
        cell);
  }

  Instruction instruction_of(const Action& action, InstructionKind kind, const Cell& cell) const {
    if (!action.microbatch) fail(cell, "the action lacks a microbatch");
    return {kind, StageId(action.stage), MicrobatchId(*action.microbatch)};
  }

  void add(const Instruction& instruction, const Cell& cell) {
    claim(instruction.stage, cell);
    order_.back().push_back(instruction);
    cells_.back().push_back(cell);
    if (++count_ > kMaxInstructions) {
      fail(cell, "more than the " + std::to_string(kMaxInstructions) + " instructions that can be planned");
    }
  }

  void claim(StageId stage, const Cell& cell) {
    const auto [entry, is_new] = rank_of_.emplace(stage, order_.size() - 1);
    if (entry->second != order_.size() - 1) {
      fail(cell, "stage " + std::to_string(stage.value()) + " is on row " +
                     std::to_string(entry->second + 1) + " already; a stage lives on one rank");
    }
  }

  void check_communication() const {
    for (const Communication& one : communication_) {
      const auto found = rank_of_.find(StageId(one.action.stage));
      if (found == rank_of_.end() || found->second != one.rank) {
        fail(one.cell, "stage " + std::to_string(one.action.stage) + " computes nothing on this rank");
      }
      const bool moves_data = one.action.word.starts_with("SEND") || one.action.word.starts_with("RECV");
      if (moves_data != one.action.microbatch.has_value()) {
        fail(one.cell,
             std::string(one.action.word) + (moves_data ? " lacks a microbatch" : " takes no microbatch"));
      }
    }
  }

  struct Communication {
    Action action;
    std::size_t rank;
    Cell cell;
  };

  const std::string& file_;
  std::string_view rest_;
  Order order_;
  std::vector<std::vector<Cell>> cells_;
  std::map<StageId, std::size_t> rank_of_;
  std::vector<Communication> communication_;
  std::int64_t count_ = 0;
};

std::string action_text(const Instruction& i, char letter) {
  return std::to_string(i.stage.value()) + letter + std::to_string(i.microbatch.value());
}

std::string cell_text(const Instruction& i) {
  switch (i.kind) {
    case InstructionKind::kForward:
      return action_text(i, 'F');
    case InstructionKind::kBackward:
      return action_text(i, 'B');
    case InstructionKind::kBackwardInput:
      return action_text(i, 'I');
    case InstructionKind::kBackwardWeight:
      return action_text(i, 'W');
    case InstructionKind::kOverlapped:
      return "(" + cell_text(forward_part(i)) + ";" + cell_text(backward_part(i)) + ")" +
             std::string(kOverlapSuffix);
    default:
      throw InputError("", 0, "--csv",
                       "torch's format has no word for '" + std::string(name_of(i.kind)) + "'");
  }
}

}  // namespace

OrderSpec parse_order_csv(const std::string& file, const std::string& text) {
  if (text.empty()) throw InputError(file, 0, "", "the file is empty");
  if (text.starts_with("\xEF\xBB\xBF")) {
    throw InputError(file, 1, "", "the file begins with a byte order mark; save it as plain UTF-8");
  }
  return OrderReader(file, text).run();
}

OrderSpec read_order_csv(const std::string& path) {
  return parse_order_csv(path, read_file(path));
}

std::string order_csv(const Order& order) {
  std::map<StageId, std::size_t> rank_of;
  std::string text;
  for (std::size_t rank = 0; rank < order.size(); ++rank) {
    std::string row;
    for (const Instruction& i : order[rank]) {
      if (rank_of.emplace(i.stage, rank).first->second != rank) {
        throw InputError("", 0, "--csv",
                         "torch's format has a stage on one rank only; here stage " +
                             std::to_string(i.stage.value()) + " is on two");
      }
      row += (row.empty() ? "" : ",") + cell_text(i);
    }
    text += row + "\n";
  }
  return text;
}

}  // namespace slackline
