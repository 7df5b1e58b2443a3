#pragma once
#include <cstdint>
#include <map>
#include <optional>
#include <string>
#include <vector>

#include "slackline/base/ids.h"
#include "slackline/base/quantity.h"

namespace slackline {

/// What an agent has done since it started, and how its GPUs are.
struct AgentMetrics {
  /// What became of the clocks that leases asked for.
  struct Requests {
    std::uint64_t applied = 0;
    std::uint64_t skipped = 0;    // the GPU was at this clock already
    std::uint64_t overtaken = 0;  // a later one came before the driver was free
    std::uint64_t refused = 0;    // of no clock that the lease may have
    std::uint64_t failed = 0;     // in the driver
  };
  struct Gpu {
    std::string uuid;
    bool is_leased = false;
    Megahertz requested;  // 0: unlocked
    std::optional<Megahertz> observed;
    std::optional<Joules> energy;
    /// How long the last call into the driver took; nothing before the first.
    std::optional<Seconds> last_driver_call;
  };

  std::uint64_t leases_granted = 0;
  std::uint64_t leases_refused = 0;
  /// By reason ("closed", "died"). List those that have not happened yet too, at 0: rates need it.
  std::map<std::string, std::uint64_t> leases_ended;
  Requests requests;
  /// GPUs given back; attempts that the driver refused; GPUs found changed by an agent that died, and given
  /// back.
  std::uint64_t restores = 0;
  std::uint64_t restore_failures = 0;
  std::uint64_t leftovers_restored = 0;
  /// In any order; no UUID twice.
  std::vector<Gpu> gpus;
};

/// `metrics` in the text format that Prometheus reads (exposition format 0.0.4), in SI units: clocks are in
/// hertz. The same metrics give the same bytes.
[[nodiscard]] std::string prometheus_text(const AgentMetrics& metrics);

}  // namespace slackline
