#pragma once
#include <string>

#include "slackline/base/descriptor.h"

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

/// What folders of a process's own are for; their names begin with it.
inline constexpr const char* kJobFolder = "job-";
inline constexpr const char* kNodeFolder = "sim-";

/// A new folder inside `parent`, mode 0700, which goes with all that is in it when this does.
class PrivateFolder {
 public:
  PrivateFolder(const std::string& parent, const std::string& kind);
  PrivateFolder(const PrivateFolder&) = delete;
  PrivateFolder& operator=(const PrivateFolder&) = delete;
  ~PrivateFolder();
  [[nodiscard]] const std::string& path() const { return path_; }

 private:
  std::string path_;
  Descriptor lock_;  // on the folder: somebody has it, whether or not its number is known here
};

/// Removes those whose process was killed.
void remove_abandoned_folders(const std::string& parent);

}  // namespace slackline
