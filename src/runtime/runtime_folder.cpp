#include "slackline/runtime/runtime_folder.h"

#include <sys/stat.h>
#include <unistd.h>

#include <cerrno>
#include <cstdlib>
#include <cstring>
#include <filesystem>

#include "slackline/base/error.h"

namespace slackline {
namespace {

std::string preferred_folder() {
  const auto variable = [](const char* name) -> std::string {
    const char* value = ::secure_getenv(name);
    return value == nullptr ? "" : value;
  };
  if (const std::string own = variable("SLACKLINE_RUNTIME_DIR"); !own.empty()) return own;
  if (::geteuid() == 0) return "/run/slackline";
  if (const std::string user = variable("XDG_RUNTIME_DIR"); !user.empty()) return user + "/slackline";
  return "/tmp/slackline-" + std::to_string(::geteuid());
}

}  // namespace

std::string runtime_folder() {
  const std::string folder = std::filesystem::absolute(preferred_folder());  // the job may run elsewhere
  if (::mkdir(folder.c_str(), 0700) != 0 && errno != EEXIST) {
    throw DeviceError("use runtime folder", folder, std::strerror(errno));
  }
  struct stat status {};
  if (::lstat(folder.c_str(), &status) != 0)
    throw DeviceError("use runtime folder", folder, std::strerror(errno));
  if (!S_ISDIR(status.st_mode) || status.st_uid != ::geteuid() || (status.st_mode & 022) != 0) {
    throw DeviceError("use runtime folder", folder,
                      "it must be a folder of this user that nobody else may write");
  }
  return folder;
}

std::string make_private_folder(const std::string& parent, const std::string& prefix) {
  std::string path = parent + "/" + prefix + "XXXXXX";
  if (::mkdtemp(path.data()) == nullptr) throw DeviceError("make folder", path, std::strerror(errno));
  return path;
}

}  // namespace slackline
