#include "slackline/pipeline/order_kinds.h"

#include <map>
#include <utility>

namespace slackline {
namespace {

/// Which rank runs a stage on a microbatch; an order that feeds both ends has two for each stage.
class RankMap {
 public:
  explicit RankMap(const Order& order) {
    for (std::size_t rank = 0; rank < order.size(); ++rank) {
      for (const Instruction& i : order[rank]) {
        const bool is_forward = i.kind == InstructionKind::kForward || i.kind == InstructionKind::kOverlapped;
        if (is_forward) ranks_[{i.stage.value(), i.microbatch.value()}] = rank;
      }
    }
  }
  /// False too at the ends of the pipeline.
  [[nodiscard]] bool crosses(const Instruction& i, int neighbour) const {
    const auto other = ranks_.find({neighbour, i.microbatch.value()});
    const auto own = ranks_.find({i.stage.value(), i.microbatch.value()});
    return other != ranks_.end() && own != ranks_.end() && other->second != own->second;
  }

 private:
  std::map<std::pair<int, int>, std::size_t> ranks_;
};

class RowWriter {
 public:
  RowWriter(const StageKinds& kinds, const RankMap& ranks) : kinds_(kinds), ranks_(ranks) {}

  void write(const Instruction& i) {
    if (i.kind == InstructionKind::kOverlapped) {
      write_pair(i);
    } else {
      add_before(i);
      row_.push_back(i);
      add_after(i);
    }
  }
  void finish() {
    for (const InstructionKind kind : {InstructionKind::kGradientAllReduce, InstructionKind::kOptimizer}) {
      for (const auto& [stage, first] : first_microbatch_) add_if_measured(kind, {kind, stage, first});
    }
  }
  [[nodiscard]] std::vector<Instruction> take() { return std::move(row_); }

 private:
  void write_pair(const Instruction& pair) {
    if (!has(InstructionKind::kOverlapped, pair.stage)) {
      write(forward_part(pair));
      write(backward_part(pair));
      return;
    }
    add_before(forward_part(pair));
    add_before(backward_part(pair));
    row_.push_back(pair);
    add_after(forward_part(pair));
    add_after(backward_part(pair));
  }

  void add_before(const Instruction& i) {
    first_microbatch_.emplace(i.stage, i.microbatch);
    if (i.kind == InstructionKind::kForward) {
      add_if_measured(InstructionKind::kDataLoad, i);
      if (ranks_.crosses(i, i.stage.value() - 1)) add_if_measured(InstructionKind::kReceiveForward, i);
    } else if (makes_gradient(i)) {
      if (ranks_.crosses(i, i.stage.value() + 1)) add_if_measured(InstructionKind::kReceiveBackward, i);
    }
  }
  void add_after(const Instruction& i) {
    if (i.kind == InstructionKind::kForward) {
      if (ranks_.crosses(i, i.stage.value() + 1)) add_if_measured(InstructionKind::kSendForward, i);
    } else if (makes_gradient(i)) {
      if (ranks_.crosses(i, i.stage.value() - 1)) add_if_measured(InstructionKind::kSendBackward, i);
    }
  }

  static bool makes_gradient(const Instruction& i) {
    return i.kind == InstructionKind::kBackward || i.kind == InstructionKind::kBackwardInput ||
           i.kind == InstructionKind::kForwardBackward;
  }
  [[nodiscard]] bool has(InstructionKind kind, StageId stage) const {
    return stage.index() < kinds_.size() && kinds_[stage.index()].contains(kind);
  }
  void add_if_measured(InstructionKind kind, const Instruction& beside) {
    if (has(kind, beside.stage)) row_.push_back({kind, beside.stage, beside.microbatch});
  }

  const StageKinds& kinds_;
  const RankMap& ranks_;
  std::map<StageId, MicrobatchId> first_microbatch_;
  std::vector<Instruction> row_;
};

bool needs_no_change(const Order& order, const StageKinds& kinds) {
  for (const auto& stage : kinds) {
    for (const InstructionKind kind : stage) {
      if (is_fixed_time(kind)) return false;
    }
  }
  for (const auto& row : order) {
    for (const Instruction& i : row) {
      if (i.kind == InstructionKind::kOverlapped) return false;
    }
  }
  return true;
}

}  // namespace

Order with_kinds(const Order& order, const StageKinds& kinds) {
  if (needs_no_change(order, kinds)) return order;
  const RankMap ranks(order);
  Order changed;
  for (const auto& row : order) {
    RowWriter writer(kinds, ranks);
    for (const Instruction& i : row) writer.write(i);
    writer.finish();
    changed.push_back(writer.take());
  }
  return changed;
}

}  // namespace slackline
