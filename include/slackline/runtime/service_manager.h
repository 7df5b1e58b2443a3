#pragma once
#include <chrono>
#include <optional>
#include <string>
#include <string_view>

#include "slackline/base/descriptor.h"

namespace slackline {

/// The service manager (systemd) that started this process, if one did and wants to hear from it: the
/// sd_notify protocol, without its library. Nothing here fails or waits; without a manager nothing happens.
class ServiceManager {
 public:
  /// Reads $NOTIFY_SOCKET, $WATCHDOG_USEC and $WATCHDOG_PID, once. They are ignored in a program that runs
  /// with more rights than its caller.
  ServiceManager();

  /// Requests can be served. False if the manager has not been told, because there is none or it is too busy:
  /// try again later.
  bool ready() const { return send("READY=1"); }
  /// The end has begun.
  bool stopping() const { return send("STOPPING=1"); }
  /// This process is not stuck. Say so at least twice within watchdog_interval().
  bool keep_alive() const { return send("WATCHDOG=1"); }
  /// After how long a silence this process is killed; nothing if never.
  [[nodiscard]] std::optional<std::chrono::microseconds> watchdog_interval() const { return interval_; }

 private:
  bool send(std::string_view message) const;

  std::string address_;  // of a Unix socket; begins with a zero byte if it is abstract
  Descriptor socket_;
  std::optional<std::chrono::microseconds> interval_;
};

}  // namespace slackline
