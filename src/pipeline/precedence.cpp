#include "precedence.h"

#include <algorithm>
#include <array>
#include <tuple>
#include <utility>

namespace slackline {
namespace {

constexpr InstructionIndex kNone = ~InstructionIndex{0};

/// Finds instructions by what they are. An overlapped pair is found as either of its parts.
class Directory {
 public:
  Directory(const OrderLayout& layout, int stages, int microbatches)
      : layout_(layout), stages_(stages), microbatches_(microbatches) {
    for (InstructionIndex i = 0; i < layout.instructions().size(); ++i) {
      const Instruction& instruction = layout.instructions()[i];
      if (instruction.kind == InstructionKind::kOverlapped) {
        enter(i, forward_part(instruction));
        enter(i, backward_part(instruction));
      } else {
        enter(i, instruction);
      }
    }
  }

  /// kNone if there is none.
  [[nodiscard]] InstructionIndex find(InstructionKind kind, int stage, int microbatch) const {
    const auto& indices = by_kind_[static_cast<std::size_t>(kind)];
    return indices.empty() ? kNone : indices[at(stage, microbatch)];
  }
  [[nodiscard]] InstructionIndex forward(int stage, int microbatch) const {
    return find(InstructionKind::kForward, stage, microbatch);
  }
  /// What makes the gradient of the stage's input, whatever its kind.
  [[nodiscard]] InstructionIndex gradient(int stage, int microbatch) const {
    for (const InstructionKind kind :
         {InstructionKind::kBackward, InstructionKind::kBackwardInput, InstructionKind::kForwardBackward}) {
      if (const InstructionIndex found = find(kind, stage, microbatch); found != kNone) return found;
    }
    return kNone;
  }

 private:
  [[nodiscard]] std::size_t at(int stage, int microbatch) const {
    return static_cast<std::size_t>(stage) * static_cast<std::size_t>(microbatches_) +
           static_cast<std::size_t>(microbatch);
  }
  void enter(InstructionIndex i, const Instruction& instruction) {
    auto& indices = by_kind_[static_cast<std::size_t>(instruction.kind)];
    if (indices.empty()) indices.assign(at(stages_, 0), kNone);
    InstructionIndex& index = indices[at(instruction.stage.value(), instruction.microbatch.value())];
    if (index != kNone) layout_.fail(i, short_name(instruction) + " comes twice");
    index = i;
  }

  const OrderLayout& layout_;
  int stages_;
  int microbatches_;
  std::array<std::vector<InstructionIndex>, kInstructionKinds.size()> by_kind_;
};

class PrecedenceFinder {
 public:
  PrecedenceFinder(const OrderLayout& layout, const std::vector<Ticks>& transfer)
      : layout_(layout), transfer_(transfer) {
    for (const Instruction& i : layout.instructions()) {
      found_.stages = std::max({found_.stages, i.stage.value() + 1, i.backward_stage.value() + 1});
      found_.microbatches =
          std::max({found_.microbatches, i.microbatch.value() + 1, i.backward_microbatch.value() + 1});
    }
    // Every stage runs every microbatch forward; anything larger lacks some, and needs no table of its size.
    const std::size_t forwards =
        static_cast<std::size_t>(found_.stages) * static_cast<std::size_t>(found_.microbatches);
    if (forwards > layout.instructions().size()) fail_for_a_missing_forward();
  }

  Precedence run() {
    const Directory directory(layout_, found_.stages, found_.microbatches);
    for (int stage = 0; stage < found_.stages; ++stage) {
      for (int m = 0; m < found_.microbatches; ++m) check_complete(directory, stage, m);
    }
    for (InstructionIndex i = 0; i < layout_.instructions().size(); ++i) {
      if (i > 0 && layout_.same_rank(i - 1, i)) found_.edges.push_back({i - 1, i, 0});
      add_inputs(directory, i);
    }
    keep_longest_lags();
    return std::move(found_);
  }

 private:
  [[noreturn]] void fail_for_a_missing_forward() const {
    std::vector<std::pair<int, int>> forwards;
    for (const Instruction& i : layout_.instructions()) {
      if (i.kind == InstructionKind::kForward || i.kind == InstructionKind::kOverlapped) {
        forwards.emplace_back(i.stage.value(), i.microbatch.value());
      }
    }
    std::sort(forwards.begin(), forwards.end());
    std::pair<int, int> expected{0, 0};
    for (const auto& forward : forwards) {
      if (forward != expected) break;
      if (++expected.second == found_.microbatches) expected = {expected.first + 1, 0};
    }
    fail_missing({InstructionKind::kForward, StageId(expected.first), MicrobatchId(expected.second)});
  }

  /// Points at the last instruction of the stage it should be on.
  [[noreturn]] void fail_missing(const Instruction& missing) const {
    InstructionIndex near = 0;
    for (InstructionIndex i = 0; i < layout_.instructions().size(); ++i) {
      if (layout_.instructions()[i].stage == missing.stage) near = i;
    }
    layout_.fail(near, short_name(missing) + " is missing");
  }

  void check_complete(const Directory& directory, int stage, int m) const {
    const auto named = [&](InstructionKind kind) {
      return Instruction{kind, StageId(stage), MicrobatchId(m)};
    };
    const auto find = [&](InstructionKind kind) { return directory.find(kind, stage, m); };
    if (find(InstructionKind::kForward) == kNone) fail_missing(named(InstructionKind::kForward));
    const InstructionIndex full = find(InstructionKind::kBackward);
    const InstructionIndex combined = find(InstructionKind::kForwardBackward);
    const InstructionIndex input = find(InstructionKind::kBackwardInput);
    const InstructionIndex weight = find(InstructionKind::kBackwardWeight);
    if (full == kNone && combined == kNone && input == kNone) fail_missing(named(InstructionKind::kBackward));
    if (input != kNone && weight == kNone) fail_missing(named(InstructionKind::kBackwardWeight));
    if (weight != kNone && input == kNone) fail_missing(named(InstructionKind::kBackwardInput));
    if ((full != kNone) + (combined != kNone) + (input != kNone) > 1) {
      layout_.fail(
          input != kNone ? input : combined,
          "microbatch " + std::to_string(m) + " runs backward twice on stage " + std::to_string(stage));
    }
  }

  void add_inputs(const Directory& directory, InstructionIndex i) {
    const Instruction& instruction = layout_.instructions()[i];
    const int stage = instruction.stage.value();
    const int m = instruction.microbatch.value();
    switch (instruction.kind) {
      case InstructionKind::kForward:
        return add_inputs_of_forward(directory, i, instruction);
      case InstructionKind::kOverlapped:
        add_inputs_of_forward(directory, i, forward_part(instruction));
        return add_inputs_of_backward(directory, i, backward_part(instruction));
      case InstructionKind::kBackward:
      case InstructionKind::kBackwardInput:
      case InstructionKind::kForwardBackward:
        return add_inputs_of_backward(directory, i, instruction);
      case InstructionKind::kBackwardWeight:
        return add(directory.find(InstructionKind::kBackwardInput, stage, m), i, stage);
      case InstructionKind::kRecompute:
      case InstructionKind::kSendForward:
        return add(directory.forward(stage, m), i, stage);
      case InstructionKind::kSendBackward:
        return add(directory.gradient(stage, m), i, stage);
      case InstructionKind::kReceiveForward:
        return add(forward_result(directory, stage - 1, m), i, stage - 1);
      case InstructionKind::kReceiveBackward:
        return add(backward_result(directory, stage + 1, m), i, stage + 1);
      case InstructionKind::kDataLoad:
      case InstructionKind::kGradientAllReduce:
      case InstructionKind::kOptimizer:
        return;
    }
  }

  void add_inputs_of_forward(const Directory& directory, InstructionIndex i, const Instruction& forward) {
    const int stage = forward.stage.value();
    const int m = forward.microbatch.value();
    add(directory.find(InstructionKind::kDataLoad, stage, m), i, stage);
    if (stage == 0) return;
    const InstructionIndex received = directory.find(InstructionKind::kReceiveForward, stage, m);
    add(received != kNone ? received : forward_result(directory, stage - 1, m), i, stage - 1);
  }

  void add_inputs_of_backward(const Directory& directory, InstructionIndex i, const Instruction& backward) {
    const int stage = backward.stage.value();
    const int m = backward.microbatch.value();
    const InstructionIndex own = directory.forward(stage, m);
    if (!layout_.same_rank(own, i)) {
      layout_.fail(i, short_name(backward) + " is on another rank than its forward");
    }
    add(own, i, stage);
    add(directory.find(InstructionKind::kRecompute, stage, m), i, stage);
    if (stage + 1 == found_.stages) return;
    const InstructionIndex received = directory.find(InstructionKind::kReceiveBackward, stage, m);
    add(received != kNone ? received : backward_result(directory, stage + 1, m), i, stage + 1);
  }

  static InstructionIndex forward_result(const Directory& directory, int stage, int m) {
    const InstructionIndex sent = directory.find(InstructionKind::kSendForward, stage, m);
    return sent != kNone ? sent : directory.forward(stage, m);
  }
  static InstructionIndex backward_result(const Directory& directory, int stage, int m) {
    const InstructionIndex sent = directory.find(InstructionKind::kSendBackward, stage, m);
    return sent != kNone ? sent : directory.gradient(stage, m);
  }

  /// Of two overlapped pairs one can need both results of the other.
  void keep_longest_lags() {
    auto& edges = found_.edges;
    std::sort(edges.begin(), edges.end(), [](const PrecedenceEdge& a, const PrecedenceEdge& b) {
      return std::tie(a.tail, a.head, b.lag) < std::tie(b.tail, b.head, a.lag);
    });
    const auto same_ends = [](const PrecedenceEdge& a, const PrecedenceEdge& b) {
      return a.tail == b.tail && a.head == b.head;
    };
    edges.erase(std::unique(edges.begin(), edges.end(), same_ends), edges.end());
  }

  /// `i` needs the result of `input`, which comes from `stage`.
  void add(InstructionIndex input, InstructionIndex i, int stage) {
    if (input == kNone) return;
    if (!layout_.same_rank(input, i)) {
      found_.edges.push_back({input, i, transfer_.empty() ? 0 : transfer_[static_cast<std::size_t>(stage)]});
    } else if (input >= i) {
      layout_.fail(i, "the order can never run: " + short_name(layout_.instructions()[i]) + " comes before " +
                          short_name(layout_.instructions()[input]) + ", which it needs, on the same rank");
    }
  }

  const OrderLayout& layout_;
  const std::vector<Ticks>& transfer_;
  Precedence found_;
};

}  // namespace

OrderLayout::OrderLayout(const Order& order) {
  rank_begin_.push_back(0);
  for (std::uint32_t rank = 0; rank < order.size(); ++rank) {
    instructions_.insert(instructions_.end(), order[rank].begin(), order[rank].end());
    rank_of_.resize(instructions_.size(), rank);
    rank_begin_.push_back(static_cast<InstructionIndex>(instructions_.size()));
  }
}

void OrderLayout::fail(InstructionIndex i, const std::string& reason) const {
  const std::size_t rank = i < rank_of_.size() ? rank_of_[i] : 0;
  throw OrderError(rank, i - rank_begin_[rank], reason);
}

Precedence precedence(const OrderLayout& layout, const std::vector<Ticks>& transfer) {
  return PrecedenceFinder(layout, transfer).run();
}

}  // namespace slackline
