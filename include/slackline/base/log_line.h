#pragma once
#include <string_view>

namespace slackline {

/// Writes `prefix`, `text` and a newline to standard error, at most 4 KiB, unless that would wait for whoever
/// reads it: a log that nobody takes must not stop what it tells of. What was left out is counted, and the
/// next line that fits says how much. Any thread.
void log_line(std::string_view prefix, std::string_view text);

}  // namespace slackline
