#include "slackline/runtime/runtime_folder.h"

#include <sys/stat.h>
#include <unistd.h>

#include <cerrno>
#include <cstdlib>
#include <cstring>
#include <filesystem>

#include "slackline/base/error.h"
#include "slackline/base/user.h"

namespace slackline {
namespace {

constexpr const char* kSystemFolder = "/run/slackline";

std::string preferred_folder() {
  const auto variable = [](const char* name) -> std::string {
    const char* value = ::secure_getenv(name);
    return value == nullptr ? "" : value;
  };
  if (calling_user()) return kSystemFolder;
  if (const std::string own = variable("SLACKLINE_RUNTIME_DIR"); !own.empty()) return own;
  if (::geteuid() == 0) return kSystemFolder;
  if (const std::string user = variable("XDG_RUNTIME_DIR"); !user.empty()) return user + "/slackline";
  return "/tmp/slackline-" + std::to_string(::geteuid());
}

}  // namespace

std::string runtime_folder() {
  return runtime_folder("");
}

std::string journal_folder(const std::string& runtime_folder) {
  return runtime_folder + "/journal";
}

std::string runtime_folder(const std::string& named) {
  const std::string folder =
      std::filesystem::absolute(named.empty() ? preferred_folder() : named);  // the job may run elsewhere
  const mode_t mode = folder == kSystemFolder ? 0711 : 0700;
  const bool is_new = ::mkdir(folder.c_str(), mode) == 0;
  if (!is_new && errno != EEXIST) throw DeviceError("use runtime folder", folder, std::strerror(errno));
  if (is_new && ::chmod(folder.c_str(), mode) != 0) {  // the umask may have taken from it
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

PrivateFolder::PrivateFolder(const std::string& parent, const std::string& prefix)
    : path_(make_private_folder(parent, prefix)) {}

PrivateFolder::~PrivateFolder() {
  std::error_code ignored;
  std::filesystem::remove_all(path_, ignored);
}

}  // namespace slackline
