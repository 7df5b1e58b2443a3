#include "job_name.h"

#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstring>
#include <filesystem>

#include "slackline/base/error.h"
#include "slackline/runtime/packet_socket.h"

namespace slackline {
namespace {

namespace fs = std::filesystem;

constexpr std::string_view kPrefix = "job.";
constexpr std::size_t kLongestName = 64;

bool is_name(const std::string& name) {
  const auto is_plain = [](char c) {
    return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') || c == '-' ||
           c == '_' || c == '.';
  };
  return !name.empty() && name.size() <= kLongestName && std::ranges::all_of(name, is_plain);
}

}  // namespace

JobName::JobName(const std::string& runtime_folder, const std::string& given, const std::string& socket) {
  const std::string name = given.empty() ? std::to_string(::getpid()) : given;
  if (!is_name(name)) {
    throw InputError("", 0, "--job",
                     "'" + name + "' is no name; up to 64 letters, digits, '-', '_' and '.' are");
  }
  const std::vector<std::string> running = running_jobs(runtime_folder);
  const std::string path = socket_of_job(runtime_folder, name);
  if (std::ranges::find(running, name) != running.end() || ::symlink(socket.c_str(), path.c_str()) != 0) {
    throw InputError("", 0, "--job",
                     errno == EEXIST || errno == 0 ? "a job '" + name + "' is running already"
                                                   : path + ": " + std::strerror(errno));
  }
  path_ = path;
}

JobName::~JobName() {
  if (!path_.empty()) ::unlink(path_.c_str());
}

std::string socket_of_job(const std::string& runtime_folder, const std::string& name) {
  return runtime_folder + "/" + std::string(kPrefix) + name;
}

std::vector<std::string> running_jobs(const std::string& runtime_folder) {
  std::vector<std::string> names;
  std::error_code error;
  for (const auto& entry : fs::directory_iterator(runtime_folder, error)) {
    const std::string file = entry.path().filename().string();
    if (!file.starts_with(kPrefix) || !entry.is_symlink(error)) continue;
    // Whoever served it has gone with its folder, or its socket refuses.
    if (::access(entry.path().c_str(), F_OK) == 0) {
      names.push_back(file.substr(kPrefix.size()));
    } else {
      ::unlink(entry.path().c_str());
    }
  }
  std::ranges::sort(names);
  return names;
}

}  // namespace slackline
