#pragma once
#include <string>
#include <vector>

#include "slackline/base/process.h"

namespace slackline {

/// Which GPUs are about to be changed, and by whom: one file a GPU, on the disk before the GPU's first
/// change. What a crash leaves behind is found here by the guardian, by `slackline restore` and by the next
/// start.
class Journal {
 public:
  struct Entry {
    std::string gpu;
    ProcessIdentity owner;
  };

  /// `folder` is made if missing.
  explicit Journal(std::string folder);

  /// DeviceError if another process that lives owns the GPU, or the entry cannot be written.
  void record(const std::string& gpu);
  void clear(const std::string& gpu);
  /// An entry that cannot be read has an empty `gpu`.
  [[nodiscard]] std::vector<Entry> entries() const;

  /// Unlocks every GPU whose owner is gone, or is the process `ended`, and clears its entry. Returns their
  /// names.
  std::vector<std::string> restore_leftovers(pid_t ended = 0);

 private:
  [[nodiscard]] std::string file_of(const std::string& gpu) const;
  void remove_unfinished();

  std::string folder_;
};

}  // namespace slackline
