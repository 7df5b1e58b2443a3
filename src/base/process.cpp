#include "slackline/base/process.h"

#include <signal.h>
#include <unistd.h>

#include <fstream>
#include <optional>
#include <sstream>
#include <string>

namespace slackline {
namespace {

struct Stat {
  char state;
  pid_t parent;
  std::uint64_t start_time;
  std::uint64_t virtual_bytes;
  std::uint64_t pending_signals;  // a bit each, from signal 1

  [[nodiscard]] bool has_ended() const { return state == 'Z' || state == 'X'; }
};

/// Fields 3, 4, 22, 23 and 31 of /proc/PID/stat. Field 2 is the command's name, in brackets, and may hold
/// anything.
std::optional<Stat> read_stat(const std::string& process) {
  std::ifstream file("/proc/" + process + "/stat");
  std::string line;
  if (!std::getline(file, line)) return std::nullopt;
  const std::size_t name_end = line.rfind(')');
  if (name_end == std::string::npos) return std::nullopt;
  std::istringstream fields(line.substr(name_end + 1));
  Stat stat{};
  fields >> stat.state >> stat.parent;
  std::string skipped;
  for (int field = 5; field < 22; ++field) fields >> skipped;
  fields >> stat.start_time >> stat.virtual_bytes;
  for (int field = 24; field < 31; ++field) fields >> skipped;
  fields >> stat.pending_signals;
  return fields ? std::optional(stat) : std::nullopt;
}

}  // namespace

ProcessIdentity this_process() {
  // Not by number: /proc may be of another PID namespace.
  const auto stat = read_stat("self");
  return {::getpid(), stat ? stat->start_time : 0};
}

std::optional<std::uint64_t> start_time_of(pid_t pid) {
  const auto stat = read_stat(std::to_string(pid));
  return stat ? std::optional(stat->start_time) : std::nullopt;
}

bool descends_from(pid_t pid, pid_t ancestor) {
  while (pid > 0) {
    if (pid == ancestor) return true;
    const auto stat = read_stat(std::to_string(pid));
    if (!stat) return false;
    pid = stat->parent;
  }
  return false;
}

bool is_alive(const ProcessIdentity& process) {
  const auto stat = read_stat(std::to_string(process.pid));
  return stat && stat->start_time == process.start_time && !stat->has_ended();
}

bool is_ending(pid_t pid) {
  const auto stat = read_stat(std::to_string(pid));
  if (!stat) return false;
  const bool is_killed = (stat->pending_signals >> (SIGKILL - 1) & 1U) != 0;
  return is_killed || stat->virtual_bytes == 0 || stat->has_ended();
}

}  // namespace slackline
