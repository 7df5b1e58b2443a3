#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <charconv>
#include <chrono>
#include <cstdio>
#include <cstring>
#include <filesystem>
#include <utility>

#include "../base/strict_yaml.h"
#include "slackline/base/error.h"
#include "slackline/base/file.h"
#include "slackline/base/number_text.h"
#include "slackline/device/sim_world.h"
#include "slackline/runtime/journal.h"

namespace slackline {
namespace {

constexpr auto kUnfinishedAge = std::chrono::minutes(1);

/// FNV-1a: a short, fixed file name for a name of any length and content.
std::string digest(const std::string& text) {
  std::uint64_t hash = 0xcbf29ce484222325;
  for (const char c : text) hash = (hash ^ static_cast<unsigned char>(c)) * 0x100000001b3;
  std::array<char, 17> buffer{};
  std::snprintf(buffer.data(), buffer.size(), "%016llx", static_cast<unsigned long long>(hash));
  return buffer.data();
}

Journal::Entry read_entry(const std::string& path) {
  const std::string text = read_file(path);
  const YamlNode root = YamlNode::document(path, text, "journal", 1);
  root.expect_keys({"slackline", "gpu", "pid", "start_time"});
  const auto start_time = parse_integer(root.at("start_time").text());
  if (!start_time) root.at("start_time").fail("not a number");
  return {root.at("gpu").text(),
          {root.at("pid").integer(1, INT32_MAX), static_cast<std::uint64_t>(*start_time)}};
}

/// An empty entry where there is none, or none that can be read.
Journal::Entry entry_or_none(const std::string& path) {
  try {
    return read_entry(path);
  } catch (const InputError&) {
    return {};
  }
}

}  // namespace

Journal::Journal(std::string folder) : folder_(std::move(folder)) {
  if (::mkdir(folder_.c_str(), 0700) != 0 && errno != EEXIST) {
    throw DeviceError("make journal", folder_, std::strerror(errno));
  }
}

std::string Journal::file_of(const std::string& gpu) const {
  return folder_ + "/" + digest(gpu) + ".yaml";
}

void Journal::record(const std::string& gpu) {
  const std::string path = file_of(gpu);
  const ProcessIdentity self = this_process();
  const Entry before = entry_or_none(path);
  if (!before.gpu.empty() && before.owner != self && is_alive(before.owner)) {
    throw DeviceError("lease", gpu, "process " + std::to_string(before.owner.pid) + " owns it");
  }
  YAML::Emitter out;
  out << YAML::BeginMap << YAML::Key << "slackline" << YAML::Value << "journal/1" << YAML::Key << "gpu"
      << YAML::Value << gpu << YAML::Key << "pid" << YAML::Value << self.pid << YAML::Key << "start_time"
      << YAML::Value << self.start_time << YAML::EndMap;
  try {
    write_file(path, std::string(out.c_str()) + "\n");
  } catch (const InputError& error) {  // a full disk must not end the job
    throw DeviceError("lease", gpu, error.what());
  }
}

void Journal::clear(const std::string& gpu) {
  ::unlink(file_of(gpu).c_str());
}

std::vector<Journal::Entry> Journal::entries() const {
  std::vector<Entry> entries;
  for (const auto& file : std::filesystem::directory_iterator(folder_)) {
    if (file.path().extension() != ".yaml") continue;
    entries.push_back(entry_or_none(file.path()));
  }
  return entries;
}

/// What a process left that was killed while it wrote an entry. One that lives renames it at once.
void Journal::remove_unfinished() {
  std::error_code error;
  const auto old = std::filesystem::file_time_type::clock::now() - kUnfinishedAge;
  for (const auto& file : std::filesystem::directory_iterator(folder_, error)) {
    const bool is_unfinished = file.path().stem().extension() == ".yaml";
    if (is_unfinished && file.last_write_time(error) < old) std::filesystem::remove(file.path(), error);
  }
}

std::vector<std::string> Journal::restore_leftovers(pid_t ended) {
  remove_unfinished();
  std::vector<std::string> restored;
  for (const Entry& entry : entries()) {
    // An entry is written in one step, so an unreadable one is foreign; it names no GPU that could be
    // restored.
    if (entry.gpu.empty() || (entry.owner.pid != ended && is_alive(entry.owner))) continue;
    try {
      if (!unlock_simulated_gpu(entry.gpu)) continue;
    } catch (const DeviceError&) {
      continue;  // its entry stays; the other GPUs must not wait for it
    }
    clear(entry.gpu);
    restored.push_back(entry.gpu);
  }
  std::sort(restored.begin(), restored.end());
  return restored;
}

}  // namespace slackline
