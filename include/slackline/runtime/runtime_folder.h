#pragma once
#include <string>

namespace slackline {

/// Where sockets, the journal and simulated GPUs live: $SLACKLINE_RUNTIME_DIR, else /run/slackline for root,
/// else $XDG_RUNTIME_DIR/slackline, else /tmp/slackline-UID. Made with mode 0700 if missing; DeviceError if
/// it is not a folder of this user that nobody else may write.
[[nodiscard]] std::string runtime_folder();

/// A new folder of its own inside `parent`, mode 0700.
[[nodiscard]] std::string make_private_folder(const std::string& parent, const std::string& prefix);

}  // namespace slackline
