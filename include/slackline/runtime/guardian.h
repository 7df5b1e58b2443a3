#pragma once
#include <string>

#include "slackline/base/descriptor.h"

namespace slackline {

/// A process of its own session that outlives the one that started it, however that ends, and then restores
/// every GPU that it left in the journal. Start it before the first thread and the first change.
class Guardian {
 public:
  /// Runs this program again as `guard FOLDER`. DeviceError if that fails.
  explicit Guardian(const std::string& journal_folder);
  Guardian(const Guardian&) = delete;
  Guardian& operator=(const Guardian&) = delete;
  /// Waits until it has gone.
  ~Guardian();

 private:
  Descriptor lifeline_;  // its other end is the guardian's standard input
  int pid_ = -1;
};

/// What that process does: waits for the end of standard input, then restores. Returns how many GPUs it
/// restored.
int stand_guard(const std::string& journal_folder);

}  // namespace slackline
