#pragma once
#include <string>

#include "slackline/runtime/journal.h"

namespace slackline {

/// Letters, digits, '-', '_' and '.' only, and not too long: what goes into file names and back out of them.
[[nodiscard]] bool is_plain_name(const std::string& text);

[[nodiscard]] std::string to_yaml(const Journal::Entry& entry);
/// InputError unless `path` is the whole entry of `gpu`: one that was cut short anywhere is none.
[[nodiscard]] Journal::Entry read_journal_entry(const std::string& path, const std::string& gpu);

}  // namespace slackline
