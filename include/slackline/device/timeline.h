#pragma once
#include <condition_variable>
#include <memory>
#include <mutex>

#include "slackline/base/quantity.h"

namespace slackline {

/// The time that a device lives in: the host's steady clock, or a simulated one.
class Timeline {
 public:
  virtual ~Timeline() = default;
  [[nodiscard]] virtual Seconds now() = 0;
  /// False if the wait was ended early because the timeline has no more use (shut down).
  virtual bool sleep_until(Seconds time) = 0;
};

/// The host's steady clock (CLOCK_MONOTONIC), for devices that are real. Timelines that share an end are shut
/// down together.
class HostTimeline : public Timeline {
 public:
  class End {
   public:
    void shut_down();

   private:
    friend class HostTimeline;
    std::mutex mutex_;
    std::condition_variable changed_;
    bool is_over_ = false;
  };

  explicit HostTimeline(std::shared_ptr<End> end = std::make_shared<End>()) : end_(std::move(end)) {}
  [[nodiscard]] Seconds now() override;
  bool sleep_until(Seconds time) override;

 private:
  std::shared_ptr<End> end_;
};

}  // namespace slackline
