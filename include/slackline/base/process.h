#pragma once
#include <sys/types.h>

#include <cstdint>
#include <optional>

namespace slackline {

/// A process that cannot be confused with a later one of the same number: its start time goes with it.
struct ProcessIdentity {
  pid_t pid = 0;
  /// Clock ticks since boot, from /proc/PID/stat; 0 if that cannot be read.
  std::uint64_t start_time = 0;

  bool operator==(const ProcessIdentity&) const = default;
};

[[nodiscard]] ProcessIdentity this_process();
/// When the process that has this number now began; nothing if there is none or /proc does not show it to us.
[[nodiscard]] std::optional<std::uint64_t> start_time_of(pid_t pid);
/// It is `ancestor`, its child, or a child of such a one, as far as /proc shows.
[[nodiscard]] bool descends_from(pid_t pid, pid_t ancestor);
/// False once it has ended, also as a zombie that nobody has waited for.
[[nodiscard]] bool is_alive(const ProcessIdentity& process);
/// It has been killed, and the kernel is about to let go, or has let go, of what it held. False once nobody
/// has this number any more.
[[nodiscard]] bool is_ending(pid_t pid);

}  // namespace slackline
