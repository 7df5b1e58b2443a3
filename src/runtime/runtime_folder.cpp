#include "slackline/runtime/runtime_folder.h"

#include <fcntl.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cerrno>
#include <cstdlib>
#include <cstring>
#include <filesystem>
#include <optional>
#include <string_view>

#include "slackline/base/error.h"
#include "slackline/base/number_text.h"
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

/// Empty if somebody has it locked.
Descriptor locked_folder(const std::string& path) {
  Descriptor folder(::open(path.c_str(), O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC));
  if (!folder || ::flock(folder.get(), LOCK_EX | LOCK_NB) != 0) return {};
  return folder;
}

/// The 123 of "job-123-x7Bq0a"; nothing for what is no folder of a process.
std::optional<std::int64_t> maker_of(const std::string& name) {
  for (const std::string_view kind : {kJobFolder, kNodeFolder}) {
    const std::size_t end = name.rfind('-');
    if (name.starts_with(kind) && end > kind.size())
      return parse_integer(name.substr(kind.size(), end - kind.size()));
  }
  return std::nullopt;
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

PrivateFolder::PrivateFolder(const std::string& parent, const std::string& kind)
    : path_(parent + "/" + kind + std::to_string(::getpid()) + "-XXXXXX") {
  if (::mkdtemp(path_.data()) == nullptr) throw DeviceError("make folder", path_, std::strerror(errno));
  lock_ = locked_folder(path_);
  if (!lock_) throw DeviceError("lock folder", path_, std::strerror(errno));
}

PrivateFolder::~PrivateFolder() {
  std::error_code ignored;
  std::filesystem::remove_all(path_, ignored);
}

void remove_abandoned_folders(const std::string& parent) {
  std::error_code error;
  for (const auto& entry : std::filesystem::directory_iterator(parent, error)) {
    const auto pid = maker_of(entry.path().filename());
    // A number that is not known here may be of another PID namespace.
    if (!pid || ::access(("/proc/" + std::to_string(*pid)).c_str(), F_OK) == 0) continue;
    if (locked_folder(entry.path())) std::filesystem::remove_all(entry.path(), error);
  }
}

}  // namespace slackline
