#pragma once
#include <sys/types.h>

#include <optional>
#include <string>

#include "slackline/base/descriptor.h"

namespace slackline {

struct ListeningSocket {
  Descriptor socket;
  /// Keeps others from taking the path over.
  Descriptor lock;
};

/// Listens at `path` with the permissions `mode`, `owner` and `group`, as the only process that does: what
/// another has left there is removed, if it was a socket and nobody holds the lock beside it. DeviceError
/// otherwise.
[[nodiscard]] ListeningSocket listen_exclusively(const std::string& path, unsigned mode,
                                                 std::optional<uid_t> owner, std::optional<gid_t> group);

/// With what is not a letter, digit or sign replaced, and cut to a length: for a log line that quotes a
/// stranger.
[[nodiscard]] std::string printable(const std::string& text);

}  // namespace slackline
