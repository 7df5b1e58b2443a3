#include "slackline/runtime/fork_guard.h"

#include <pthread.h>
#include <unistd.h>

#include <algorithm>
#include <atomic>
#include <mutex>
#include <vector>

namespace slackline {

constinit std::atomic<unsigned> fork_guard_detail::forks = 0;

namespace {

/// Lives forever: children fork at any time, also while the process ends.
struct Guarded {
  std::mutex mutex;
  std::vector<int> descriptors;
};

Guarded& guarded() {
  static Guarded* const kGuarded = [] {
    auto* made = new Guarded;
    // The lock is taken over the fork, so that the child finds the list whole.
    ::pthread_atfork([] { guarded().mutex.lock(); }, [] { guarded().mutex.unlock(); },
                     [] {
                       Guarded& self = guarded();
                       for (const int fd : self.descriptors) ::close(fd);
                       self.descriptors.clear();
                       fork_guard_detail::forks.fetch_add(1, std::memory_order_relaxed);
                       self.mutex.unlock();
                     });
    return made;
  }();
  return *kGuarded;
}

}  // namespace

void close_in_children(int fd) {
  Guarded& self = guarded();
  const std::lock_guard lock(self.mutex);
  self.descriptors.push_back(fd);
}

void keep_in_children(int fd) {
  Guarded& self = guarded();
  const std::lock_guard lock(self.mutex);
  std::erase(self.descriptors, fd);
}

}  // namespace slackline
