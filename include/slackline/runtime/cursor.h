#pragma once
#include <optional>
#include <span>
#include <string>

#include "slackline/runtime/job_memory.h"

namespace slackline {

/// Where a step stands in its stage's part of the plan. Checks that the job runs what the plan lists, in its
/// order.
class Cursor {
 public:
  explicit Cursor(std::span<const PlanEntry> plan) : plan_(plan) {}

  [[nodiscard]] std::size_t length() const { return plan_.size(); }
  void begin_step() { next_ = 0; }
  /// Whether the instruction is the one that the plan has next. A microbatch of -1 is not checked.
  [[nodiscard]] bool fits(std::int32_t kind, std::int32_t microbatch) const {
    if (next_ >= plan_.size()) return false;
    const PlanEntry& planned = plan_[next_];
    return planned.kind == kind && (microbatch < 0 || planned.microbatch == microbatch);
  }
  /// Why it is not.
  [[nodiscard]] std::string mismatch(std::int32_t kind, std::int32_t microbatch) const;
  /// Why the step may not end here; empty if it may.
  [[nodiscard]] std::string leftover() const;
  void advance() { ++next_; }
  /// Place of the next instruction in the plan; nothing at the end of the step.
  [[nodiscard]] std::optional<std::size_t> next() const {
    return next_ < plan_.size() ? std::optional(next_) : std::nullopt;
  }

 private:
  std::span<const PlanEntry> plan_;
  std::size_t next_ = 0;
};

}  // namespace slackline
