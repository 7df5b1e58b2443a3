#include "slackline/runtime/journal.h"

#include <fcntl.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <chrono>
#include <cstring>
#include <filesystem>
#include <map>
#include <set>
#include <thread>
#include <utility>

#include "journal_entry.h"
#include "slackline/base/error.h"
#include "slackline/base/file.h"
#include "slackline/base/process.h"
#include "slackline/device/open_device.h"

namespace slackline {
namespace {

constexpr auto kUnfinishedAge = std::chrono::minutes(1);
/// Somebody who starts or runs `restore` has a GPU for as long as its driver needs to start and to restore
/// it.
constexpr auto kRestoring = std::chrono::seconds(2);
constexpr auto kClaimPoll = std::chrono::milliseconds(20);
constexpr const char* kEntrySuffix = ".yaml";
constexpr const char* kLockSuffix = ".lock";
constexpr const char* kSimulatedGpu = "SIM-";

/// Opens the lock file of a GPU and locks it; empty if another process has it.
Descriptor lock_file(const std::string& path) {
  while (true) {
    Descriptor fd(::open(path.c_str(), O_RDWR | O_CREAT | O_NOFOLLOW | O_CLOEXEC, 0600));
    if (!fd) throw DeviceError("lock", path, std::strerror(errno));
    if (::flock(fd.get(), LOCK_EX | LOCK_NB) != 0) {
      if (errno == EINTR) continue;
      if (errno == EWOULDBLOCK) return {};
      throw DeviceError("lock", path, std::strerror(errno));
    }
    // Its last owner may have removed the file between our two calls.
    struct stat ours {};
    struct stat there {};
    if (::fstat(fd.get(), &ours) == 0 && ::stat(path.c_str(), &there) == 0 && ours.st_ino == there.st_ino) {
      return fd;
    }
  }
}

std::string owner_of(const std::string& lock_path) {
  try {
    const std::string text = read_file(lock_path);
    return text.empty() ? "another process" : "process " + text;
  } catch (const InputError&) {
    return "another process";
  }
}

void restore_gpu(Device& device, const Journal::Entry& entry,
                 const std::function<Megahertz(const GpuIdentity&)>& baseline_of) {
  const auto gpu = find_gpu(device, entry.gpu);
  if (!gpu) throw DeviceError("restore", entry.gpu, "its device has no such GPU any more");
  const Megahertz baseline = baseline_of ? baseline_of(device.identity(*gpu)) : entry.baseline;
  device.restore(*gpu, entry.state);
  if (baseline != Megahertz(0)) device.lock_clock(*gpu, baseline);
}

/// Whether simulated GPUs have gone with their node, as real ones never do.
bool is_gone(const std::string& device) {
  constexpr std::string_view kSimulated = "simnode:";
  return device.starts_with(kSimulated) && ::access(device.c_str() + kSimulated.size(), F_OK) != 0;
}

}  // namespace

Journal::Claim::Claim(std::string folder, std::string gpu, Descriptor lock)
    : folder_(std::move(folder)), gpu_(std::move(gpu)), lock_(std::move(lock)) {
  const std::string pid = std::to_string(::getpid());
  [[maybe_unused]] const bool cut = ::ftruncate(lock_.get(), 0) == 0;
  [[maybe_unused]] const ssize_t written = ::pwrite(lock_.get(), pid.data(), pid.size(), 0);
}

Journal::Claim::~Claim() {
  if (lock_) ::unlink((folder_ + "/" + gpu_ + kLockSuffix).c_str());
}

void Journal::Claim::record(const Device& device, const std::string& state, Megahertz baseline) {
  try {
    write_file(folder_ + "/" + gpu_ + kEntrySuffix,
               to_yaml({device.spec(), gpu_, state, baseline, ::getpid()}));
  } catch (const InputError& error) {  // a full disk must not end the job
    throw DeviceError("write down the change of", gpu_, error.what());
  }
}

void Journal::Claim::clear() {
  ::unlink((folder_ + "/" + gpu_ + kEntrySuffix).c_str());
}

Journal::Journal(std::string folder) : folder_(std::move(folder)) {
  if (::mkdir(folder_.c_str(), 0700) != 0 && errno != EEXIST) {
    throw DeviceError("make journal", folder_, std::strerror(errno));
  }
}

std::optional<Journal::Claim> Journal::claim_abandoned(const Entry& entry, std::set<pid_t>& alive) const {
  const auto end = std::chrono::steady_clock::now() + kRestoring;
  // Between two signs of its end a process may for an instant show none.
  int looks_without_sign = 0;
  while (true) {
    if (auto claim = try_claim(entry.gpu)) return claim;
    if (alive.contains(entry.owner) || std::chrono::steady_clock::now() > end) return std::nullopt;
    looks_without_sign = is_ending(entry.owner) ? 0 : looks_without_sign + 1;
    if (looks_without_sign == 2) {
      alive.insert(entry.owner);
      return std::nullopt;
    }
    std::this_thread::sleep_for(kClaimPoll);
  }
}

std::optional<Journal::Claim> Journal::try_claim(const std::string& gpu) const {
  Descriptor lock = lock_file(folder_ + "/" + gpu + kLockSuffix);
  if (!lock) return std::nullopt;
  return Claim(folder_, gpu, std::move(lock));
}

Journal::Claim Journal::claim(const std::string& gpu) const {
  const auto end = std::chrono::steady_clock::now() + kRestoring;
  while (true) {
    if (auto claim = try_claim(gpu)) return std::move(*claim);
    if (std::chrono::steady_clock::now() > end) break;
    std::this_thread::sleep_for(kClaimPoll);
  }
  throw DeviceError("lease", gpu, owner_of(folder_ + "/" + gpu + kLockSuffix) + " has it");
}

std::vector<Journal::Entry> Journal::entries() const {
  std::vector<Entry> entries;
  for (const auto& file : std::filesystem::directory_iterator(folder_)) {
    const std::string gpu = file.path().stem();
    if (file.path().extension() != kEntrySuffix || !is_plain_name(gpu)) continue;
    try {
      entries.push_back(read_journal_entry(file.path(), gpu));
    } catch (const InputError&) {
      entries.push_back({"", gpu, "", Megahertz(0), 0});
    }
  }
  std::ranges::sort(entries, {}, &Entry::gpu);
  return entries;
}

/// What a process left that was killed while it wrote an entry. One that lives renames it at once.
void Journal::remove_unfinished() const {
  std::error_code error;
  const auto old = std::filesystem::file_time_type::clock::now() - kUnfinishedAge;
  for (const auto& file : std::filesystem::directory_iterator(folder_, error)) {
    const bool is_unfinished = file.path().stem().extension() == kEntrySuffix;
    if (is_unfinished && file.last_write_time(error) < old) std::filesystem::remove(file.path(), error);
  }
}

Journal::Restoration Journal::restore_leftovers(
    const std::function<std::vector<std::unique_ptr<Device>>()>& candidates,
    const std::function<Megahertz(const GpuIdentity&)>& baseline_of) const {
  remove_unfinished();
  Restoration result;
  std::map<std::string, std::unique_ptr<Device>> devices;  // by spec
  std::optional<std::vector<std::unique_ptr<Device>>> sought;
  std::set<pid_t> alive;  // owners that were found to be
  const auto device_of = [&](const Entry& entry) -> Device* {
    if (is_gone(entry.device)) return nullptr;
    if (!entry.device.empty()) {
      auto& device = devices[entry.device];
      if (!device) device = open_device(entry.device);
      return device.get();
    }
    if (!sought) sought = candidates ? candidates() : std::vector<std::unique_ptr<Device>>();
    for (const auto& device : *sought) {
      if (find_gpu(*device, entry.gpu)) return device.get();
    }
    if (entry.gpu.starts_with(kSimulatedGpu)) return nullptr;  // it went with its node
    throw DeviceError("restore", entry.gpu, "its journal entry is damaged, and no device here has this GPU");
  };
  for (const Entry& listed : entries()) {
    try {
      auto claim = claim_abandoned(listed, alive);
      if (!claim) continue;
      // It may have been restored, or changed anew, before the claim was ours.
      const std::vector<Entry> now = entries();
      const auto entry = std::ranges::find(now, listed.gpu, &Entry::gpu);
      if (entry == now.end()) continue;
      if (Device* device = device_of(*entry)) restore_gpu(*device, *entry, baseline_of);
      claim->clear();
      result.gpus.push_back(entry->gpu);
    } catch (const std::runtime_error& error) {  // its entry stays; the other GPUs must not wait for it
      result.failures.push_back(listed.gpu + ": " + error.what());
    }
  }
  return result;
}

}  // namespace slackline
