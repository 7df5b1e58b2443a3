#pragma once

namespace slackline {

/// Descriptors that a forked child must not keep: were it to hold a lease's socket open, the lease would
/// outlive its owner. They are closed in every child that fork() makes (exec closes them anyway).
void close_in_children(int fd);
/// Before `fd` is closed here.
void keep_in_children(int fd);
/// How often this process and those before it have forked: another number than before means that one is in a
/// child.
[[nodiscard]] unsigned fork_count();

}  // namespace slackline
