#include "slackline/runtime/job_runner.h"

#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <sys/prctl.h>
#include <sys/signalfd.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <cstdlib>
#include <cstring>
#include <fstream>

#include "slackline/base/error.h"

namespace slackline {
namespace {

/// Killing a process hands its children to us, and so on.
constexpr int kMostGenerations = 64;
constexpr int kTickMs = 100;
/// Between asking a command to end and killing it.
constexpr auto kGrace = std::chrono::seconds(5);

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

bool ends_a_job(int signal) {
  return signal == SIGINT || signal == SIGTERM || signal == SIGHUP || signal == SIGQUIT;
}

/// A terminal sends Ctrl-C and Ctrl-\ to its whole foreground group, and so to a command in our group.
bool has_reached(pid_t child, const signalfd_siginfo& info) {
  const bool is_key = info.ssi_signo == SIGINT || info.ssi_signo == SIGQUIT;
  return is_key && info.ssi_code == SI_KERNEL && ::getpgid(child) == ::getpgrp();
}

std::vector<int> children() {
  const std::string self = std::to_string(::getpid());
  std::ifstream file("/proc/" + self + "/task/" + self + "/children");
  std::vector<int> pids;
  for (int pid = 0; file >> pid;) pids.push_back(pid);
  return pids;
}

int status_of(int wait_status) {
  return WIFSIGNALED(wait_status) ? 128 + WTERMSIG(wait_status) : WEXITSTATUS(wait_status);
}

}  // namespace

Job::Job() : others_(children()) {
  ::signal(SIGCHLD, SIG_DFL);  // ignored, it would hide the command's end
  ::prctl(PR_SET_CHILD_SUBREAPER, 1);
  const sigset_t set = watched_signals();
  ::pthread_sigmask(SIG_BLOCK, &set, nullptr);
  signals_ = Descriptor(::signalfd(-1, &set, SFD_CLOEXEC | SFD_NONBLOCK));
  if (!signals_) throw DeviceError("watch signals", "", std::strerror(errno));
}

Job::~Job() {
  if (pid_ > 0) {
    ::kill(pid_, SIGKILL);
    ::waitpid(pid_, nullptr, 0);
  }
  if (!terminated_) return;  // a command that ended by itself may leave behind what it likes
  for (int round = 0; round < kMostGenerations; ++round) {
    bool found = false;
    for (const int child : children()) {
      if (std::find(others_.begin(), others_.end(), child) != others_.end()) continue;
      found = true;
      ::kill(child, SIGKILL);
      ::waitpid(child, nullptr, 0);
    }
    if (!found) return;
  }
}

std::string Job::start(const std::vector<std::string>& command, const std::string& variable,
                       const std::string& value, const std::optional<User>& user) {
  std::array<int, 2> ends{};
  if (::pipe2(ends.data(), O_CLOEXEC) != 0) throw DeviceError("start command", "", std::strerror(errno));
  const Descriptor reader(ends[0]);
  Descriptor writer(ends[1]);
  std::vector<char*> arguments = argument_array(command);
  signalfd_siginfo pending{};
  while (::read(signals_.get(), &pending, sizeof pending) == static_cast<ssize_t>(sizeof pending)) {
    if (!ends_a_job(static_cast<int>(pending.ssi_signo))) continue;
    exit_status_ = 128 + static_cast<int>(pending.ssi_signo);
    return "interrupted before the job began";
  }
  const pid_t child = ::fork();
  if (child < 0) throw DeviceError("start command", "", std::strerror(errno));
  if (child == 0) {
    const sigset_t set = watched_signals();
    ::pthread_sigmask(SIG_UNBLOCK, &set, nullptr);
    ::setenv(variable.c_str(), value.c_str(), 1);
    if (!user || become(*user)) ::execvp(arguments[0], arguments.data());
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

void Job::run(JobServer& server, const std::function<void()>& idle) {
  while (pid_ > 0) {
    std::array<pollfd, 2> waiting{{{signals_.get(), POLLIN, 0}, {server.fd(), POLLIN, 0}}};
    if (::poll(waiting.data(), waiting.size(), kTickMs) < 0 && errno != EINTR) {
      throw DeviceError("wait", "", std::strerror(errno));
    }
    server.serve();
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
        continue;
      }
      if (ends_a_job(signal)) interrupted_by_ = signal;
      if (!has_reached(pid_, info)) ::kill(pid_, signal);
    }
    if (pid_ > 0 && terminated_ && std::chrono::steady_clock::now() > *terminated_ + kGrace) {
      ::kill(pid_, SIGKILL);
    }
  }
}

void Job::terminate() {
  if (pid_ <= 0 || terminated_) return;
  ::kill(pid_, SIGTERM);
  terminated_ = std::chrono::steady_clock::now();
}

}  // namespace slackline
