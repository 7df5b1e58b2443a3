#pragma once
#include <sys/types.h>

#include <string>

#include "slackline/base/descriptor.h"
#include "slackline/runtime/policy.h"

namespace slackline {

/// The process at the other end of a socket, as the kernel knows it: when it connected, not what it says.
struct LeasePeer {
  Peer user;
  /// In our PID namespace; 0 if it is not visible here.
  pid_t pid = 0;
  /// Readable once the process has ended; empty if it is not visible here, or the kernel has no such thing.
  Descriptor process;

  /// Right after accept(). DeviceError if the kernel does not say.
  static LeasePeer of(int socket);
  /// Whether the process that we hold is the one that says it began then: not a later one of the same number.
  [[nodiscard]] bool began_at(std::uint64_t start_time) const;
  /// "process 123 of user 1001".
  [[nodiscard]] std::string name() const;
};

}  // namespace slackline
