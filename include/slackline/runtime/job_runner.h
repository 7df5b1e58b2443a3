#pragma once
#include <chrono>
#include <functional>
#include <optional>
#include <string>
#include <vector>

#include "slackline/base/user.h"
#include "slackline/runtime/job_server.h"

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

  /// Empty if it started; else why it could not, with `exit_status()` 127 or 126 as in a shell. Runs as
  /// `user` if one is given.
  [[nodiscard]] std::string start(const std::vector<std::string>& command, const std::string& variable,
                                  const std::string& value, const std::optional<User>& user = {});
  /// Serves `server` and forwards signals until the command has ended. `idle` is called at least ten times a
  /// second.
  void run(JobServer& server, const std::function<void()>& idle = {});
  /// Asks the command to end, and kills it if it has not after some seconds. What it has started and left
  /// behind is killed when this object goes.
  void terminate();

  /// The command's status as a shell gives it: 128 + signal if it was killed.
  [[nodiscard]] int exit_status() const { return exit_status_; }
  /// The signal that asked us, and so the command, to end; 0 if none did.
  [[nodiscard]] int interrupted_by() const { return interrupted_by_; }

 private:
  Descriptor signals_;
  int pid_ = -1;
  int exit_status_ = 0;
  int interrupted_by_ = 0;
  std::vector<int> others_;  // children of this process that are not the command's
  std::optional<std::chrono::steady_clock::time_point> terminated_;
};

}  // namespace slackline
