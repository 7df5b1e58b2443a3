#include "slackline/runtime/service_manager.h"

#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include <cerrno>
#include <cstddef>
#include <cstdlib>
#include <cstring>

#include "slackline/base/number_text.h"

namespace slackline {
namespace {

std::string variable(const char* name) {
  const char* value = ::secure_getenv(name);
  return value == nullptr ? "" : value;
}

/// Empty for what is no path and no abstract name, or too long for either.
std::string socket_address() {
  std::string address = variable("NOTIFY_SOCKET");
  if (address.size() < 2 || address.size() >= sizeof(sockaddr_un::sun_path)) return {};
  if (address[0] == '@') address[0] = '\0';
  return address[0] == '/' || address[0] == '\0' ? address : std::string();
}

std::optional<std::chrono::microseconds> interval() {
  const auto microseconds = parse_integer(variable("WATCHDOG_USEC"));
  if (!microseconds || *microseconds <= 0) return std::nullopt;
  // A process that inherited the variable from the one that is watched is not watched itself.
  const std::string watched = variable("WATCHDOG_PID");
  if (!watched.empty() && parse_integer(watched) != ::getpid()) return std::nullopt;
  return std::chrono::microseconds(*microseconds);
}

}  // namespace

ServiceManager::ServiceManager() : address_(socket_address()) {
  if (address_.empty()) return;
  socket_.reset(::socket(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC, 0));
  interval_ = interval();
}

bool ServiceManager::send(std::string_view message) const {
  if (!socket_) return false;
  sockaddr_un address{};
  address.sun_family = AF_UNIX;
  std::memcpy(address.sun_path, address_.data(), address_.size());
  const std::size_t length = offsetof(sockaddr_un, sun_path) + address_.size();
  ssize_t sent = 0;
  do {
    sent = ::sendto(socket_.get(), message.data(), message.size(), MSG_DONTWAIT | MSG_NOSIGNAL,
                    reinterpret_cast<const sockaddr*>(&address), static_cast<socklen_t>(length));
  } while (sent < 0 && errno == EINTR);
  return sent == static_cast<ssize_t>(message.size());
}

}  // namespace slackline
