#include "listening_socket.h"

#include <fcntl.h>
#include <sys/file.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstring>

#include "slackline/base/error.h"
#include "slackline/runtime/packet_socket.h"

namespace slackline {
namespace {

/// Who listens there now, for people.
std::string listener_at(const std::string& path) {
  const Descriptor socket = connect_to(path);
  ucred listener{};
  socklen_t length = sizeof listener;
  if (!socket || ::getsockopt(socket.get(), SOL_SOCKET, SO_PEERCRED, &listener, &length) != 0 ||
      listener.pid <= 0) {
    return "another agent";
  }
  return "another agent, process " + std::to_string(listener.pid) + ",";
}

}  // namespace

ListeningSocket::ListeningSocket(const std::string& path, unsigned mode, std::optional<uid_t> owner,
                                 std::optional<gid_t> group)
    : path_(path) {
  const auto fail = [&](const std::string& why) { throw DeviceError("listen", path, why); };
  lock_ = Descriptor(::open((path + ".lock").c_str(), O_RDWR | O_CREAT | O_NOFOLLOW | O_CLOEXEC, 0600));
  if (!lock_) fail(std::strerror(errno));
  if (::flock(lock_.get(), LOCK_EX | LOCK_NB) != 0) fail(listener_at(path) + " listens there");
  struct stat status {};
  if (::lstat(path.c_str(), &status) == 0) {
    if (!S_ISSOCK(status.st_mode)) fail("there is something that is not a socket");
    ::unlink(path.c_str());
  }
  const mode_t mask = ::umask(0777);  // nobody may connect before the permissions are right
  try {
    socket_ = listen_on(path);
  } catch (...) {
    ::umask(mask);
    throw;
  }
  ::umask(mask);
  ::fcntl(socket_.get(), F_SETFL, O_NONBLOCK);
  constexpr auto kAsItIs = static_cast<uid_t>(-1);
  const bool is_handed_over =
      !(owner || group) || ::lchown(path.c_str(), owner.value_or(kAsItIs), group.value_or(kAsItIs)) == 0;
  if (is_handed_over && ::chmod(path.c_str(), mode) == 0) return;
  const std::string why = std::strerror(errno);
  ::unlink(path.c_str());
  fail("cannot give it to the user or group that may connect: " + why);
}

ListeningSocket::~ListeningSocket() {
  ::unlink(path_.c_str());
}

std::string printable(const std::string& text) {
  std::string clean = text.substr(0, 64);
  std::ranges::replace_if(
      clean, [](char c) { return c < ' ' || c > '~'; }, '?');
  return clean;
}

}  // namespace slackline
