#pragma once
#include <signal.h>
#include <sys/wait.h>
#include <unistd.h>

#include <array>

#include "catch.h"

namespace slackline {

/// Runs `what` in a process of its own, which then waits to be killed; or ends at once.
class OtherProcess {
 public:
  template <class What>
  explicit OtherProcess(What what) {
    std::array<int, 2> ends{};
    REQUIRE(::pipe(ends.data()) == 0);
    pid_ = ::fork();
    if (pid_ == 0) {
      what();
      [[maybe_unused]] const ssize_t count = ::write(ends[1], "x", 1);
      while (true) ::pause();
    }
    char byte = 0;
    ::close(ends[1]);
    REQUIRE(::read(ends[0], &byte, 1) == 1);
    ::close(ends[0]);
  }
  OtherProcess(const OtherProcess&) = delete;
  OtherProcess& operator=(const OtherProcess&) = delete;
  ~OtherProcess() { kill(); }
  void kill() {
    if (pid_ <= 0) return;
    ::kill(pid_, SIGKILL);
    ::waitpid(pid_, nullptr, 0);
    pid_ = -1;
  }
  [[nodiscard]] pid_t pid() const { return pid_; }

 private:
  pid_t pid_ = -1;
};

}  // namespace slackline
