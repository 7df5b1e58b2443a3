#include "slackline/base/file.h"

#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <array>
#include <cerrno>
#include <cstring>
#include <utility>

#include "slackline/base/descriptor.h"
#include "slackline/base/error.h"

namespace slackline {
namespace {

constexpr std::size_t kLargestFile = std::size_t{256} << 20;

[[noreturn]] void fail(const std::string& path, const std::string& what) {
  throw InputError(path, 0, "", what + ": " + std::strerror(errno));
}

void write_all(int fd, const std::string& path, std::string_view content) {
  while (!content.empty()) {
    const ssize_t written = ::write(fd, content.data(), content.size());
    if (written < 0 && errno == EINTR) continue;
    if (written < 0) fail(path, "cannot write");
    content.remove_prefix(static_cast<std::size_t>(written));
  }
}

mode_t mode_of(const std::string& path) {
  struct stat status {};
  if (::stat(path.c_str(), &status) == 0 && S_ISREG(status.st_mode)) return status.st_mode & 0777;
  // Asked once: two threads that do so at the same time could leave 0 behind.
  static const mode_t kMask = [] {
    const mode_t mask = ::umask(0);
    ::umask(mask);
    return mask;
  }();
  return 0666 & ~kMask;
}

/// A pipe, a terminal or /dev/null: nothing to rename onto.
bool is_special(const std::string& path) {
  struct stat status {};
  return path == "-" || (::stat(path.c_str(), &status) == 0 && !S_ISREG(status.st_mode));
}

void rename_onto(const std::string& path, std::string_view content, bool is_durable) {
  std::string temporary = path + ".XXXXXX";
  Descriptor fd(::mkostemp(temporary.data(), O_CLOEXEC));
  if (!fd) fail(path, "cannot write");
  try {
    write_all(fd.get(), path, content);
    if (::fchmod(fd.get(), mode_of(path)) != 0) fail(path, "cannot write");
    if (is_durable && ::fsync(fd.get()) != 0) fail(path, "cannot write");
    fd.reset();
    if (::rename(temporary.c_str(), path.c_str()) != 0) fail(path, "cannot write");
  } catch (...) {
    ::unlink(temporary.c_str());
    throw;
  }
}

}  // namespace

std::string read_file(const std::string& path) {
  const Descriptor fd(::open(path.c_str(), O_RDONLY | O_CLOEXEC));
  if (!fd) fail(path, "cannot read");
  struct stat status {};
  if (::fstat(fd.get(), &status) != 0) fail(path, "cannot read");
  if (S_ISDIR(status.st_mode)) throw InputError(path, 0, "", "is a directory, not a file");
  std::string content;
  std::array<char, 1 << 16> buffer{};
  while (true) {
    const ssize_t count = ::read(fd.get(), buffer.data(), buffer.size());
    if (count < 0 && errno == EINTR) continue;
    if (count < 0) fail(path, "cannot read");
    if (count == 0) return content;
    content.append(buffer.data(), static_cast<std::size_t>(count));
    if (content.size() > kLargestFile) throw InputError(path, 0, "", "larger than 256 MiB");
  }
}

void write_file(const std::string& path, std::string_view content) {
  if (is_special(path)) {
    const Descriptor special(path == "-" ? ::dup(STDOUT_FILENO) : ::open(path.c_str(), O_WRONLY | O_CLOEXEC));
    if (!special) fail(path, "cannot write");
    return write_all(special.get(), path, content);
  }
  rename_onto(path, content, true);
}

void expect_writable(const std::string& path) {
  if (path == "-") return;
  struct stat status {};
  if (::stat(path.c_str(), &status) == 0 && S_ISDIR(status.st_mode)) {
    errno = EISDIR;
    fail(path, "cannot write");
  }
  if (is_special(path)) {
    if (::faccessat(AT_FDCWD, path.c_str(), W_OK, AT_EACCESS) != 0) fail(path, "cannot write");
    return;
  }
  std::string temporary = path + ".XXXXXX";
  const Descriptor fd(::mkostemp(temporary.data(), O_CLOEXEC));
  if (!fd) fail(path, "cannot write");
  ::unlink(temporary.c_str());
}

void expect_replaceable(const std::string& path) {
  struct stat status {};
  if (::lstat(path.c_str(), &status) != 0) return;
  if (S_ISREG(status.st_mode) || S_ISFIFO(status.st_mode)) return;
  throw InputError(path, 0, "", "is no file; name one that may be replaced");
}

void replace_file(const std::string& path, std::string_view content) {
  expect_replaceable(path);
  rename_onto(path, content, false);
}

}  // namespace slackline
