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
  /// The kernel itself says that `process` is who connected; else it is who had that number a moment later.
  bool is_certain = false;

  /// Right after accept(). DeviceError if the kernel does not say.
  static LeasePeer of(int socket);
  enum class Standing {
    kHere,    // we will hear of its end
    kUnseen,  // there, for all we know; only a heartbeat tells
    kGone,    // ended, and perhaps another has its number now
  };
  /// What we know of the process, which says when it began (0: it does not).
  [[nodiscard]] Standing standing(std::uint64_t start_time) const;
  /// "process 123 of user 1001".
  [[nodiscard]] std::string name() const;
};

}  // namespace slackline
