#pragma once
#include <sys/types.h>

#include <functional>
#include <memory>
#include <optional>
#include <set>
#include <string>
#include <vector>

#include "slackline/base/descriptor.h"
#include "slackline/device/device.h"

namespace slackline {

/// Which GPUs are about to be changed, and how to undo it: one file a GPU, named by its UUID, on the disk
/// before the GPU's first change. What a crash leaves behind is found here by the next start and by
/// `slackline restore`.
///
/// Who may change a GPU, or restore it, is settled by a lock on a second file, which the kernel drops when
/// its holder ends, however that happens. So an entry whose lock is free has no owner, whatever process
/// numbers say.
class Journal {
 public:
  struct Entry {
    std::string device;  // Device::spec
    std::string gpu;     // UUID
    std::string state;   // Device::state before the first change
    Megahertz baseline;  // to be restored to; 0: unlocked
    pid_t owner = 0;     // who changed it
  };

  /// The exclusive right to change one GPU.
  class Claim {
   public:
    /// Writes down what will undo the changes to come. DeviceError if that cannot be written.
    void record(const Device& device, const std::string& state, Megahertz baseline);
    /// The GPU is as it was.
    void clear();

    Claim(Claim&&) noexcept = default;
    Claim& operator=(Claim&&) = delete;
    ~Claim();

   private:
    friend class Journal;
    Claim(std::string folder, std::string gpu, Descriptor lock);
    std::string folder_;
    std::string gpu_;
    Descriptor lock_;
  };

  struct Restoration {
    std::vector<std::string> gpus;
    /// "GPU-...: why not"; their entries stay.
    std::vector<std::string> failures;
  };

  /// `folder` is made if missing, with mode 0700.
  explicit Journal(std::string folder);

  [[nodiscard]] const std::string& folder() const { return folder_; }
  /// DeviceError, with the owner's number, if another process has it for longer than it takes to restore a
  /// GPU.
  [[nodiscard]] Claim claim(const std::string& gpu) const;
  /// One that cannot be read has no `device`; its file's name still tells the GPU.
  [[nodiscard]] std::vector<Entry> entries() const;

  /// Restores every GPU that has an entry and no owner, and clears the entry. Where an entry cannot be read,
  /// the GPU is sought among `candidates()`, and unlocked. Devices that are gone have nothing to restore.
  /// `baseline_of`: where a GPU is to go back to today; without it, to where its entry says.
  Restoration restore_leftovers(const std::function<std::vector<std::unique_ptr<Device>>()>& candidates = {},
                                const std::function<Megahertz(const GpuIdentity&)>& baseline_of = {}) const;

 private:
  [[nodiscard]] std::optional<Claim> try_claim(const std::string& gpu) const;
  /// Nothing if somebody has it who is, or from now on counts as, `alive`. One who was just killed is waited
  /// for: the kernel takes a moment to drop the lock, and whoever looks but once would pass over a GPU that
  /// nobody will restore.
  [[nodiscard]] std::optional<Claim> claim_abandoned(const Entry& entry, std::set<pid_t>& alive) const;
  void remove_unfinished() const;

  std::string folder_;
};

}  // namespace slackline
