#include "lease_peer.h"

#include <sys/socket.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <cerrno>
#include <cstring>
#include <vector>

#include "slackline/base/error.h"
#include "slackline/base/process.h"

namespace slackline {
namespace {

constexpr int kPeerPidfd = 77;   // SO_PEERPIDFD, Linux 6.5: no window in which the number is used again
constexpr int kPeerGroups = 59;  // SO_PEERGROUPS, Linux 4.13

Descriptor process_of(int socket, pid_t pid) {
  int fd = -1;
  socklen_t length = sizeof fd;
  if (::getsockopt(socket, SOL_SOCKET, kPeerPidfd, &fd, &length) == 0) return Descriptor(fd);
  if (pid <= 0) return {};
  return Descriptor(static_cast<int>(::syscall(SYS_pidfd_open, pid, 0)));
}

std::vector<gid_t> groups_of(int socket) {
  std::vector<gid_t> groups(64);
  socklen_t length = 0;
  while (true) {
    length = static_cast<socklen_t>(groups.size() * sizeof(gid_t));
    if (::getsockopt(socket, SOL_SOCKET, kPeerGroups, groups.data(), &length) == 0) break;
    if (errno != ERANGE || groups.size() > 65536) return {};
    groups.resize(groups.size() * 4);
  }
  groups.resize(length / sizeof(gid_t));
  return groups;
}

}  // namespace

LeasePeer LeasePeer::of(int socket) {
  ucred credentials{};
  socklen_t length = sizeof credentials;
  if (::getsockopt(socket, SOL_SOCKET, SO_PEERCRED, &credentials, &length) != 0) {
    throw DeviceError("accept", "", std::strerror(errno));
  }
  return {{credentials.uid, credentials.gid, groups_of(socket)},
          credentials.pid,
          process_of(socket, credentials.pid)};
}

bool LeasePeer::began_at(std::uint64_t start_time) const {
  if (pid <= 0) return true;  // nothing to compare with; a heartbeat stands in
  return is_alive({pid, start_time});
}

std::string LeasePeer::name() const {
  return (pid > 0 ? "process " + std::to_string(pid) : std::string("a process")) + " of user " +
         std::to_string(user.uid);
}

}  // namespace slackline
