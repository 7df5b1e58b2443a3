#include "slackline/base/log_line.h"

#include <limits.h>
#include <poll.h>
#include <unistd.h>

#include <algorithm>
#include <mutex>
#include <string>

namespace slackline {

void log_line(std::string_view prefix, std::string_view text) {
  static std::mutex mutex;
  static unsigned left_out = 0;
  const std::lock_guard lock(mutex);
  // A pipe that is ready takes this much at once.
  constexpr std::size_t kMost = PIPE_BUF;
  pollfd output{STDERR_FILENO, POLLOUT, 0};
  if (::poll(&output, 1, 0) <= 0 || (output.revents & POLLOUT) == 0) {
    ++left_out;
    return;
  }
  std::string line(prefix);
  if (left_out > 0) line += "(" + std::to_string(left_out) + " lines before this one could not be written) ";
  line += text;
  line.resize(std::min(line.size(), kMost - 1));
  line += '\n';
  const bool is_written =
      ::write(STDERR_FILENO, line.data(), line.size()) == static_cast<ssize_t>(line.size());
  left_out = is_written ? 0 : left_out + 1;
}

}  // namespace slackline
