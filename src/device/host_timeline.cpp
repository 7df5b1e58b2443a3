#include <chrono>

#include "slackline/device/timeline.h"

namespace slackline {
namespace {

using Clock = std::chrono::steady_clock;  // CLOCK_MONOTONIC in libstdc++ and libc++

}  // namespace

void HostTimeline::End::shut_down() {
  {
    const std::lock_guard lock(mutex_);
    is_over_ = true;
  }
  changed_.notify_all();
}

Seconds HostTimeline::now() {
  return Seconds(std::chrono::duration<double>(Clock::now().time_since_epoch()).count());
}

bool HostTimeline::sleep_until(Seconds time) {
  const auto wait = std::chrono::duration<double>(time.value() - now().value());
  std::unique_lock lock(end_->mutex_);
  return !end_->changed_.wait_for(lock, wait, [this] { return end_->is_over_; });
}

}  // namespace slackline
