#include "slackline/runtime/guardian.h"

#include <signal.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <chrono>
#include <cstring>
#include <string>
#include <thread>
#include <vector>

#include "slackline/base/error.h"
#include "slackline/runtime/journal.h"

namespace slackline {
namespace {

/// How long the guardian tries again where a driver refuses.
constexpr auto kPatience = std::chrono::seconds(2);
constexpr auto kPause = std::chrono::milliseconds(20);

bool write_ready(int fd) {
  const char ready = 1;
  ssize_t written = 0;
  do {
    written = ::write(fd, &ready, 1);
  } while (written < 0 && errno == EINTR);
  return written == 1;
}

/// One byte, or the end of the other side.
ssize_t read_byte(int fd) {
  char byte = 0;
  ssize_t count = 0;
  do {
    count = ::read(fd, &byte, 1);
  } while (count < 0 && errno == EINTR);
  return count;
}

}  // namespace

Guardian::Guardian(const std::string& journal_folder) {
  std::array<int, 2> ends{};
  if (::socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, ends.data()) != 0) {
    throw DeviceError("start guardian", "", std::strerror(errno));
  }
  lifeline_ = Descriptor(ends[0]);
  Descriptor theirs(ends[1]);
  const std::string owner = std::to_string(::getpid());
  pid_ = ::fork();
  if (pid_ < 0) throw DeviceError("start guardian", "", std::strerror(errno));
  if (pid_ == 0) {
    ::setsid();
    ::dup2(theirs.get(), STDIN_FILENO);
    ::execl("/proc/self/exe", "slackline", "guard", journal_folder.c_str(), owner.c_str(),
            static_cast<char*>(nullptr));
    ::_exit(127);
  }
  theirs.reset();
  // Until it says so it may not have left our process group: whoever kills that would kill it, too.
  if (read_byte(lifeline_.get()) == 1) return;
  end();
  throw DeviceError("start guardian", "", "it ended before it was ready");
}

Guardian::~Guardian() {
  end();
}

void Guardian::end() {
  lifeline_.reset();
  while (::waitpid(pid_, nullptr, 0) < 0 && errno == EINTR) {
  }
}

int stand_guard(const std::string& journal_folder, pid_t owner) {
  for (const int signal : {SIGINT, SIGTERM, SIGHUP, SIGQUIT, SIGPIPE}) ::signal(signal, SIG_IGN);
  if (write_ready(STDIN_FILENO)) read_byte(STDIN_FILENO);
  // The lifeline closes after the owner's last instruction, a moment before it counts as dead.
  Journal journal(journal_folder);
  const auto deadline = std::chrono::steady_clock::now() + kPatience;
  int restored = 0;
  while (true) {
    restored += static_cast<int>(journal.restore_leftovers().gpus.size());
    const std::vector<Journal::Entry> left = journal.entries();
    const bool is_done =
        std::ranges::none_of(left, [&](const Journal::Entry& entry) { return entry.owner == owner; });
    if (is_done || std::chrono::steady_clock::now() > deadline) return restored;
    std::this_thread::sleep_for(kPause);
  }
}

}  // namespace slackline
