#pragma once
#include <cstdint>
#include <functional>
#include <span>
#include <string>
#include <vector>

#include "slackline/base/ticks.h"
#include "slackline/pipeline/order.h"

namespace slackline {

/// Position of an instruction in Dag::instructions().
using InstructionIndex = std::uint32_t;

/// The instructions of an iteration and which must end before which may start: along each stage its order; a
/// forward after the same microbatch's forward on the stage before; a backward after its backward on the
/// stage behind, and on the last stage after its own forward.
class Dag {
 public:
  /// InputError if an instruction is doubled or lacks its counterpart, or if the order can never run
  /// (deadlock), in which case the message walks round the cycle.
  explicit Dag(const Order& order);

  [[nodiscard]] std::size_t size() const { return instructions_.size(); }
  [[nodiscard]] int stages() const { return static_cast<int>(stage_begin_.size()) - 1; }
  /// Stage by stage, each in its order of execution.
  [[nodiscard]] const std::vector<Instruction>& instructions() const { return instructions_; }
  /// The first instruction of `stage`; that of stages() is size().
  [[nodiscard]] InstructionIndex stage_begin(int stage) const {
    return stage_begin_[static_cast<std::size_t>(stage)];
  }

  [[nodiscard]] std::span<const InstructionIndex> successors(InstructionIndex i) const;
  [[nodiscard]] std::span<const InstructionIndex> predecessors(InstructionIndex i) const;
  /// Every instruction after all of its predecessors.
  [[nodiscard]] const std::vector<InstructionIndex>& topological_order() const { return topological_order_; }

  /// Graphviz text; `label` says what stands in a node beside its name (say, its clock), and may be empty.
  [[nodiscard]] std::string graphviz(const std::function<std::string(InstructionIndex)>& label = {}) const;

 private:
  struct Adjacency {
    std::vector<std::uint32_t> begin;
    std::vector<InstructionIndex> items;
  };

  std::vector<Instruction> instructions_;
  std::vector<InstructionIndex> stage_begin_;
  Adjacency successors_;
  Adjacency predecessors_;
  std::vector<InstructionIndex> topological_order_;
};

/// "F3@1": forward of microbatch 3 on stage 1.
[[nodiscard]] std::string short_name(const Instruction& instruction);

}  // namespace slackline
