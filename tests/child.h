#pragma once
#include <fcntl.h>
#include <sys/wait.h>
#include <unistd.h>

#include <string>
#include <vector>

#include "scratch_folder.h"

namespace slackline {

/// What a process left behind. `status` is -1 if a signal ended it.
struct ChildResult {
  int status = -1;
  std::string out;
  std::string err;
};

/// Runs `command` in `folder` to its end, without a shell.
inline ChildResult run_child(const std::vector<std::string>& command, const std::string& folder) {
  const ScratchFolder scratch;
  const std::string out = scratch.file("out");
  const std::string err = scratch.file("err");
  std::vector<char*> words;
  for (const std::string& word : command) words.push_back(const_cast<char*>(word.c_str()));
  words.push_back(nullptr);
  const pid_t child = ::fork();
  if (child == 0) {
    const auto redirect = [](const std::string& path, int to) {
      return ::dup2(::open(path.c_str(), O_WRONLY | O_CREAT | O_TRUNC, 0600), to) == to;
    };
    if (redirect(out, STDOUT_FILENO) && redirect(err, STDERR_FILENO) && ::chdir(folder.c_str()) == 0) {
      ::execv(words[0], words.data());
    }
    ::_exit(127);
  }
  int status = 0;
  if (child < 0 || ::waitpid(child, &status, 0) != child) return {};
  return {WIFEXITED(status) ? WEXITSTATUS(status) : -1, slurp(out), slurp(err)};
}

}  // namespace slackline
