#include "lease_peer.h"

#include <poll.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <cerrno>
#include <cstring>
#include <optional>
#include <vector>

#include "slackline/base/error.h"
#include "slackline/base/process.h"

namespace slackline {
namespace {

constexpr int kPeerPidfd = 77;   // SO_PEERPIDFD, Linux 6.5: no window in which the number is used again
constexpr int kPeerGroups = 59;  // SO_PEERGROUPS, Linux 4.13

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
  LeasePeer peer{{credentials.uid, credentials.gid, groups_of(socket)}, credentials.pid, {}, false};
  int fd = -1;
  length = sizeof fd;
  if (::getsockopt(socket, SOL_SOCKET, kPeerPidfd, &fd, &length) == 0) {
    peer.process = Descriptor(fd);
    peer.is_certain = true;
  } else if (peer.pid > 0) {
    peer.process = Descriptor(static_cast<int>(::syscall(SYS_pidfd_open, peer.pid, 0)));
  }
  return peer;
}

LeasePeer::Standing LeasePeer::standing(std::uint64_t start_time) const {
  pollfd end{process.get(), POLLIN, 0};
  if (process && ::poll(&end, 1, 0) > 0) return Standing::kGone;
  if (is_certain) return Standing::kHere;
  if (pid <= 0 || start_time == 0) return Standing::kUnseen;
  // /proc may hide other users' processes (hidepid).
  const std::optional<std::uint64_t> seen = start_time_of(pid);
  if (seen && *seen != start_time) return Standing::kGone;
  return seen && process ? Standing::kHere : Standing::kUnseen;
}

std::string LeasePeer::name() const {
  return (pid > 0 ? "process " + std::to_string(pid) : std::string("a process")) + " of user " +
         std::to_string(user.uid);
}

}  // namespace slackline
