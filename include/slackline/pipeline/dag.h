#pragma once
#include <cstdint>
#include <functional>
#include <span>
#include <string>
#include <vector>

#include "slackline/base/error.h"
#include "slackline/base/ticks.h"
#include "slackline/pipeline/order.h"

namespace slackline {

/// Position of an instruction in Dag::instructions().
using InstructionIndex = std::uint32_t;

/// A neighbour of an instruction, and how long after one has ended the other may start.
struct Dependency {
  InstructionIndex instruction;
  Ticks lag;
};

/// An order that cannot be run, and where: the instruction at `position` of the row of `rank`.
class OrderError : public InputError {
 public:
  OrderError(std::size_t rank, std::size_t position, const std::string& reason)
      : InputError("", 0, "order", reason), rank_(rank), position_(position) {}
  [[nodiscard]] std::size_t rank() const { return rank_; }
  [[nodiscard]] std::size_t position() const { return position_; }

 private:
  std::size_t rank_;
  std::size_t position_;
};

/// The instructions of an iteration and which must end before which may start: along each rank its order; a
/// forward after the same microbatch's forward on the stage before; what makes the gradient of an input
/// (backward, backward-input or forward-backward) after that of the stage behind. Between two ranks the
/// result takes its time to arrive (lag). What depends on an earlier instruction of its own rank needs no
/// edge but the rank's.
class Dag {
 public:
  /// `transfer`: time from the end of an instruction of a stage until its result is on the rank that needs
  /// it; empty: none. OrderError if an instruction is doubled, lacks its counterpart, comes before what it
  /// needs, or if the order can never run (deadlock), in which case the message walks round the cycle.
  explicit Dag(const Order& order, const std::vector<Ticks>& transfer = {});

  [[nodiscard]] std::size_t size() const { return instructions_.size(); }
  [[nodiscard]] int stages() const { return stages_; }
  [[nodiscard]] int microbatches() const { return microbatches_; }
  [[nodiscard]] int ranks() const { return static_cast<int>(rank_begin_.size()) - 1; }
  /// Rank by rank, each in its order of execution.
  [[nodiscard]] const std::vector<Instruction>& instructions() const { return instructions_; }
  /// The first instruction of `rank`; that of ranks() is size().
  [[nodiscard]] InstructionIndex rank_begin(int rank) const {
    return rank_begin_[static_cast<std::size_t>(rank)];
  }

  [[nodiscard]] std::span<const Dependency> successors(InstructionIndex i) const { return successors_.of(i); }
  [[nodiscard]] std::span<const Dependency> predecessors(InstructionIndex i) const {
    return predecessors_.of(i);
  }
  /// Every instruction after all of its predecessors.
  [[nodiscard]] const std::vector<InstructionIndex>& topological_order() const { return topological_order_; }

  /// Graphviz text; `label` says what stands in a node beside its name (say, its clock), and may be empty.
  [[nodiscard]] std::string graphviz(const std::function<std::string(InstructionIndex)>& label = {}) const;

 private:
  struct Adjacency {
    std::vector<std::uint32_t> begin;
    std::vector<Dependency> items;
    [[nodiscard]] std::span<const Dependency> of(InstructionIndex i) const {
      return {items.data() + begin[i], items.data() + begin[i + 1]};
    }
  };

  int stages_ = 0;
  int microbatches_ = 0;
  std::vector<Instruction> instructions_;
  std::vector<InstructionIndex> rank_begin_;
  Adjacency successors_;
  Adjacency predecessors_;
  std::vector<InstructionIndex> topological_order_;
};

}  // namespace slackline
