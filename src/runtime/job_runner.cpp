#include "slackline/runtime/job_runner.h"

#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <sys/signalfd.h>
#include <sys/wait.h>
#include <unistd.h>

#include <array>
#include <cerrno>
#include <cstdlib>
#include <cstring>

#include "slackline/base/error.h"

namespace slackline {
namespace {

constexpr int kTickMs = 100;

sigset_t watched_signals() {
  sigset_t set{};
  ::sigemptyset(&set);
  for (const int signal : {SIGINT, SIGTERM, SIGHUP, SIGQUIT, SIGUSR1, SIGUSR2, SIGCHLD})
    ::sigaddset(&set, signal);
  return set;
}

std::vector<char*> argument_array(const std::vector<std::string>& command) {
  std::vector<char*> arguments;
  for (const std::string& word : command) arguments.push_back(const_cast<char*>(word.c_str()));
  arguments.push_back(nullptr);
  return arguments;
}

int status_of(int wait_status) {
  return WIFSIGNALED(wait_status) ? 128 + WTERMSIG(wait_status) : WEXITSTATUS(wait_status);
}

}  // namespace

Job::Job() {
  const sigset_t set = watched_signals();
  ::pthread_sigmask(SIG_BLOCK, &set, nullptr);
  signals_ = Descriptor(::signalfd(-1, &set, SFD_CLOEXEC | SFD_NONBLOCK));
  if (!signals_) throw DeviceError("watch signals", "", std::strerror(errno));
}

Job::~Job() {
  if (pid_ <= 0) return;
  ::kill(pid_, SIGKILL);
  ::waitpid(pid_, nullptr, 0);
}

std::string Job::start(const std::vector<std::string>& command, const std::string& variable,
                       const std::string& value) {
  std::array<int, 2> ends{};
  if (::pipe2(ends.data(), O_CLOEXEC) != 0) throw DeviceError("start command", "", std::strerror(errno));
  const Descriptor reader(ends[0]);
  Descriptor writer(ends[1]);
  std::vector<char*> arguments = argument_array(command);
  const pid_t child = ::fork();
  if (child < 0) throw DeviceError("start command", "", std::strerror(errno));
  if (child == 0) {
    const sigset_t set = watched_signals();
    ::pthread_sigmask(SIG_UNBLOCK, &set, nullptr);
    ::setenv(variable.c_str(), value.c_str(), 1);
    ::execvp(arguments[0], arguments.data());
    const int error = errno;
    [[maybe_unused]] const ssize_t written = ::write(writer.get(), &error, sizeof error);
    ::_exit(127);
  }
  writer.reset();
  int error = 0;
  if (::read(reader.get(), &error, sizeof error) != static_cast<ssize_t>(sizeof error)) {
    pid_ = child;
    return {};
  }
  ::waitpid(child, nullptr, 0);
  exit_status_ = error == ENOENT ? 127 : 126;
  return command.front() + ": " + (error == ENOENT ? "command not found" : std::strerror(error));
}

void Job::run(Agent& agent, const std::function<void()>& idle) {
  while (pid_ > 0) {
    std::array<pollfd, 2> waiting{{{signals_.get(), POLLIN, 0}, {agent.fd(), POLLIN, 0}}};
    if (::poll(waiting.data(), waiting.size(), kTickMs) < 0 && errno != EINTR) {
      throw DeviceError("wait", "", std::strerror(errno));
    }
    agent.serve();
    if (idle) idle();
    signalfd_siginfo info{};
    while (::read(signals_.get(), &info, sizeof info) == static_cast<ssize_t>(sizeof info)) {
      const int signal = static_cast<int>(info.ssi_signo);
      if (signal == SIGCHLD) {
        int status = 0;
        if (::waitpid(pid_, &status, WNOHANG) == pid_) {
          exit_status_ = status_of(status);
          pid_ = -1;
          break;
        }
      } else if (info.ssi_code != SI_KERNEL) {  // the terminal has sent it to the whole group already
        ::kill(pid_, signal);
      }
    }
  }
}

void Job::terminate() {
  if (pid_ > 0) ::kill(pid_, SIGTERM);
}

}  // namespace slackline
