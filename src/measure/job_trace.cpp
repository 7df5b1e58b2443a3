#include "slackline/measure/job_trace.h"

#include <utility>

namespace slackline {

JobTrace::JobTrace(int stages, std::function<void(int, Seconds)> at_boundary)
    : stages_(static_cast<std::size_t>(stages)), at_boundary_(std::move(at_boundary)) {}

void JobTrace::step_begin(int stage, Seconds time) {
  const std::lock_guard lock(mutex_);
  Stage& state = at(stage);
  state.seen = state.steps_seen = true;
  state.step_since = time;
}

void JobTrace::step_end(int stage, Seconds time) {
  {
    const std::lock_guard lock(mutex_);
    Stage& state = at(stage);
    if (state.step_since) state.news.steps.push_back({*state.step_since, time});
    state.step_since.reset();
  }
  at_boundary_(stage, time);
}

void JobTrace::begin(int stage, Task task, Seconds time) {
  const std::lock_guard lock(mutex_);
  Stage& state = at(stage);
  state.seen = true;
  state.running = Run{task, {time, time}, {}};
}

void JobTrace::device_time(int stage, Seconds time) {
  const std::lock_guard lock(mutex_);
  if (at(stage).running) at(stage).running->device_time = time;
}

void JobTrace::again(int stage, Seconds time) {
  const auto task = [&]() -> std::optional<Task> {
    const std::lock_guard lock(mutex_);
    return at(stage).running ? std::optional(at(stage).running->task) : std::nullopt;
  }();
  if (!task) return;
  end(stage, time);
  begin(stage, *task, time);
}

void JobTrace::end(int stage, Seconds time) {
  {
    const std::lock_guard lock(mutex_);
    Stage& state = at(stage);
    if (!state.running) return;
    state.running->span.end = time;
    state.news.runs.push_back(*state.running);
    state.running.reset();
  }
  at_boundary_(stage, time);
}

void JobTrace::gone(int stage) {
  const std::lock_guard lock(mutex_);
  at(stage).step_since.reset();
  at(stage).running.reset();
}

JobTrace::News JobTrace::take(int stage) {
  const std::lock_guard lock(mutex_);
  return std::exchange(at(stage).news, {});
}

std::optional<Seconds> JobTrace::step_since(int stage) const {
  const std::lock_guard lock(mutex_);
  return at(stage).step_since;
}

bool JobTrace::is_running(int stage) const {
  const std::lock_guard lock(mutex_);
  return at(stage).running.has_value();
}

bool JobTrace::heard_of(int stage) const {
  const std::lock_guard lock(mutex_);
  return at(stage).seen;
}

bool JobTrace::has_steps(int stage) const {
  const std::lock_guard lock(mutex_);
  return at(stage).steps_seen;
}

}  // namespace slackline
