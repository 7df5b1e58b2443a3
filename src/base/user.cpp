#include "slackline/base/user.h"

#include <grp.h>
#include <pwd.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstdlib>
#include <cstring>
#include <string>
#include <utility>

#include "slackline/base/error.h"
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

/// `entry` is the user's, or null.
bool take_groups(const passwd* entry, const User& user) {
  return entry != nullptr ? ::initgroups(entry->pw_name, user.gid) == 0 : ::setgroups(0, nullptr) == 0;
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
  if (!take_groups(entry, user) || ::setresgid(user.gid, user.gid, user.gid) != 0) return false;
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

void become_or_throw(const User& user) {
  if (!become(user)) throw DeviceError("become user " + std::to_string(user.uid), "", std::strerror(errno));
}

ActingAs::ActingAs(const std::optional<User>& user) : uid_(::geteuid()), gid_(::getegid()) {
  if (!user) return;
  groups_.resize(static_cast<std::size_t>(std::max(::getgroups(0, nullptr), 0)));
  if (::getgroups(static_cast<int>(groups_.size()), groups_.data()) >= 0) {
    is_acting_ = true;
    if (take_groups(::getpwuid(user->uid), *user) && ::setegid(user->gid) == 0 && ::seteuid(user->uid) == 0)
      return;
  }
  const std::string reason = std::strerror(errno);
  go_back();
  throw DeviceError("act as user " + std::to_string(user->uid), "", reason);
}

ActingAs::~ActingAs() {
  go_back();
}

void ActingAs::go_back() {
  if (!std::exchange(is_acting_, false)) return;
  // Who cannot get back what it had must not go on with half of it.
  if (::seteuid(uid_) != 0 || ::setegid(gid_) != 0 || ::setgroups(groups_.size(), groups_.data()) != 0)
    std::abort();
}

}  // namespace slackline
