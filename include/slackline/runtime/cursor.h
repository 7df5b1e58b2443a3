#pragma once
#include <optional>
#include <span>
#include <string>

#include "slackline/runtime/job_memory.h"

namespace slackline {

/// Where a step stands in what its rank runs by the schedule. Checks that the job runs that, in that order.
class Cursor {
 public:
  explicit Cursor(std::span<const OrderEntry> order) : order_(order) {}

  [[nodiscard]] std::size_t length() const { return order_.size(); }
  void begin_step() { next_ = 0; }
  /// Whether the instruction is the one that comes next. A stage or microbatch of -1 is not checked.
  [[nodiscard]] bool fits(const OrderEntry& run) const {
    if (next_ >= order_.size()) return false;
    const OrderEntry& planned = order_[next_];
    return planned.kind == run.kind && (run.microbatch < 0 || planned.microbatch == run.microbatch) &&
           (run.stage < 0 || planned.stage == run.stage);
  }
  /// Why it is not.
  [[nodiscard]] std::string mismatch(const OrderEntry& run) const;
  /// Why the step may not end here; empty if it may.
  [[nodiscard]] std::string leftover() const;
  void advance() { ++next_; }
  /// Place of the next instruction in the order; nothing at the end of the step.
  [[nodiscard]] std::optional<std::size_t> next() const {
    return next_ < order_.size() ? std::optional(next_) : std::nullopt;
  }

 private:
  std::span<const OrderEntry> order_;
  std::size_t next_ = 0;
};

}  // namespace slackline
