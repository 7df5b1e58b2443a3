#include <fcntl.h>
#include <grp.h>
#include <pwd.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <cstring>
#include <utility>

#include "../base/strict_yaml.h"
#include "slackline/base/descriptor.h"
#include "slackline/base/error.h"
#include "slackline/base/number_text.h"
#include "slackline/runtime/policy.h"

namespace slackline {
namespace {

constexpr std::size_t kMostRules = 1000;
constexpr std::size_t kMostNames = 1000;  // in one list
constexpr std::size_t kLongestName = 200;
constexpr std::size_t kLargestFile = std::size_t{1} << 20;
constexpr std::int64_t kHighestId = 0xffff'fffe;  // the one above means "no such user" to the kernel

/// What UUIDs consist of; see GpuIdentity.
bool is_plain(char c) {
  return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') || c == '-' || c == '_' ||
         c == '.';
}

std::vector<YamlNode> items_up_to(const YamlNode& list, std::size_t most) {
  std::vector<YamlNode> items = list.items();
  if (items.size() > most) list.fail("more than " + std::to_string(most) + " entries");
  return items;
}

/// The number that a user or group database has for `name`; nothing if it has none. `look_up` is getpwnam_r
/// or getgrnam_r, and `number` the member of its entry.
template <class Entry, class Number>
std::optional<Number> look_up_name(const YamlNode& node, const std::string& name,
                                   int (*look_up)(const char*, Entry*, char*, std::size_t, Entry**),
                                   Number Entry::*number) {
  constexpr std::size_t kLargestEntry = std::size_t{16} << 20;  // a group lists its members
  std::vector<char> buffer(4096);
  while (true) {
    Entry entry{};
    Entry* found = nullptr;
    const int error = look_up(name.c_str(), &entry, buffer.data(), buffer.size(), &found);
    if (found != nullptr) return entry.*number;
    if (error == EINTR) continue;
    if (error == ERANGE && buffer.size() < kLargestEntry) {
      buffer.resize(buffer.size() * 2);
      continue;
    }
    // What the manual lists as "not found".
    if (error == 0 || error == ENOENT || error == ESRCH || error == EBADF || error == EPERM) {
      return std::nullopt;
    }
    node.fail("cannot look up '" + name + "': " + std::strerror(error));
  }
}

/// `kind` is "user" or "group". Only digits are always a number, as in chown where no user has such a name.
template <class Entry, class Number>
Number read_id(const YamlNode& node, const std::string& kind,
               int (*look_up)(const char*, Entry*, char*, std::size_t, Entry**), Number Entry::*number) {
  const std::string name = node.text();
  if (name.empty() || name.size() > kLongestName || name.find('\0') != std::string::npos) {
    node.fail("expected the name or number of a " + kind);
  }
  if (std::ranges::all_of(name, [](char c) { return c >= '0' && c <= '9'; })) {
    const auto id = parse_integer(name);
    if (!id || *id > kHighestId) node.fail("'" + name + "' is too large for the number of a " + kind);
    return static_cast<Number>(*id);
  }
  const auto id = look_up_name(node, name, look_up, number);
  if (!id) node.fail("unknown " + kind + " '" + name + "'");
  return *id;
}

uid_t read_user(const YamlNode& node) {
  return read_id(node, "user", ::getpwnam_r, &passwd::pw_uid);
}

gid_t read_group(const YamlNode& node) {
  return read_id(node, "group", ::getgrnam_r, &group::gr_gid);
}

/// A UUID, or the canonical form of a PCI address.
std::string read_gpu(const YamlNode& node) {
  const std::string name = node.text();
  if (name.find(':') != std::string::npos) {
    const auto address = canonical_pci_address(name);
    if (!address) node.fail("'" + name + "' is no PCI address with a domain, such as 0000:3b:00.0");
    return *address;
  }
  if (name.empty() || name.size() > kLongestName || !std::ranges::all_of(name, is_plain)) {
    node.fail("'" + name + "' is neither the UUID nor the PCI address of a GPU");
  }
  if (name == "all") node.fail("write 'gpus: all', without a list");
  return name;
}

GpuSelection read_gpus(const YamlNode& node) {
  GpuSelection gpus;
  if (node.is_text()) {
    if (node.text() != "all") node.fail("expected 'all' or a list of UUIDs and PCI addresses");
    gpus.is_all = true;
    return gpus;
  }
  for (const YamlNode& item : items_up_to(node, kMostNames)) {
    if (!gpus.names.insert(read_gpu(item)).second) item.fail("'" + item.text() + "' comes twice");
  }
  return gpus;
}

Megahertz read_clock(const YamlNode& node) {
  return Megahertz(node.integer(1, kHighestPolicyClock.value()));
}

ClockRange read_range(const YamlNode& node) {
  const std::vector<YamlNode> ends = node.items();
  if (ends.size() != 2) node.fail("expected the lowest and the highest clock, such as [600, 1410]");
  const ClockRange range{read_clock(ends[0]), read_clock(ends[1])};
  if (range.highest < range.lowest) node.fail("the lowest clock is above the highest");
  return range;
}

/// Entries are tried in order, so what an earlier one has taken would never be read.
void expect_untaken(const YamlNode& node, const GpuSelection& gpus,
                    const std::vector<Policy::Baseline>& earlier) {
  for (const Policy::Baseline& other : earlier) {
    if (other.gpus.is_all) node.fail("an earlier baseline is for all GPUs; put this one before it");
    const auto taken =
        std::ranges::find_if(gpus.names, [&](const auto& name) { return other.gpus.names.contains(name); });
    if (taken != gpus.names.end()) node.fail("'" + *taken + "' has a baseline already");
  }
}

std::vector<Policy::Baseline> read_baselines(const YamlNode& node) {
  std::vector<Policy::Baseline> baselines;
  for (const YamlNode& item : items_up_to(node, kMostRules)) {
    item.expect_keys({"gpus", "clock_mhz"});
    GpuSelection gpus = read_gpus(item.at("gpus"));
    expect_untaken(item.at("gpus"), gpus, baselines);
    baselines.push_back({std::move(gpus), read_clock(item.at("clock_mhz"))});
  }
  return baselines;
}

Policy::Rule read_rule(const YamlNode& node) {
  node.expect_keys({"users", "groups", "gpus", "clock_mhz"});
  if (!node.has("users") && !node.has("groups")) node.fail("a rule needs 'users' or 'groups'");
  Policy::Rule rule;
  if (node.has("users")) {
    for (const YamlNode& item : items_up_to(node.at("users"), kMostNames)) rule.users.insert(read_user(item));
  }
  if (node.has("groups")) {
    for (const YamlNode& item : items_up_to(node.at("groups"), kMostNames))
      rule.groups.insert(read_group(item));
  }
  rule.gpus = read_gpus(node.at("gpus"));
  rule.clocks = node.has("clock_mhz") ? read_range(node.at("clock_mhz"))
                                      : ClockRange{Megahertz(1), kHighestPolicyClock};
  return rule;
}

/// As a word of a shell command.
std::string shell_word(const std::string& text) {
  const auto needs_no_quotes = [](char c) { return is_plain(c) || c == '/'; };
  if (std::ranges::all_of(text, needs_no_quotes) && !text.starts_with('-')) return text;
  std::string quoted = text.starts_with('-') ? "'./" : "'";
  for (const char c : text) quoted += c == '\'' ? "'\\''" : std::string(1, c);
  return quoted + "'";
}

[[noreturn]] void refuse(const std::string& path, const std::string& reason) {
  throw InputError(path, 0, "", reason);
}

/// Checks on the descriptor, so that what is read is what was checked.
void expect_trusted(int fd, const std::string& path) {
  struct stat status {};
  if (::fstat(fd, &status) != 0) refuse(path, std::string("cannot read: ") + std::strerror(errno));
  if (!S_ISREG(status.st_mode)) refuse(path, "is not a regular file");
  const uid_t self = ::geteuid();
  if (status.st_uid != 0 && status.st_uid != self) {
    refuse(path, "belongs to user " + std::to_string(status.st_uid) +
                     ", who could allow themselves anything; make it " + (self == 0 ? "root's" : "yours") +
                     ": " + (self == 0 ? "chown root " : "sudo chown " + std::to_string(self) + " ") +
                     shell_word(path));
  }
  if ((status.st_mode & (S_IWGRP | S_IWOTH)) != 0) {
    const std::string who = (status.st_mode & S_IWOTH) != 0 ? "everybody" : "its group";
    refuse(path, who + " may write it; take that away: chmod go-w " + shell_word(path));
  }
}

std::string read_up_to(int fd, const std::string& path, std::size_t most) {
  std::string content;
  std::array<char, 1 << 14> buffer{};
  while (true) {
    const ssize_t count = ::read(fd, buffer.data(), buffer.size());
    if (count < 0 && errno == EINTR) continue;
    if (count < 0) refuse(path, std::string("cannot read: ") + std::strerror(errno));
    if (count == 0) return content;
    content.append(buffer.data(), static_cast<std::size_t>(count));
    if (content.size() > most) refuse(path, "larger than 1 MiB");
  }
}

}  // namespace

Policy parse_policy(const std::string& name, const std::string& text) {
  const YamlNode root = YamlNode::document(name, text, "policy", 1);
  root.expect_keys({"slackline", "socket_group", "baselines", "allow"});
  std::optional<gid_t> socket_group;
  if (root.has("socket_group")) socket_group = read_group(root.at("socket_group"));
  std::vector<Policy::Baseline> baselines;
  if (root.has("baselines")) baselines = read_baselines(root.at("baselines"));
  std::vector<Policy::Rule> rules;
  if (root.has("allow")) {
    for (const YamlNode& item : items_up_to(root.at("allow"), kMostRules)) rules.push_back(read_rule(item));
  }
  return {socket_group, std::move(baselines), std::move(rules)};
}

Policy read_policy(const std::string& path) {
  // Not blocking: opening a FIFO would wait for somebody to write to it.
  const Descriptor fd(::open(path.c_str(), O_RDONLY | O_NOFOLLOW | O_NONBLOCK | O_NOCTTY | O_CLOEXEC));
  if (!fd && errno == ELOOP) refuse(path, "is a symbolic link; put the file itself there");
  if (!fd && errno == ENOENT) {
    refuse(path, "there is no policy, so nobody may set clocks; policy.example.yaml is one to begin with");
  }
  if (!fd) refuse(path, std::string("cannot read: ") + std::strerror(errno));
  expect_trusted(fd.get(), path);
  return parse_policy(path, read_up_to(fd.get(), path, kLargestFile));
}

}  // namespace slackline
