#include "slackline/base/parallel.h"

#include <algorithm>
#include <atomic>
#include <exception>
#include <mutex>
#include <system_error>
#include <thread>
#include <vector>

namespace slackline {
namespace {

/// What the threads share.
class Work {
 public:
  Work(std::size_t count, const std::function<void(std::size_t)>& work) : count_(count), work_(work) {}

  /// Takes the next piece; false if there is none.
  bool do_one() {
    const std::size_t i = next_.fetch_add(1);
    if (i >= count_) return false;
    try {
      work_(i);
    } catch (...) {
      const std::lock_guard lock(mutex_);
      if (!failure_) failure_ = std::current_exception();
      next_ = count_;
    }
    completed_.fetch_add(1);
    return true;
  }
  [[nodiscard]] std::size_t completed() const { return completed_; }
  void rethrow() const {
    if (failure_) std::rethrow_exception(failure_);
  }

 private:
  std::size_t count_;
  const std::function<void(std::size_t)>& work_;
  std::atomic<std::size_t> next_ = 0;
  std::atomic<std::size_t> completed_ = 0;
  std::mutex mutex_;
  std::exception_ptr failure_;
};

}  // namespace

void for_each_in_parallel(std::size_t count, const std::function<void(std::size_t)>& work,
                          const std::function<void(std::size_t)>& done) {
  Work shared(count, work);
  std::vector<std::jthread> helpers;
  const std::size_t cores = std::max(1U, std::thread::hardware_concurrency());
  while (helpers.size() + 1 < std::min(cores, count)) {
    try {
      helpers.emplace_back([&shared] {
        while (shared.do_one()) {
        }
      });
    } catch (const std::system_error&) {
      break;  // where threads are scarce, fewer do the work
    }
  }
  while (shared.do_one()) {
    if (done) done(shared.completed());
  }
  helpers.clear();  // joins
  shared.rethrow();
}

}  // namespace slackline
