#include "slackline/runtime/policy.h"

#include <algorithm>
#include <array>
#include <charconv>
#include <cstdio>
#include <utility>

namespace slackline {
namespace {

bool names(const Policy::Rule& rule, const Peer& peer) {
  return rule.users.contains(peer.uid) || rule.groups.contains(peer.gid) ||
         std::ranges::any_of(peer.groups, [&](gid_t group) { return rule.groups.contains(group); });
}

/// Takes a hexadecimal number of so many digits and the separator behind it off the front of `text`.
std::optional<unsigned> take_hex(std::string_view& text, std::size_t least, std::size_t most,
                                 char separator) {
  const std::size_t digits = separator == '\0' ? text.size() : text.find(separator);
  if (digits == std::string_view::npos || digits < least || digits > most) return std::nullopt;
  unsigned number = 0;
  const auto [end, error] = std::from_chars(text.data(), text.data() + digits, number, 16);
  if (error != std::errc{} || end != text.data() + digits) return std::nullopt;
  text.remove_prefix(separator == '\0' ? digits : digits + 1);
  return number;
}

}  // namespace

std::optional<std::string> canonical_pci_address(std::string_view text) {
  const auto domain = take_hex(text, 4, 8, ':');
  if (!domain) return std::nullopt;
  const auto bus = take_hex(text, 2, 2, ':');
  if (!bus) return std::nullopt;
  const auto device = take_hex(text, 2, 2, '.');
  if (!device || *device > 0x1f) return std::nullopt;
  const auto function = take_hex(text, 1, 1, '\0');
  if (!function || *function > 7) return std::nullopt;
  std::array<char, 24> address{};
  std::snprintf(address.data(), address.size(), "%04x:%02x:%02x.%x", *domain, *bus, *device, *function);
  return address.data();
}

bool GpuSelection::contains(const GpuIdentity& gpu) const {
  if (is_all || names.contains(gpu.uuid)) return true;
  const auto address = canonical_pci_address(gpu.pci_address);
  return address && names.contains(*address);
}

Policy::Policy(std::optional<gid_t> socket_group, std::vector<Baseline> baselines, std::vector<Rule> rules)
    : socket_group_(socket_group), baselines_(std::move(baselines)), rules_(std::move(rules)) {}

Policy Policy::everything_for(uid_t uid) {
  return {std::nullopt, {}, {{{uid}, {}, {true, {}}, {Megahertz(1), kHighestPolicyClock}}}};
}

std::optional<ClockRange> Policy::allowed(const Peer& peer, const GpuIdentity& gpu) const {
  for (const Rule& rule : rules_) {
    if (names(rule, peer) && rule.gpus.contains(gpu)) return rule.clocks;
  }
  return std::nullopt;
}

Megahertz Policy::baseline(const GpuIdentity& gpu) const {
  const auto entry = std::ranges::find_if(
      baselines_, [&](const Baseline& candidate) { return candidate.gpus.contains(gpu); });
  return entry == baselines_.end() ? Megahertz(0) : entry->clock;
}

}  // namespace slackline
