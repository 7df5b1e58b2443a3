#include "slackline/runtime/service_manager.h"

#include <stdlib.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include <cstddef>
#include <cstring>
#include <map>
#include <string>
#include <vector>

#include "catch.h"
#include "scratch_folder.h"
#include "slackline/base/descriptor.h"

namespace slackline {
namespace {

using std::chrono::microseconds;

/// The variables that a manager gives to a service, for as long as this lives.
class Environment {
 public:
  explicit Environment(const std::map<std::string, std::string>& variables) {
    clear();
    for (const auto& [name, value] : variables) ::setenv(name.c_str(), value.c_str(), 1);
  }
  Environment(const Environment&) = delete;
  Environment& operator=(const Environment&) = delete;
  ~Environment() { clear(); }

 private:
  static void clear() {
    for (const char* name : {"NOTIFY_SOCKET", "WATCHDOG_USEC", "WATCHDOG_PID"}) ::unsetenv(name);
  }
};

/// The manager's end: a datagram socket at `address`, which begins with '@' where it is abstract.
class Manager {
 public:
  explicit Manager(std::string address) {
    if (address.starts_with('@')) address[0] = '\0';
    sockaddr_un name{};
    name.sun_family = AF_UNIX;
    REQUIRE(address.size() < sizeof name.sun_path);
    std::memcpy(name.sun_path, address.data(), address.size());
    const auto length = static_cast<socklen_t>(offsetof(sockaddr_un, sun_path) + address.size());
    REQUIRE(::bind(socket_.get(), reinterpret_cast<const sockaddr*>(&name), length) == 0);
  }

  /// Empty if there is none.
  [[nodiscard]] std::string next() const {
    std::vector<char> buffer(4096);
    const ssize_t size = ::recv(socket_.get(), buffer.data(), buffer.size(), MSG_DONTWAIT);
    return size < 0 ? std::string() : std::string(buffer.data(), static_cast<std::size_t>(size));
  }

 private:
  Descriptor socket_{::socket(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC, 0)};
};

void expect_conversation(const std::string& address) {
  const Manager manager(address);
  const Environment environment({{"NOTIFY_SOCKET", address}});
  const ServiceManager service;
  CHECK(manager.next() == "");
  CHECK(service.ready());
  CHECK(manager.next() == "READY=1");
  CHECK(service.keep_alive());
  CHECK(service.keep_alive());
  CHECK(manager.next() == "WATCHDOG=1");
  CHECK(manager.next() == "WATCHDOG=1");
  CHECK(service.stopping());
  CHECK(manager.next() == "STOPPING=1");
  CHECK(manager.next() == "");
}

TEST_CASE("service manager: each word is one datagram to the socket it named", "[service_manager]") {
  const ScratchFolder folder;
  expect_conversation(folder.file("notify"));
}

TEST_CASE("service manager: its socket may be abstract", "[service_manager]") {
  expect_conversation("@slackline-test-" + std::to_string(::getpid()));
}

TEST_CASE("service manager: without one, or with an address that is none, nothing happens",
          "[service_manager]") {
  const ScratchFolder folder;
  for (const std::string& address :
       {std::string(), std::string("/"), std::string("@"), std::string("notify"), std::string("vsock:2:1"),
        "/" + std::string(200, 'x'), "@" + std::string(107, 'x'), folder.file("nobody-listens")}) {
    CAPTURE(address);
    const Environment environment({{"NOTIFY_SOCKET", address}});
    const ServiceManager service;
    CHECK_FALSE(service.ready());
    CHECK_FALSE(service.keep_alive());
    CHECK_FALSE(service.stopping());
  }
  const Environment nothing({});
  const ServiceManager service;
  CHECK_FALSE(service.ready());
  CHECK(service.watchdog_interval() == std::nullopt);
}

TEST_CASE("service manager: one that is busy makes nobody wait, and hears the next try",
          "[service_manager]") {
  const ScratchFolder folder;
  const Manager manager(folder.file("notify"));
  const Environment environment({{"NOTIFY_SOCKET", folder.file("notify")}});
  const ServiceManager service;
  int heard = 0;
  while (heard < 100'000 && service.keep_alive()) ++heard;
  REQUIRE(heard < 100'000);  // its queue is full
  CHECK_FALSE(service.ready());
  while (manager.next() != "") --heard;
  CHECK(heard == 0);
  CHECK(service.ready());
  CHECK(manager.next() == "READY=1");
}

TEST_CASE("service manager: the variables are read once", "[service_manager]") {
  const ScratchFolder folder;
  const Manager manager(folder.file("notify"));
  const auto service = [&] {
    const Environment environment({{"NOTIFY_SOCKET", folder.file("notify")}, {"WATCHDOG_USEC", "30000000"}});
    return ServiceManager();
  }();
  CHECK(service.ready());
  CHECK(manager.next() == "READY=1");
  CHECK(service.watchdog_interval() == microseconds(30'000'000));
}

std::optional<microseconds> interval_of(const std::map<std::string, std::string>& variables) {
  const Environment environment(variables);
  return ServiceManager().watchdog_interval();
}

TEST_CASE("service manager: the watchdog's interval holds for the process that it names",
          "[service_manager]") {
  const std::string self = std::to_string(::getpid());
  const std::pair<const std::string, std::string> socket{"NOTIFY_SOCKET", "/run/notify"};
  CHECK(interval_of({socket, {"WATCHDOG_USEC", "20000000"}, {"WATCHDOG_PID", self}}) ==
        microseconds(20'000'000));
  CHECK(interval_of({socket, {"WATCHDOG_USEC", "1"}}) == microseconds(1));
  CHECK(interval_of({socket, {"WATCHDOG_USEC", "20000000"}, {"WATCHDOG_PID", "1"}}) == std::nullopt);
  CHECK(interval_of({socket, {"WATCHDOG_USEC", "20000000"}, {"WATCHDOG_PID", "x"}}) == std::nullopt);
  for (const char* junk : {"", "0", "-5", "20s", "99999999999999999999"}) {
    CHECK(interval_of({socket, {"WATCHDOG_USEC", junk}}) == std::nullopt);
  }
  CHECK(interval_of({{"WATCHDOG_USEC", "20000000"}}) == std::nullopt);  // there is nobody to tell
}

}  // namespace
}  // namespace slackline
