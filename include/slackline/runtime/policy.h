#pragma once
#include <sys/types.h>

#include <optional>
#include <set>
#include <string>
#include <string_view>
#include <vector>

#include "slackline/base/ids.h"
#include "slackline/device/device.h"

namespace slackline {

/// Who asks, in the words of the kernel (SO_PEERCRED, SO_PEERGROUPS), never in the peer's own. By default
/// nobody.
struct Peer {
  uid_t uid = static_cast<uid_t>(-1);
  gid_t gid = static_cast<gid_t>(-1);
  std::vector<gid_t> groups;
};

/// Both ends belong to it.
struct ClockRange {
  Megahertz lowest;
  Megahertz highest;

  bool operator==(const ClockRange&) const = default;
};

/// Highest clock that a policy may name, and the end of the range of a rule that names none.
inline constexpr Megahertz kHighestPolicyClock{100'000};

/// "0000:3b:00.0" for what sysfs, lspci -D ("0000:3b:00.0") and NVML ("00000000:3B:00.0") call this GPU;
/// nothing for text that is no PCI address with a domain.
[[nodiscard]] std::optional<std::string> canonical_pci_address(std::string_view text);

/// GPUs as an administrator names them.
struct GpuSelection {
  bool is_all = false;
  /// UUIDs, and PCI addresses as canonical_pci_address() has them.
  std::set<std::string> names;

  [[nodiscard]] bool contains(const GpuIdentity& gpu) const;
};

/// What the administrator of a node lets unprivileged users do with the clocks of its GPUs. Everything that
/// no rule allows is denied.
class Policy {
 public:
  /// Members of any of `groups` as well as each of `users`.
  struct Rule {
    std::set<uid_t> users;
    std::set<gid_t> groups;
    GpuSelection gpus;
    ClockRange clocks;
  };
  struct Baseline {
    GpuSelection gpus;
    Megahertz clock;
  };

  /// Denies everybody.
  Policy() = default;
  Policy(std::optional<gid_t> socket_group, std::vector<Baseline> baselines, std::vector<Rule> rules);
  /// Every clock of every GPU for one user: for a helper that belongs to that user's job alone.
  [[nodiscard]] static Policy everything_for(uid_t uid);

  /// What `peer` may lock `gpu` to, by the first rule that names both; nothing: it may not.
  [[nodiscard]] std::optional<ClockRange> allowed(const Peer& peer, const GpuIdentity& gpu) const;
  /// Where `gpu` goes back to, by the first entry that names it; 0: unlocked.
  [[nodiscard]] Megahertz baseline(const GpuIdentity& gpu) const;
  /// Who may connect at all; nothing: only root.
  [[nodiscard]] std::optional<gid_t> socket_group() const { return socket_group_; }

 private:
  std::optional<gid_t> socket_group_;
  std::vector<Baseline> baselines_;
  std::vector<Rule> rules_;
};

/// Reads `slackline: policy/1`; `name` is for messages. Users and groups are looked up now, not later: an
/// unknown one is an InputError, like everything else that is wrong.
[[nodiscard]] Policy parse_policy(const std::string& name, const std::string& text);

/// parse_policy of a file that nobody else could have written: regular, no symbolic link, owned by root or by
/// this process's own user, not writable by group or others, at most 1 MiB. Else InputError, with the
/// command that puts it right.
[[nodiscard]] Policy read_policy(const std::string& path);

}  // namespace slackline
