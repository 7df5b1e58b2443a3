#pragma once
#include <chrono>
#include <string>

namespace slackline {

/// A bar on standard error for work that takes over a second; silent when that is not a terminal. Gone when
/// done.
class ProgressBar {
 public:
  explicit ProgressBar(std::string label);
  ProgressBar(const ProgressBar&) = delete;
  ProgressBar& operator=(const ProgressBar&) = delete;
  ~ProgressBar();

  /// `done`: 0 to 1. Cheap; draws ten times a second at most. `note` stands behind the bar.
  void show(double done, const std::string& note = {});

 private:
  using Clock = std::chrono::steady_clock;
  std::string label_;
  bool is_terminal_;
  bool drawn_ = false;
  Clock::time_point next_draw_;
};

}  // namespace slackline
