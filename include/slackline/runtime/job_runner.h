#pragma once
#include <functional>
#include <string>
#include <vector>

#include "slackline/runtime/agent.h"

namespace slackline {

/// A command that runs as a child in this process group, so that a terminal's Ctrl-C reaches it directly.
class Job {
 public:
  /// Sets `variable`=`value` for it. Blocks the signals that run() forwards; construct before the first
  /// thread.
  Job();
  Job(const Job&) = delete;
  Job& operator=(const Job&) = delete;
  /// Kills it if it still runs.
  ~Job();

  /// Empty if it started; else why it could not, with `exit_status()` 127 or 126 as in a shell.
  [[nodiscard]] std::string start(const std::vector<std::string>& command, const std::string& variable,
                                  const std::string& value);
  /// Serves the agent and forwards signals until the command has ended. `idle` is called at least ten times a
  /// second.
  void run(Agent& agent, const std::function<void()>& idle = {});
  void terminate();

  /// The command's status as a shell gives it: 128 + signal if it was killed.
  [[nodiscard]] int exit_status() const { return exit_status_; }

 private:
  Descriptor signals_;
  int pid_ = -1;
  int exit_status_ = 0;
};

}  // namespace slackline
