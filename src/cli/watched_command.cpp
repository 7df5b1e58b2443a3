#include "watched_command.h"

#include <spawn.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cerrno>
#include <cstring>

#include "command.h"
#include "slackline/base/error.h"

namespace slackline {
namespace {

/// A terminal sends Ctrl-C and Ctrl-\ to its whole foreground group, and so to the command.
bool has_reached(pid_t child, const siginfo_t& info) {
  const bool is_key = info.si_signo == SIGINT || info.si_signo == SIGQUIT;
  return is_key && info.si_code == SI_KERNEL && ::getpgid(child) == ::getpgrp();
}

}  // namespace

WatchedCommand::WatchedCommand() {
  ::signal(SIGCHLD, SIG_DFL);                 // ignored, it would hide the command's end
  before_pipe_ = ::signal(SIGPIPE, SIG_IGN);  // the command's status counts, whoever reads what we print
  ::sigemptyset(&watched_);
  for (const int signal : {SIGINT, SIGTERM, SIGHUP, SIGQUIT, SIGUSR1, SIGUSR2, SIGCHLD})
    ::sigaddset(&watched_, signal);
  ::pthread_sigmask(SIG_BLOCK, &watched_, &before_);
}

std::string WatchedCommand::start(const std::vector<std::string>& command) {
  std::vector<char*> arguments;
  for (const std::string& word : command) arguments.push_back(const_cast<char*>(word.c_str()));
  arguments.push_back(nullptr);
  posix_spawnattr_t attributes;
  ::posix_spawnattr_init(&attributes);
  sigset_t defaults{};
  ::sigemptyset(&defaults);
  if (before_pipe_ != SIG_IGN) ::sigaddset(&defaults, SIGPIPE);
  ::posix_spawnattr_setflags(&attributes, POSIX_SPAWN_SETSIGMASK | POSIX_SPAWN_SETSIGDEF);
  ::posix_spawnattr_setsigmask(&attributes, &before_);
  ::posix_spawnattr_setsigdefault(&attributes, &defaults);
  const int error = ::posix_spawnp(&pid_, arguments[0], nullptr, &attributes, arguments.data(), environ);
  ::posix_spawnattr_destroy(&attributes);
  if (error == 0) return {};
  exit_status_ = error == ENOENT ? kNotFound : kCannotRun;
  return command.front() + ": " + (error == ENOENT ? "command not found" : std::strerror(error));
}

void WatchedCommand::wait() {
  while (true) {
    int status = 0;
    const pid_t ended = ::waitpid(pid_, &status, WNOHANG);
    if (ended == pid_) {
      exit_status_ = WIFSIGNALED(status) ? 128 + WTERMSIG(status) : WEXITSTATUS(status);
      const timespec now{};
      while (::sigtimedwait(&watched_, nullptr, &now) > 0) {  // Ctrl-C, for instance, that ended the command
      }
      ::pthread_sigmask(SIG_SETMASK, &before_, nullptr);  // what comes now is for us
      return;
    }
    if (ended < 0 && errno != EINTR) throw DeviceError("wait for the command", "", std::strerror(errno));
    siginfo_t info{};
    const int signal = ::sigwaitinfo(&watched_, &info);
    if (signal > 0 && signal != SIGCHLD && !has_reached(pid_, info)) ::kill(pid_, signal);
  }
}

}  // namespace slackline
