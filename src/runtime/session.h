#pragma once
#include <memory>
#include <optional>
#include <string>

#include "slackline/base/descriptor.h"
#include "slackline/device/sim_world.h"
#include "slackline/runtime/cursor.h"
#include "slackline/runtime/lease_memory.h"
#include "slackline/runtime/mapping.h"

namespace slackline {

/// The client's side of a lease, behind slackline.h. Without an agent every call does nothing.
class Session {
 public:
  /// Never throws for the agent's absence. Throws DeviceError if the agent refuses.
  void open(int stage, int stages);

  /// Each returns why the job no longer fits the schedule, or nothing.
  [[nodiscard]] std::string step_begin();
  [[nodiscard]] std::string step_end();
  [[nodiscard]] std::string instruction_begin(InstructionKind kind, int microbatch);
  void instruction_end();
  [[nodiscard]] bool instruction_again();

  [[nodiscard]] SimWorld* world() { return world_.get(); }
  [[nodiscard]] SimWorld::Participant* participant() { return participant_ ? &*participant_ : nullptr; }

  std::string message;

 private:
  [[nodiscard]] LeaseMemory* memory() { return static_cast<LeaseMemory*>(mapping_.get()); }
  void record(LeaseEventType type, int kind = 0);
  void post(std::int32_t clock_mhz);
  /// Without a schedule the job is being profiled, and every event is reported at once.
  void report();
  [[nodiscard]] std::string stop_following(std::string reason);
  [[nodiscard]] std::int64_t now_ns();

  Descriptor socket_;
  Descriptor doorbell_;
  Mapping mapping_;
  std::optional<Cursor> cursor_;
  int baseline_steps_ = 0;
  int steps_ = 0;
  bool following_ = false;
  bool out_of_sequence_ = false;
  std::int32_t requested_mhz_ = 0;
  InstructionKind running_ = InstructionKind::kForward;
  std::unique_ptr<SimWorld> world_;
  std::optional<SimWorld::Participant> participant_;
};

}  // namespace slackline
