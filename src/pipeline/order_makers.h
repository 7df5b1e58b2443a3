#pragma once
#include "slackline/pipeline/order.h"

namespace slackline {

/// Legal numbers to make an order of.
struct OrderSize {
  int ranks = 1;
  int chunks = 1;
  int microbatches = 1;
  int group_size = 1;

  [[nodiscard]] int stages() const { return ranks * chunks; }
};

/// The row of a rank while it is being written.
class RankRow {
 public:
  void add(InstructionKind kind, int stage, int microbatch) {
    row_.push_back({kind, StageId(stage), MicrobatchId(microbatch)});
  }
  void forward(int stage, int microbatch) { add(InstructionKind::kForward, stage, microbatch); }
  void backward(int stage, int microbatch) { add(InstructionKind::kBackward, stage, microbatch); }
  void backward_input(int stage, int microbatch) { add(InstructionKind::kBackwardInput, stage, microbatch); }
  void backward_weight(int stage, int microbatch) {
    add(InstructionKind::kBackwardWeight, stage, microbatch);
  }
  void overlapped(int stage, int microbatch, int backward_stage, int backward_microbatch) {
    row_.push_back({InstructionKind::kOverlapped, StageId(stage), MicrobatchId(microbatch),
                    StageId(backward_stage), MicrobatchId(backward_microbatch)});
  }

  [[nodiscard]] std::vector<Instruction> take() { return std::move(row_); }

 private:
  std::vector<Instruction> row_;
};

// Row of rank `rank`; see make_order for what each order is.
[[nodiscard]] std::vector<Instruction> gpipe_row(const OrderSize& size, int rank);
[[nodiscard]] std::vector<Instruction> one_f_one_b_row(const OrderSize& size, int rank);
[[nodiscard]] std::vector<Instruction> early_recompute_row(const OrderSize& size, int rank);
[[nodiscard]] std::vector<Instruction> looped_bfs_row(const OrderSize& size, int rank);
[[nodiscard]] std::vector<Instruction> interleaved_row(const OrderSize& size, int rank);
[[nodiscard]] std::vector<Instruction> zb_h1_row(const OrderSize& size, int rank);
[[nodiscard]] std::vector<Instruction> zbv_row(const OrderSize& size, int rank);
[[nodiscard]] std::vector<Instruction> dualpipev_row(const OrderSize& size, int rank);
[[nodiscard]] std::vector<Instruction> dualpipe_row(const OrderSize& size, int rank);

}  // namespace slackline
