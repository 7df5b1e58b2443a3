#include "vendor_library.h"

#include <dlfcn.h>
#include <sys/auxv.h>
#include <sys/stat.h>
#include <unistd.h>

#include <array>
#include <cstdint>
#include <filesystem>
#include <fstream>
#include <sstream>

#include "slackline/base/error.h"
#include "slackline/base/user.h"

namespace slackline {
namespace {

/// Where distributions and container runtimes put driver libraries.
constexpr std::array kSystemFolders{
    "/usr/lib/x86_64-linux-gnu", "/usr/lib/aarch64-linux-gnu", "/usr/lib64", "/usr/lib", "/lib64", "/lib",
    "/usr/lib/wsl/lib"};

bool has_privileges() {
  return ::geteuid() == 0 || ::getauxval(AT_SECURE) != 0;
}

/// CAP_SYS_ADMIN, in effect.
bool has_capability() {
  constexpr int kSysAdmin = 21;
  std::ifstream file("/proc/self/status");
  for (std::string line; std::getline(file, line);) {
    if (!line.starts_with("CapEff:")) continue;
    std::uint64_t capabilities = 0;
    std::istringstream(line.substr(7)) >> std::hex >> capabilities;
    return (capabilities >> kSysAdmin & 1U) != 0;
  }
  return ::geteuid() == 0;
}

/// Nobody but root can have put `path` there.
bool belongs_to_root(const std::string& path) {
  struct stat status {};
  return ::stat(path.c_str(), &status) == 0 && status.st_uid == 0 && (status.st_mode & S_IWOTH) == 0;
}

/// The same of every folder above it. `file` has no links in it. In a folder with the sticky bit, such as
/// /tmp, nobody replaces what belongs to root.
bool only_root_can_change(std::filesystem::path file) {
  for (; file != file.root_path(); file = file.parent_path()) {
    struct stat status {};
    if (::lstat(file.c_str(), &status) != 0 || status.st_uid != 0) return false;
    const bool is_open = (status.st_mode & (S_IWGRP | S_IWOTH)) != 0;
    if (is_open && !(S_ISDIR(status.st_mode) && (status.st_mode & S_ISVTX) != 0)) return false;
  }
  return true;
}

}  // namespace

VendorLibrary::VendorLibrary(const Search& search, const std::optional<std::string>& path) {
  std::string reasons;
  const auto load = [&](const std::string& file) {
    handle_ = ::dlopen(file.c_str(), RTLD_NOW | RTLD_LOCAL);
    if (handle_ == nullptr) reasons += (reasons.empty() ? "" : "; ") + std::string(::dlerror());
    name_ = file;
    return handle_ != nullptr;
  };
  if (path) {
    if (!path->starts_with("/"))
      throw InputError("", 0, "library", "'" + *path + "' is not an absolute path");
    // Links are followed once: what is checked is what is loaded, now and when a journal names it again.
    std::error_code error;
    const std::filesystem::path file = std::filesystem::canonical(*path, error);
    if (error) throw DeviceError("load driver library", "", *path + ": " + error.message());
    // Who may run this by sudo may not thereby run what he likes as root.
    if (calling_user() && !only_root_can_change(file)) {
      throw DeviceError("load driver library", "",
                        file.string() + " could have been put there by somebody other than root");
    }
    if (load(file)) return;
    throw DeviceError("load driver library", "", reasons);
  }
  const auto load_from = [&](const std::string& folder, const std::string& name, bool from_root_only) {
    const std::string file = folder + "/" + name;
    if (::access(file.c_str(), F_OK) != 0) return false;
    if (!from_root_only || (belongs_to_root(folder) && belongs_to_root(file))) return load(file);
    reasons +=
        (reasons.empty() ? "" : "; ") + file + " could have been put there by somebody other than root";
    return false;
  };
  const bool privileged = has_privileges();
  for (const std::string& name : search.names) {
    if (!privileged && load(name)) return;
    for (const char* folder : kSystemFolders) {
      if (privileged && load_from(folder, name, true)) return;
    }
    for (const std::string& folder : search.folders) {
      if (load_from(folder, name, privileged)) return;
    }
  }
  throw DeviceError("load driver library", "",
                    reasons.empty() ? "there is no " + search.names.front() + " on this machine" : reasons);
}

void* VendorLibrary::symbol(const char* name) const {
  return ::dlsym(handle_, name);
}

bool may_set_clocks() {
  static const bool kMay = has_capability();
  return kMay;
}

}  // namespace slackline
