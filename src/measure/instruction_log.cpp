#include "slackline/measure/instruction_log.h"

namespace slackline {

void InstructionLog::begin(int stage, InstructionKind kind, Seconds time) {
  const std::lock_guard lock(mutex_);
  stages_[static_cast<std::size_t>(stage)] = {true, true, time, {kind, time, {}}};
}

void InstructionLog::again(int stage, Seconds time) {
  const std::lock_guard lock(mutex_);
  stages_[static_cast<std::size_t>(stage)].current.ends.push_back(time);
}

void InstructionLog::end(int stage, Seconds time) {
  const std::lock_guard lock(mutex_);
  stages_[static_cast<std::size_t>(stage)] = {false, true, time, {}};
}

bool InstructionLog::heard_of(int stage) const {
  const std::lock_guard lock(mutex_);
  return stages_[static_cast<std::size_t>(stage)].seen;
}

std::optional<InstructionLog::Repetition> InstructionLog::repetition(int stage) const {
  const std::lock_guard lock(mutex_);
  const Stage& state = stages_[static_cast<std::size_t>(stage)];
  if (!state.running || state.current.ends.empty()) return std::nullopt;
  return state.current;
}

std::optional<Seconds> InstructionLog::waiting_since(int stage) const {
  const std::lock_guard lock(mutex_);
  const Stage& state = stages_[static_cast<std::size_t>(stage)];
  return state.seen && !state.running ? std::optional(state.since) : std::nullopt;
}

}  // namespace slackline
