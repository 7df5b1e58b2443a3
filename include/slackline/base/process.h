#pragma once
#include <sys/types.h>

#include <cstdint>

namespace slackline {

/// A process that cannot be confused with a later one of the same number: its start time goes with it.
struct ProcessIdentity {
  pid_t pid = 0;
  /// Clock ticks since boot, from /proc/PID/stat.
  std::uint64_t start_time = 0;

  bool operator==(const ProcessIdentity&) const = default;
};

[[nodiscard]] ProcessIdentity this_process();
/// False once it has ended, also as a zombie that nobody has waited for.
[[nodiscard]] bool is_alive(const ProcessIdentity& process);

}  // namespace slackline
