#pragma once
#include <fcntl.h>
#include <signal.h>
#include <sys/wait.h>
#include <unistd.h>

#include <chrono>
#include <filesystem>
#include <fstream>
#include <functional>
#include <optional>
#include <sstream>
#include <string>
#include <thread>
#include <vector>

#include "child.h"
#include "scratch_folder.h"

namespace slackline {

/// Asks every millisecond until `holds` or the time is over.
inline bool wait_until(const std::function<bool()>& holds, std::chrono::milliseconds patience) {
  const auto deadline = std::chrono::steady_clock::now() + patience;
  while (!holds()) {
    if (std::chrono::steady_clock::now() > deadline) return false;
    std::this_thread::sleep_for(std::chrono::milliseconds(1));
  }
  return true;
}

/// A program that runs beside the test, in a session of its own. Killed at the end with all that it started.
class RunningProgram {
 public:
  explicit RunningProgram(const std::vector<std::string>& command) {
    std::vector<char*> words;
    for (const std::string& word : command) words.push_back(const_cast<char*>(word.c_str()));
    words.push_back(nullptr);
    const std::string out = scratch_.file("out");
    const std::string err = scratch_.file("err");
    pid_ = ::fork();
    if (pid_ != 0) return;
    ::setsid();
    ::dup2(::open(out.c_str(), O_WRONLY | O_CREAT | O_TRUNC, 0600), STDOUT_FILENO);
    ::dup2(::open(err.c_str(), O_WRONLY | O_CREAT | O_TRUNC, 0600), STDERR_FILENO);
    ::execv(words[0], words.data());
    ::_exit(127);
  }
  RunningProgram(const RunningProgram&) = delete;
  RunningProgram& operator=(const RunningProgram&) = delete;
  ~RunningProgram() {
    // Once it is reaped its number may become another's; whoever waited for it has ended its group.
    if (pid_ <= 0 || reaped_) return;
    ::kill(pid_, SIGKILL);
    ::kill(-pid_, SIGKILL);
    reap();
  }

  [[nodiscard]] pid_t pid() const { return pid_; }
  void signal(int number) const { ::kill(pid_, number); }
  void signal_group(int number) const { ::kill(-pid_, number); }
  /// Its status as a shell gives it.
  int wait() {
    reap();
    return WIFSIGNALED(wait_status_) ? 128 + WTERMSIG(wait_status_) : WEXITSTATUS(wait_status_);
  }
  [[nodiscard]] std::string out() const { return slurp(scratch_.file("out")); }
  [[nodiscard]] std::string err() const { return slurp(scratch_.file("err")); }

 private:
  void reap() {
    if (!reaped_) ::waitpid(pid_, &wait_status_, 0);
    reaped_ = true;
  }

  ScratchFolder scratch_;
  pid_t pid_ = -1;
  int wait_status_ = 0;
  bool reaped_ = false;
};

/// A process as /proc shows it.
struct ProcessEntry {
  pid_t pid = 0;
  pid_t parent = 0;
  std::vector<std::string> command;

  [[nodiscard]] bool is(const std::string& program) const {
    return !command.empty() && std::filesystem::path(command[0]).filename() == program;
  }
};

/// Children of `parent` that are no zombies.
inline std::vector<ProcessEntry> children_of(pid_t parent) {
  std::vector<ProcessEntry> children;
  std::error_code error;
  for (const auto& folder : std::filesystem::directory_iterator("/proc", error)) {
    const std::string name = folder.path().filename();
    if (name.find_first_not_of("0123456789") != std::string::npos) continue;
    const std::string stat = slurp(folder.path() / "stat");
    const std::size_t end = stat.rfind(')');
    if (end == std::string::npos) continue;
    std::istringstream fields(stat.substr(end + 1));
    std::string state;
    ProcessEntry entry;
    entry.pid = std::stoi(name);
    fields >> state >> entry.parent;
    if (entry.parent != parent || state == "Z" || state == "X") continue;
    std::istringstream words(slurp(folder.path() / "cmdline"));
    for (std::string word; std::getline(words, word, '\0');) entry.command.push_back(word);
    children.push_back(std::move(entry));
  }
  return children;
}

}  // namespace slackline
