#pragma once
#include <string>
#include <string_view>

namespace slackline {

/// The whole of a regular file. InputError when it is missing, unreadable, a directory or above 256 MiB.
[[nodiscard]] std::string read_file(const std::string& path);

/// Replaces `path` by `content` in one step: a reader sees the old file or the new one, and a failure
/// (InputError) leaves the old one. The new content is on the disk when this returns. "-" writes to standard
/// output.
void write_file(const std::string& path, std::string_view content);
/// InputError if that could not be done now.
void expect_writable(const std::string& path);
/// write_file() for what a crash may take and the next second renews: waits for no disk, and for no reader
/// either, since a pipe at `path` is replaced like a file. InputError for a device, a link or a folder.
void replace_file(const std::string& path, std::string_view content);
/// InputError if what is at `path` is nothing to be replaced.
void expect_replaceable(const std::string& path);

}  // namespace slackline
