#pragma once
#include <vector>

#include "slackline/pipeline/dag.h"

namespace slackline {

/// `head` may start `lag` after `tail` has ended.
struct PrecedenceEdge {
  InstructionIndex tail;
  InstructionIndex head;
  Ticks lag;
};

/// The instructions of an order, rank by rank, and where each is.
class OrderLayout {
 public:
  explicit OrderLayout(const Order& order);

  [[nodiscard]] const std::vector<Instruction>& instructions() const { return instructions_; }
  [[nodiscard]] const std::vector<InstructionIndex>& rank_begin() const { return rank_begin_; }
  [[nodiscard]] std::size_t rank_of(InstructionIndex i) const { return rank_of_[i]; }
  [[nodiscard]] bool same_rank(InstructionIndex a, InstructionIndex b) const {
    return rank_of_[a] == rank_of_[b];
  }
  /// OrderError at instruction `i`.
  [[noreturn]] void fail(InstructionIndex i, const std::string& reason) const;

 private:
  std::vector<Instruction> instructions_;
  std::vector<InstructionIndex> rank_begin_;
  std::vector<std::uint32_t> rank_of_;
};

struct Precedence {
  int stages = 0;
  int microbatches = 0;
  std::vector<PrecedenceEdge> edges;  // by tail, then head; none twice
};

/// Who must wait for whom, by the rules of a pipeline. OrderError for an instruction that is doubled, lacks
/// its counterpart or stands before what it needs on its own rank.
[[nodiscard]] Precedence precedence(const OrderLayout& layout, const std::vector<Ticks>& transfer);

}  // namespace slackline
