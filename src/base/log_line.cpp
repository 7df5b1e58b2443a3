#include "slackline/base/log_line.h"

#include <limits.h>
#include <poll.h>
#include <unistd.h>

#include <algorithm>
#include <atomic>
#include <string>

namespace slackline {

void log_line(std::string_view prefix, std::string_view text) {
  static std::atomic<unsigned> left_out = 0;
  // A pipe that is ready takes this much at once.
  constexpr std::size_t kMost = PIPE_BUF;
  pollfd output{STDERR_FILENO, POLLOUT, 0};
  if (::poll(&output, 1, 0) <= 0 || (output.revents & POLLOUT) == 0) {
    ++left_out;
    return;
  }
  std::string line(prefix);
  if (const unsigned count = left_out.exchange(0); count > 0)
    line += "(" + std::to_string(count) + " lines before this one could not be written) ";
  line += text;
  line.resize(std::min(line.size(), kMost - 1));
  line += '\n';
  [[maybe_unused]] const ssize_t written = ::write(STDERR_FILENO, line.data(), line.size());
}

}  // namespace slackline
