#pragma once
#include <optional>
#include <string>
#include <vector>

namespace slackline {

/// A driver's library, loaded while we run and never linked. It stays loaded: drivers do not like to be
/// unloaded.
class VendorLibrary {
 public:
  /// Where to look: sonames, best first, and folders that the vendor uses beside the system's own.
  struct Search {
    std::vector<std::string> names;
    std::vector<std::string> folders;
  };

  /// `path`, absolute, names the library itself and is never passed over. Else a process with privileges
  /// takes it only from folders that belong to root, by absolute path, so that no variable of its caller's
  /// (LD_LIBRARY_PATH) decides what runs as root; others let the loader search, then `folders`. DeviceError,
  /// with every reason, if there is none.
  VendorLibrary(const Search& search, const std::optional<std::string>& path);

  /// Null if it has no such function.
  template <class Function>
  [[nodiscard]] Function* find(const char* name) const {
    return reinterpret_cast<Function*>(symbol(name));
  }
  /// As it was loaded: an absolute path (without links, if it was named), or a soname.
  [[nodiscard]] const std::string& name() const { return name_; }

 private:
  [[nodiscard]] void* symbol(const char* name) const;

  std::string name_;
  void* handle_ = nullptr;
};

/// Root, or CAP_SYS_ADMIN: what drivers ask of those who set clocks.
[[nodiscard]] bool may_set_clocks();

}  // namespace slackline
