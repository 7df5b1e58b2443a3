#pragma once
#include <sys/types.h>

#include <array>
#include <chrono>
#include <cstdint>
#include <functional>
#include <map>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "slackline/base/descriptor.h"
#include "slackline/device/device.h"
#include "slackline/device/sim_world.h"
#include "slackline/runtime/journal.h"
#include "slackline/runtime/lease_protocol.h"
#include "slackline/runtime/metrics.h"
#include "slackline/runtime/policy.h"

namespace slackline {

class ListeningSocket;

struct AgentOptions {
  std::string socket_path;
  Policy policy;
  /// For one job: `policy` is not the administrator's, so that what a journal says of baselines stands.
  bool is_private = false;
  /// Where the agent cannot see a process die, its lease ends after this long without a sign of life.
  std::chrono::milliseconds heartbeat_patience{5000};
  /// How often request words are looked at while a lease is in a step.
  std::chrono::microseconds poll_period{250};
  /// A lease that is in a step but asks for nothing this long is looked at only when it says so.
  std::chrono::milliseconds poll_patience{5000};
  /// Reads every GPU's clock and energy about once a second, for metrics(). A reading may delay a request by
  /// the time that the driver takes for it.
  bool takes_readings = false;
  /// For sockets that are not for everybody who may write to them: which mode they have.
  unsigned socket_mode = 0660;
  std::optional<uid_t> socket_owner;
};

/// Owns the clocks of a node's GPUs and leases them to the processes that train, one owner a GPU; the
/// protocol is in lease_protocol.h. Whatever ends a lease (the process closes it, dies, is killed, breaks the
/// protocol or falls silent), its GPUs are restored: requests are no longer read, the call in flight ends,
/// the changes are undone, the journal is cleared, and only then another may lease them.
///
/// One thread runs everything but the drivers, which have one each (GpuWorker), so no driver and no client
/// can make it wait.
class Agent {
 public:
  enum class Importance { kRoutine, kProblem };
  using Log = std::function<void(Importance, const std::string&)>;

  /// Takes all GPUs of `device`, first restoring what a predecessor has left of them. DeviceError if one
  /// belongs to another agent, or the socket to one that lives. `log` hears of leases, refusals and faults.
  Agent(Device& device, const Journal& journal, AgentOptions options, Log log);
  Agent(const Agent&) = delete;
  Agent& operator=(const Agent&) = delete;
  /// Ends all leases and restores every GPU.
  ~Agent();

  /// Serves until `stop` is readable. `tick` is called about once a second.
  void run(int stop, const std::function<void()>& tick = {});
  [[nodiscard]] AgentMetrics metrics() const;
  /// For how long no GPU's driver has answered; 0 if a single one waits for nothing.
  [[nodiscard]] std::chrono::nanoseconds silence_of_drivers() const;

 private:
  struct Lease;
  struct Greeting;
  struct Gpu;

  void watch(int fd, std::uint64_t token, std::uint32_t events);
  void accept_clients();
  [[nodiscard]] std::uint64_t greeting_too_many() const;
  void hear(std::uint64_t number);
  void answer(std::uint64_t number);
  [[nodiscard]] std::string reason_to_refuse(Greeting& greeting, std::vector<std::size_t>& gpus,
                                             bool& is_passing) const;
  [[nodiscard]] std::vector<Megahertz> allowed_clocks(const Greeting& greeting,
                                                      const std::vector<std::size_t>& gpus) const;
  void grant(std::uint64_t number, const std::vector<std::size_t>& gpus);
  void refuse(std::uint64_t number, const std::string& reason);
  void sum_up_refusals();
  void take_request(Lease& lease);
  void poll_requests();
  void end_lease(std::uint64_t number, LeaseEnd end);
  void note_slow_drivers();
  void after_workers();
  void look_after_silence();
  void set_polling(bool wanted);

  Device& device_;
  SimWorld* world_;
  AgentOptions options_;
  Log log_;
  std::optional<SimWorld::Participant> participant_;
  Descriptor epoll_;
  Descriptor workers_done_;
  Descriptor poll_timer_;
  std::unique_ptr<ListeningSocket> listening_;
  bool polling_ = false;
  std::uint64_t next_number_ = 1;
  std::map<std::uint64_t, std::unique_ptr<Greeting>> greetings_;
  std::map<std::uint64_t, std::unique_ptr<Lease>> leases_;
  std::vector<std::unique_ptr<Gpu>> gpus_;
  AgentMetrics totals_;
  int refusals_logged_ = 0;  // since the last tick
  int refusals_left_out_ = 0;
};

}  // namespace slackline
