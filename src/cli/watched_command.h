#pragma once
#include <signal.h>
#include <sys/types.h>

#include <string>
#include <vector>

namespace slackline {

/// A command that runs as a child in this process group and is left alone: signals that we get go on to it,
/// and its end is waited for. (Job does more: it serves an agent meanwhile, and cleans up after a command.)
class WatchedCommand {
 public:
  /// Blocks the signals that wait() passes on: construct before the first thread.
  WatchedCommand();

  /// Empty if it started; else why it could not, with exit_status() 127 or 126 as in a shell.
  [[nodiscard]] std::string start(const std::vector<std::string>& command);
  /// Until it has ended. From then on signals are for this process.
  void wait();
  /// As a shell gives it: 128 + signal if it was killed.
  [[nodiscard]] int exit_status() const { return exit_status_; }

 private:
  sigset_t watched_{};
  sigset_t before_{};
  sighandler_t before_pipe_ = SIG_DFL;
  pid_t pid_ = -1;
  int exit_status_ = 0;
};

}  // namespace slackline
