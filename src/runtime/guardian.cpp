#include "slackline/runtime/guardian.h"

#include <fcntl.h>
#include <signal.h>
#include <sys/wait.h>
#include <unistd.h>

#include <array>
#include <cerrno>
#include <cstring>
#include <string>

#include "slackline/base/error.h"
#include "slackline/runtime/journal.h"

namespace slackline {
Guardian::Guardian(const std::string& journal_folder) {
  std::array<int, 2> ends{};
  if (::pipe2(ends.data(), O_CLOEXEC) != 0) throw DeviceError("start guardian", "", std::strerror(errno));
  const Descriptor reader(ends[0]);
  lifeline_ = Descriptor(ends[1]);
  pid_ = ::fork();
  if (pid_ < 0) throw DeviceError("start guardian", "", std::strerror(errno));
  if (pid_ == 0) {
    ::setsid();
    ::dup2(reader.get(), STDIN_FILENO);
    ::execl("/proc/self/exe", "slackline", "guard", journal_folder.c_str(), static_cast<char*>(nullptr));
    ::_exit(127);
  }
}

Guardian::~Guardian() {
  lifeline_.reset();
  while (::waitpid(pid_, nullptr, 0) < 0 && errno == EINTR) {
  }
}

int stand_guard(const std::string& journal_folder) {
  for (const int signal : {SIGINT, SIGTERM, SIGHUP, SIGQUIT, SIGPIPE}) ::signal(signal, SIG_IGN);
  const pid_t owner = ::getppid();
  char byte = 0;
  while (::read(STDIN_FILENO, &byte, 1) < 0 && errno == EINTR) {
  }
  // The lifeline closes after the owner's last instruction, a moment before it counts as dead.
  return static_cast<int>(Journal(journal_folder).restore_leftovers(owner).size());
}

}  // namespace slackline
