#include "slackline/base/user.h"

#include <grp.h>
#include <pwd.h>
#include <unistd.h>

#include <cerrno>
#include <cstdlib>

#include "slackline/base/number_text.h"

namespace slackline {
namespace {

std::optional<std::int64_t> number_in(const char* variable) {
  const char* value = ::getenv(variable);
  return value == nullptr ? std::nullopt : parse_integer(value);
}

bool is_id(const std::optional<std::int64_t>& number) {
  return number && *number > 0 && *number < UINT32_MAX;
}

}  // namespace

std::optional<User> calling_user() {
  if (::geteuid() != 0) return std::nullopt;
  auto uid = number_in("SUDO_UID");
  if (!uid) uid = number_in("PKEXEC_UID");
  if (!is_id(uid)) return std::nullopt;
  const auto user = static_cast<uid_t>(*uid);
  if (const auto gid = number_in("SUDO_GID"); is_id(gid)) return User{user, static_cast<gid_t>(*gid)};
  const passwd* entry = ::getpwuid(user);
  return User{user, entry != nullptr ? entry->pw_gid : static_cast<gid_t>(user)};
}

bool become(const User& user) {
  const passwd* entry = ::getpwuid(user.uid);
  const bool grouped =
      entry != nullptr ? ::initgroups(entry->pw_name, user.gid) == 0 : ::setgroups(0, nullptr) == 0;
  if (!grouped || ::setresgid(user.gid, user.gid, user.gid) != 0) return false;
  if (::setresuid(user.uid, user.uid, user.uid) != 0) return false;
  if (::setuid(0) == 0) {  // it must not be possible to go back
    errno = EPERM;
    return false;
  }
  if (entry != nullptr) {
    ::setenv("HOME", entry->pw_dir, 1);
    ::setenv("USER", entry->pw_name, 1);
    ::setenv("LOGNAME", entry->pw_name, 1);
  }
  return true;
}

}  // namespace slackline
