#pragma once
#include <cstdint>
#include <mutex>
#include <optional>
#include <vector>

#include "slackline/base/instruction_kind.h"
#include "slackline/base/quantity.h"

namespace slackline {

/// What the stages of a job are doing right now, fed from one thread and read from another.
class InstructionLog {
 public:
  /// A stage that runs one instruction over and over.
  struct Repetition {
    InstructionKind kind = InstructionKind::kForward;
    Seconds since;
    /// When each completed run ended.
    std::vector<Seconds> ends;
  };

  explicit InstructionLog(int stages) : stages_(static_cast<std::size_t>(stages)) {}

  void begin(int stage, InstructionKind kind, Seconds time);
  /// One run ended and the next began.
  void again(int stage, Seconds time);
  void end(int stage, Seconds time);

  /// The stage has begun an instruction at some time.
  [[nodiscard]] bool heard_of(int stage) const;
  [[nodiscard]] std::optional<Repetition> repetition(int stage) const;
  /// Since when the stage has run nothing; nothing if it runs or has not been heard of.
  [[nodiscard]] std::optional<Seconds> waiting_since(int stage) const;

 private:
  struct Stage {
    bool running = false;
    bool seen = false;
    Seconds since;
    Repetition current;
  };

  mutable std::mutex mutex_;
  std::vector<Stage> stages_;
};

}  // namespace slackline
