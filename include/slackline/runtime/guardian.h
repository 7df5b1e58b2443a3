#pragma once
#include <sys/types.h>

#include <string>

#include "slackline/base/descriptor.h"

namespace slackline {

/// A process of its own session that outlives the one that started it, however that ends, and then restores
/// every GPU that it left in the journal. Start it before the first thread and the first change.
class Guardian {
 public:
  /// Runs this program again as `guard FOLDER PID`, and returns when that has left this process group and
  /// watches: from then on no signal to the group reaches it. DeviceError if it does not start.
  explicit Guardian(const std::string& journal_folder);
  Guardian(const Guardian&) = delete;
  Guardian& operator=(const Guardian&) = delete;
  /// Waits until it has gone.
  ~Guardian();

 private:
  void end();

  Descriptor lifeline_;  // a socket; its other end is the guardian's standard input
  int pid_ = -1;
};

/// What that process does: says that it is ready, waits for the end of standard input, then restores what
/// `owner` left, again and again for a while where a driver refuses. Returns how many GPUs it restored.
int stand_guard(const std::string& journal_folder, pid_t owner);

}  // namespace slackline
