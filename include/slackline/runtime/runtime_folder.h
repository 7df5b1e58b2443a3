#pragma once
#include <string>

namespace slackline {

/// Where sockets, the journal and simulated GPUs live: $SLACKLINE_RUNTIME_DIR, else /run/slackline for root,
/// else $XDG_RUNTIME_DIR/slackline, else /tmp/slackline-UID; for root on behalf of somebody else (sudo)
/// /run/slackline, whatever the variables say, since they are that user's. Made if missing with mode 0700
/// (0711 for root: others pass through to sockets of theirs); DeviceError if it is not a folder of this user
/// that nobody else may write.
[[nodiscard]] std::string runtime_folder();
/// The same checks for a folder that a flag names; runtime_folder() for "".
[[nodiscard]] std::string runtime_folder(const std::string& named);

/// The journal's place in it.
[[nodiscard]] std::string journal_folder(const std::string& runtime_folder);

/// A new folder of its own inside `parent`, mode 0700.
[[nodiscard]] std::string make_private_folder(const std::string& parent, const std::string& prefix);

/// One that goes, with all that is in it, when this does.
class PrivateFolder {
 public:
  PrivateFolder(const std::string& parent, const std::string& prefix);
  PrivateFolder(const PrivateFolder&) = delete;
  PrivateFolder& operator=(const PrivateFolder&) = delete;
  ~PrivateFolder();
  [[nodiscard]] const std::string& path() const { return path_; }

 private:
  std::string path_;
};

}  // namespace slackline
