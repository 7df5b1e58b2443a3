#pragma once
#include <optional>
#include <set>
#include <string>
#include <vector>

#include "slackline/base/user.h"
#include "slackline/measure/recording.h"
#include "slackline/runtime/rank.h"

namespace slackline {

/// Where a profile under way is kept: beside its file, or, for one rank of several, as its piece in a folder.
class RecordingFile {
 public:
  /// `output`: a file, or, where it ends in '/' or is there, a folder; "-" keeps nothing. `rank`: of a
  /// folder's piece. InputError, before anything is measured, if it cannot be written.
  RecordingFile(const std::string& output, const std::optional<Rank>& rank, std::optional<User> user);

  [[nodiscard]] const std::string& path() const { return path_; }
  /// What was measured before; nothing if there is none, or it is to be forgotten. InputError if it is of
  /// another device, job or order than `fresh`.
  [[nodiscard]] std::optional<Recording> earlier(const Recording& fresh) const;
  /// Says, once, if that is not possible; measuring goes on.
  void keep(const Recording& recording);
  /// The profile has been written.
  void remove() const;
  /// Pieces in the folder that are complete. Reads all others.
  [[nodiscard]] int complete_pieces();

 private:
  std::string folder_;
  std::string path_;  // "": nothing is kept
  std::optional<User> user_;
  bool has_failed_ = false;
  std::set<std::string> complete_;  // pieces that were found to be
};

/// Whether `output` names a folder.
[[nodiscard]] bool is_folder(const std::string& output);
/// All pieces in a folder, one of each rank. InputError if some are missing or not complete.
[[nodiscard]] std::vector<Recording> read_pieces(const std::string& folder);

}  // namespace slackline
