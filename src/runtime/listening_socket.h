#pragma once
#include <sys/types.h>

#include <optional>
#include <string>

#include "slackline/base/descriptor.h"

namespace slackline {

/// Listens at a path as the only process that does: what another has left there is removed, if it was a
/// socket and nobody holds the lock beside it. The path goes with this.
class ListeningSocket {
 public:
  /// With the permissions `mode`, `owner` and `group`. DeviceError if it is somebody's, or cannot be.
  ListeningSocket(const std::string& path, unsigned mode, std::optional<uid_t> owner,
                  std::optional<gid_t> group);
  ListeningSocket(const ListeningSocket&) = delete;
  ListeningSocket& operator=(const ListeningSocket&) = delete;
  ~ListeningSocket();

  [[nodiscard]] int get() const { return socket_.get(); }

 private:
  std::string path_;
  Descriptor lock_;  // keeps others from taking the path over
  Descriptor socket_;
};

/// With what is not a letter, digit or sign replaced, and cut to a length: for a log line that quotes a
/// stranger.
[[nodiscard]] std::string printable(const std::string& text);

}  // namespace slackline
