#pragma once
#include <string>

#include "slackline/pipeline/order.h"

namespace slackline {

// The schedule CSV of torch.distributed.pipelining: a row a rank, no header; a cell is an action such as 2F0
// (stage 2 forward, microbatch 0), 1I3, 1W3 or 0B7, a pair (0F7;7B3)OVERLAP_F_B, or empty (idle).

/// Reads the compute-only and the compute-and-communication form, with LF or CRLF ends. Communication
/// (SEND_F, RECV_F, SEND_B, RECV_B, UNSHARD, RESHARD, REDUCE_GRAD) is checked against the stage's rank and
/// then left out, since what it takes stands in the profile. InputError with file, row and cell for anything
/// after an action, a stage on two ranks, a microbatch that is missing or doubled, or an order that can never
/// run.
[[nodiscard]] OrderSpec parse_order_csv(const std::string& file, const std::string& text);
[[nodiscard]] OrderSpec read_order_csv(const std::string& path);

/// The compute-only form. InputError for what the format has no word for: recompute, forward-backward,
/// fixed-time kinds, a stage on two ranks (DualPipe).
[[nodiscard]] std::string order_csv(const Order& order);

}  // namespace slackline
