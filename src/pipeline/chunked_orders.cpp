#include <algorithm>

#include "order_makers.h"

namespace slackline {
namespace {

/// The turns of a rank: which chunk it runs forward on which microbatch, group by group. Turn k of the
/// backwards is the mirror image.
class Turns {
 public:
  Turns(const OrderSize& size, int rank) : size_(size), rank_(rank) {
    for (int group = 0; group < size.microbatches; group += size.group_size) {
      const int end = std::min(group + size.group_size, size.microbatches);
      for (int chunk = 0; chunk < size.chunks; ++chunk) {
        for (int m = group; m < end; ++m) turns_.push_back({chunk, m});
      }
    }
  }

  [[nodiscard]] int count() const { return static_cast<int>(turns_.size()); }
  [[nodiscard]] int microbatch(int k) const { return turns_[static_cast<std::size_t>(k)].microbatch; }
  [[nodiscard]] int forward_stage(int k) const { return chunk(k) * size_.ranks + rank_; }
  [[nodiscard]] int backward_stage(int k) const {
    return (size_.chunks - 1 - chunk(k)) * size_.ranks + rank_;
  }

 private:
  struct Turn {
    int chunk;
    int microbatch;
  };
  [[nodiscard]] int chunk(int k) const { return turns_[static_cast<std::size_t>(k)].chunk; }

  OrderSize size_;
  int rank_;
  std::vector<Turn> turns_;
};

}  // namespace

std::vector<Instruction> looped_bfs_row(const OrderSize& size, int rank) {
  RankRow row;
  for (int stage = rank; stage < size.stages(); stage += size.ranks) {
    for (int m = 0; m < size.microbatches; ++m) row.forward(stage, m);
  }
  for (int stage = size.stages() - size.ranks + rank; stage >= 0; stage -= size.ranks) {
    for (int m = size.microbatches - 1; m >= 0; --m) row.backward(stage, m);
  }
  return row.take();
}

std::vector<Instruction> interleaved_row(const OrderSize& size, int rank) {
  const Turns turns(size, rank);
  const int warm_up =
      std::min(2 * (size.ranks - 1 - rank) + (size.chunks - 1) * size.group_size, turns.count());
  RankRow row;
  for (int k = 0; k < turns.count() + warm_up; ++k) {
    if (k < turns.count()) row.forward(turns.forward_stage(k), turns.microbatch(k));
    if (k >= warm_up) row.backward(turns.backward_stage(k - warm_up), turns.microbatch(k - warm_up));
  }
  return row.take();
}

std::vector<Instruction> zb_h1_row(const OrderSize& size, int rank) {
  const Turns turns(size, rank);
  const int warm_up = std::min((size.chunks - 1) * size.group_size + size.ranks - 1 - rank, turns.count());
  RankRow row;
  int weights_done = 0;
  const auto next_weight = [&] {
    row.backward_weight(turns.backward_stage(weights_done), turns.microbatch(weights_done));
    ++weights_done;
  };
  for (int k = 0; k < turns.count() + warm_up; ++k) {
    if (k < turns.count()) row.forward(turns.forward_stage(k), turns.microbatch(k));
    if (k < warm_up) continue;
    row.backward_input(turns.backward_stage(k - warm_up), turns.microbatch(k - warm_up));
    if (k - warm_up >= rank) next_weight();
  }
  while (weights_done < turns.count()) next_weight();
  return row.take();
}

}  // namespace slackline
