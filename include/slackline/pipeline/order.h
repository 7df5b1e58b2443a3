#pragma once
#include <string>
#include <string_view>
#include <vector>

#include "slackline/pipeline/instruction.h"

namespace slackline {

/// Who runs what when: for each rank its instructions in the order of execution. A rank is the GPUs that work
/// in lockstep; it holds one stage of the model, or several (its chunks). (The field calls this a pipeline
/// schedule; in Slackline "schedule" always means clocks.)
using Order = std::vector<std::vector<Instruction>>;

/// Largest iteration that is planned, in instructions.
inline constexpr std::int64_t kMaxInstructions = 2'000'000;

/// What an order is made from.
struct OrderSpec {
  std::string name = "1f1b";
  std::int64_t microbatches = 0;
  /// Stages a rank holds; nothing: the order's own default.
  int chunks = 0;
  /// Megatron's microbatch group size, for the orders that interleave; 0: as many as there are ranks.
  int group_size = 0;
  /// Of "csv" only: the order itself.
  Order rows{};

  bool operator==(const OrderSpec&) const = default;
};

/// Names that make_order knows, without "csv".
[[nodiscard]] const std::vector<std::string>& order_names();

/// Chunks that the order runs with where the user has not said.
[[nodiscard]] int default_chunks(std::string_view name);

/// The order of a pipeline of `stages` stages in all. InputError, naming the flag, for an unknown name, for
/// numbers that the order cannot be run with, or for more than kMaxInstructions. P ranks, V chunks, M
/// microbatches; stage s is chunk s / P of rank s mod P unless said otherwise.
///
/// "gpipe": all forwards, then all backwards, in the order of the microbatches (torch ScheduleGPipe).
/// "1f1b": PipeDream-flush; rank r warms up with min(P-1-r, M) forwards (Megatron-LM, torch, DeepSpeed).
/// "early-recompute-1f1b": 1F1B whose activations are recomputed; while it drains, already before the
///     gradient arrives (Merak PreRecomputeTrainSchedule).
/// "looped-bfs": chunk by chunk all microbatches; backward both reversed (torch ScheduleLoopedBFS).
/// "interleaved-1f1b": virtual stages, with Megatron-LM's microbatch groups (core/pipeline_parallel).
/// "zb-h1": zero bubble at the memory of 1F1B, weight gradients late by r (torch InterleavedZeroBubble,
/// ZB1P). "zbv": two chunks a rank, laid out as a V: stages r and 2P-1-r (torch ScheduleZBVZeroBubble).
/// "dualpipev": the V with overlapped forwards and backwards; M >= 2P (DeepSeek DualPipeV).
/// "dualpipe": microbatches from both ends: rank r holds stages r and P-1-r, every stage twice; M and P even,
///     M >= 2P (DeepSeek DualPipe). Microbatches M/2 to M-1 run the other way round.
[[nodiscard]] Order make_order(const OrderSpec& spec, int stages);

/// Stages that an order runs.
[[nodiscard]] int stage_count(const Order& order);

}  // namespace slackline
