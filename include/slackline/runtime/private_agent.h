#pragma once
#include <sys/types.h>

#include <string>

#include "slackline/base/descriptor.h"

namespace slackline {

/// An agent for one job, where the node has none or its GPUs are simulated: a helper process that runs in a
/// session of its own, so that no signal to the job's group or terminal reaches it. It alone has the GPUs,
/// and restores them when a process of the job ends, and all when the process that started it ends, however
/// that happens; even `kill -9` of everything else leaves it to do so. (Killing a whole container cannot be
/// survived: what was left is restored by the next start.)
struct PrivateAgentSetup {
  std::string device;  // for open_device
  std::string journal_folder;
  std::string socket;
  uid_t user = 0;  // whose processes may lease the GPUs
};

class PrivateAgent {
 public:
  /// Runs this program again as `private-agent` and returns when that listens. DeviceError if it does not
  /// start. Construct it before the first thread.
  explicit PrivateAgent(const PrivateAgentSetup& setup);
  PrivateAgent(const PrivateAgent&) = delete;
  PrivateAgent& operator=(const PrivateAgent&) = delete;
  /// Waits until every GPU is restored.
  ~PrivateAgent();

  /// Restores every GPU and waits for that. No lease is granted any more.
  void end();
  /// It was killed: what it had changed is for restore_leftovers().
  [[nodiscard]] bool has_died() const;

 private:
  Descriptor lifeline_;  // a socket; its other end is the agent's standard input
  pid_t pid_ = -1;
};

/// What that process does, until its standard input ends. Says on it when it is ready, or why it cannot be.
void serve_privately(const PrivateAgentSetup& setup);

}  // namespace slackline
