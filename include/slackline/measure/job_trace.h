#pragma once
#include <cstdint>
#include <functional>
#include <mutex>
#include <optional>
#include <vector>

#include "slackline/measure/visit.h"

namespace slackline {

/// What the stages of a job do, told by one thread and read by another.
class JobTrace {
 public:
  /// `at_boundary` is called, in the telling thread and with the time, when a run or a step of a stage has
  /// ended: a good moment to change its clock.
  JobTrace(int stages, std::function<void(int stage, Seconds time)> at_boundary);

  void step_begin(int stage, Seconds time);
  void step_end(int stage, Seconds time);
  void begin(int stage, Task task, Seconds time);
  /// The device's own time of the run under way.
  void device_time(int stage, Seconds time);
  /// One run ended and the next of the same kind began.
  void again(int stage, Seconds time);
  void end(int stage, Seconds time);
  /// Its process is gone: what it was in the middle of never ends.
  void gone(int stage);

  struct News {
    std::vector<Run> runs;
    std::vector<Span> steps;
  };
  /// What has ended since the last call.
  [[nodiscard]] News take(int stage);
  /// When its current step began.
  [[nodiscard]] std::optional<Seconds> step_since(int stage) const;
  [[nodiscard]] bool is_running(int stage) const;
  /// The stage has done something at some time, and marks steps.
  [[nodiscard]] bool heard_of(int stage) const;
  [[nodiscard]] bool has_steps(int stage) const;

 private:
  struct Stage {
    bool seen = false;
    bool steps_seen = false;
    std::optional<Seconds> step_since;
    std::optional<Run> running;
    News news;
  };
  [[nodiscard]] Stage& at(int stage) { return stages_[static_cast<std::size_t>(stage)]; }
  [[nodiscard]] const Stage& at(int stage) const { return stages_[static_cast<std::size_t>(stage)]; }

  mutable std::mutex mutex_;
  std::vector<Stage> stages_;
  std::function<void(int, Seconds)> at_boundary_;
};

}  // namespace slackline
