#pragma once
#include <atomic>

namespace slackline {

/// Descriptors that a forked child must not keep: were it to hold a lease's socket open, the lease would
/// outlive its owner. They are closed in every child that fork() makes (exec closes them anyway).
void close_in_children(int fd);
/// Before `fd` is closed here.
void keep_in_children(int fd);

namespace fork_guard_detail {
extern std::atomic<unsigned> forks;
}

/// How often this process and those before it have forked since one of them had something to guard: another
/// number than before means that one is in a child.
[[nodiscard]] inline unsigned fork_count() {
  return fork_guard_detail::forks.load(std::memory_order_relaxed);
}

}  // namespace slackline
