#pragma once
#include <sys/types.h>

#include <optional>
#include <vector>

namespace slackline {

struct User {
  uid_t uid = 0;
  gid_t gid = 0;
};

/// For whom this process runs as root: who called sudo (SUDO_UID, SUDO_GID) or pkexec. Nothing if it does not
/// run as root, or for root itself.
[[nodiscard]] std::optional<User> calling_user();

/// Gives up every privilege for good and becomes `user`, with that user's groups; HOME, USER and LOGNAME
/// follow. False, with errno, if that fails: do not go on.
[[nodiscard]] bool become(const User& user);
/// DeviceError if that fails.
void become_or_throw(const User& user);

/// Reads and writes files with no more rights than `user` has, until it goes; all threads of the process do.
/// For root on behalf of somebody who names files. Nothing happens without a user.
class ActingAs {
 public:
  /// DeviceError if that is not possible.
  explicit ActingAs(const std::optional<User>& user);
  ActingAs(const ActingAs&) = delete;
  ActingAs& operator=(const ActingAs&) = delete;
  ~ActingAs();

 private:
  void go_back();

  bool is_acting_ = false;
  uid_t uid_ = 0;
  gid_t gid_ = 0;
  std::vector<gid_t> groups_;
};

}  // namespace slackline
