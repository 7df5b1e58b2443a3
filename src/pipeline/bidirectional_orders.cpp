#include <algorithm>
#include <array>
#include <deque>

#include "order_makers.h"

namespace slackline {
namespace {

/// A rank that serves two streams of microbatches, 0 and 1, each on a stage of its own and each in sequence.
/// Weight gradients that are put off run in the order in which they were.
class TwoStreams {
 public:
  struct Stream {
    int stage;
    int first_microbatch;
    int microbatches;
    int forwards = 0;
    int backwards = 0;
  };

  TwoStreams(Stream zero, Stream one) : streams_{zero, one} {}

  void forward(int stream) { row_.forward(streams_[at(stream)].stage, next_forward(stream)); }
  void backward(int stream) { row_.backward(streams_[at(stream)].stage, next_backward(stream)); }
  /// Only the input's gradient; the weights' is put off.
  void backward_input(int stream) {
    const int stage = streams_[at(stream)].stage;
    const int microbatch = next_backward(stream);
    row_.backward_input(stage, microbatch);
    put_off_.push_back({stage, microbatch});
  }
  /// The weight gradient that has waited longest, if there is one.
  void backward_weight() {
    if (put_off_.empty()) return;
    row_.backward_weight(put_off_.front().stage, put_off_.front().microbatch);
    put_off_.pop_front();
  }
  /// A forward of one stream beside a backward of the other.
  void overlapped(int forward_stream, int backward_stream) {
    const int microbatch = next_forward(forward_stream);
    row_.overlapped(streams_[at(forward_stream)].stage, microbatch, streams_[at(backward_stream)].stage,
                    next_backward(backward_stream));
  }

  [[nodiscard]] std::vector<Instruction> take() { return row_.take(); }

 private:
  struct PutOff {
    int stage;
    int microbatch;
  };
  static std::size_t at(int stream) { return static_cast<std::size_t>(stream); }
  int next_forward(int stream) {
    return streams_[at(stream)].first_microbatch + streams_[at(stream)].forwards++;
  }
  int next_backward(int stream) {
    return streams_[at(stream)].first_microbatch + streams_[at(stream)].backwards++;
  }

  std::array<Stream, 2> streams_;
  std::deque<PutOff> put_off_;
  RankRow row_;
};

/// DeepSeek's eight steps, which DualPipe and DualPipeV share. `depth`: ranks from the ends to the turning
/// point; `position`: of this rank among them, 0 at the end; `steady`: rounds of the main step.
std::vector<Instruction> dual_pipe_row(TwoStreams rank, int depth, int position, int steady) {
  const int inner = depth - position - 1;
  for (int i = 0; i < 2 * inner; ++i) rank.forward(0);
  for (int i = 0; i <= position; ++i) {
    rank.forward(0);
    rank.forward(1);
  }
  for (int i = 0; i < inner; ++i) {
    rank.backward_input(1);
    rank.backward_weight();
    rank.forward(1);
  }
  for (int i = 0; i < steady; ++i) {
    // At the turning point the first backward needs the forward that it would overlap with.
    if (i == 0 && inner == 0) {
      rank.forward(0);
      rank.backward(1);
    } else {
      rank.overlapped(0, 1);
    }
    rank.overlapped(1, 0);
  }
  for (int i = 0; i < inner; ++i) {
    rank.backward(1);
    rank.overlapped(1, 0);
  }
  // From half way on, only input gradients, so that the other ranks get theirs sooner.
  const int drain = position + 1;
  bool split = false;
  const auto backward = [&](int stream) { split ? rank.backward_input(stream) : rank.backward(stream); };
  for (int i = 0; i < drain; ++i) {
    if (i == drain / 2 && position % 2 == 1) split = true;
    backward(1);
    if (i == drain / 2 && position % 2 == 0) split = true;
    backward(0);
  }
  for (int i = 0; i < inner; ++i) {
    rank.backward_weight();
    rank.backward_input(0);
  }
  for (int i = 0; i < drain; ++i) rank.backward_weight();
  return rank.take();
}

}  // namespace

std::vector<Instruction> zbv_row(const OrderSize& size, int rank) {
  // Made for at least 2P-1 microbatches; those that do not exist are left out afterwards.
  const int count = std::max(2 * size.ranks - 1, size.microbatches);
  const int down = rank;
  const int up = 2 * size.ranks - 1 - rank;
  const int inner = size.ranks - rank;
  RankRow row;
  int forwards_down = 0;
  int forwards_up = 0;
  int inputs_down = 0;
  int inputs_up = 0;
  int weights_down = 0;
  int weights_up = 0;
  const auto turn_up = [&] {
    row.forward(up, forwards_up++);
    row.backward_input(up, inputs_up++);
    row.backward_weight(up, weights_up++);
  };
  while (forwards_down < 2 * inner - 1) row.forward(down, forwards_down++);
  for (int i = 0; i < rank; ++i) {
    row.forward(up, forwards_up++);
    row.forward(down, forwards_down++);
  }
  for (int i = 0; i < inner; ++i) turn_up();
  while (forwards_up < forwards_down || forwards_down < count) {
    if (forwards_down < count) row.forward(down, forwards_down++);
    row.backward_input(down, inputs_down++);
    row.backward_weight(down, weights_down++);
    turn_up();
  }
  for (int i = 0; i < rank; ++i) {
    row.backward_input(down, inputs_down++);
    row.backward_input(up, inputs_up++);
  }
  for (int i = 0; i < inner; ++i) {
    row.backward_input(down, inputs_down++);
    row.backward_weight(down, weights_down++);
  }
  while (weights_up < inputs_up) row.backward_weight(up, weights_up++);
  while (weights_down < inputs_down) row.backward_weight(down, weights_down++);
  std::vector<Instruction> instructions = row.take();
  std::erase_if(instructions,
                [&](const Instruction& i) { return i.microbatch.value() >= size.microbatches; });
  return instructions;
}

std::vector<Instruction> dualpipev_row(const OrderSize& size, int rank) {
  const TwoStreams streams({rank, 0, size.microbatches}, {2 * size.ranks - 1 - rank, 0, size.microbatches});
  return dual_pipe_row(streams, size.ranks, rank, size.microbatches - 2 * size.ranks + rank + 1);
}

std::vector<Instruction> dualpipe_row(const OrderSize& size, int rank) {
  const int half = size.microbatches / 2;
  const int mirror = size.ranks - 1 - rank;
  TwoStreams::Stream forth{rank, 0, half};
  TwoStreams::Stream back{mirror, half, half};
  // The stream that enters the pipeline at this rank's own end comes first.
  if (rank >= size.ranks / 2) std::swap(forth, back);
  const int position = std::min(rank, mirror);
  return dual_pipe_row({forth, back}, size.ranks / 2, position, half - size.ranks + position + 1);
}

}  // namespace slackline
