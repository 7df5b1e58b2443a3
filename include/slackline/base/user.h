#pragma once
#include <sys/types.h>

#include <optional>

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

}  // namespace slackline
