#include <algorithm>

#include "order_makers.h"

namespace slackline {

std::vector<Instruction> gpipe_row(const OrderSize& size, int rank) {
  RankRow row;
  for (int m = 0; m < size.microbatches; ++m) row.forward(rank, m);
  for (int m = 0; m < size.microbatches; ++m) row.backward(rank, m);
  return row.take();
}

std::vector<Instruction> one_f_one_b_row(const OrderSize& size, int rank) {
  const int warm_up = std::min(size.ranks - 1 - rank, size.microbatches);
  RankRow row;
  for (int m = 0; m < warm_up; ++m) row.forward(rank, m);
  for (int m = warm_up; m < size.microbatches; ++m) {
    row.forward(rank, m);
    row.backward(rank, m - warm_up);
  }
  for (int m = size.microbatches - warm_up; m < size.microbatches; ++m) row.backward(rank, m);
  return row.take();
}

std::vector<Instruction> early_recompute_row(const OrderSize& size, int rank) {
  const int first_of_drain = size.microbatches - size.ranks + rank + 1;
  RankRow row;
  for (const Instruction& i : one_f_one_b_row(size, rank)) {
    const int m = i.microbatch.value();
    if (i.kind == InstructionKind::kForward) {
      row.forward(rank, m);
    } else if (m < first_of_drain) {
      row.add(InstructionKind::kForwardBackward, rank, m);
    } else {
      row.add(InstructionKind::kRecompute, rank, m);
      row.backward(rank, m);
    }
  }
  return row.take();
}

}  // namespace slackline
