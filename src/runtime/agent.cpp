#include "slackline/runtime/agent.h"

#include <fcntl.h>
#include <poll.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/timerfd.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstdlib>
#include <cstring>
#include <new>
#include <span>
#include <system_error>
#include <utility>

#include "gpu_worker.h"
#include "lease_peer.h"
#include "listening_socket.h"
#include "slackline/base/error.h"
#include "slackline/device/open_device.h"
#include "slackline/runtime/lease_protocol.h"
#include "slackline/runtime/mapping.h"
#include "slackline/runtime/packet_socket.h"

namespace slackline {
namespace {

using Clock = std::chrono::steady_clock;

constexpr std::size_t kMostGreetings = 64;
constexpr std::size_t kMostLeases = 256;
/// From connecting to a whole hello; and for GPUs of an earlier lease to be restored.
constexpr auto kGreetingPatience = std::chrono::seconds(5);
constexpr int kTickMs = 100;
constexpr int kTicksPerCall = 10;
/// Bytes read from one client before the others have their turn.
constexpr int kMostMessagesAtOnce = 32;
/// Connections accepted before those who have one have their turn.
constexpr int kMostAcceptedAtOnce = 16;
/// Refusals that are logged one by one, a second.
constexpr int kMostRefusalsLogged = 20;
/// A driver that takes longer to answer is worth a line.
constexpr auto kSlowDriver = std::chrono::seconds(10);

// What an epoll token names: the kind of descriptor above, the connection's number below.
enum class Source : std::uint64_t { kStop, kListener, kWorkers, kTimer, kConnection, kProcess };
constexpr int kSourceShift = 56;
constexpr std::uint64_t token_of(Source source, std::uint64_t number = 0) {
  return static_cast<std::uint64_t>(source) << kSourceShift | number;
}

/// Memory whose size nobody can change any more; empty on failure.
Descriptor sealed_memory(const char* name, std::size_t bytes) {
  Descriptor fd(::memfd_create(name, MFD_CLOEXEC | MFD_ALLOW_SEALING));
  if (!fd || ::ftruncate(fd.get(), static_cast<off_t>(bytes)) != 0) return {};
  if (::fcntl(fd.get(), F_ADD_SEALS, F_SEAL_SHRINK | F_SEAL_GROW) != 0) return {};
  return fd;
}

/// What we have mapped so far stays writable; nobody gets another writable view, nor a lesser seal.
bool seal_for_readers(int fd) {
  return ::fcntl(fd, F_ADD_SEALS, F_SEAL_FUTURE_WRITE | F_SEAL_SEAL) == 0;
}

Megahertz nearest(const std::vector<Megahertz>& clocks, Megahertz wanted) {
  if (clocks.empty()) return {};
  return *std::ranges::min_element(clocks, {},
                                   [&](Megahertz clock) { return std::abs(clock.value() - wanted.value()); });
}

/// Both memories of a lease; lives until the last worker has written its last result.
struct LeaseMemories {
  Mapping requests;
  Mapping results;
  [[nodiscard]] RequestMemory& request() const { return *static_cast<RequestMemory*>(requests.get()); }
  [[nodiscard]] ResultMemory& result() const { return *static_cast<ResultMemory*>(results.get()); }
};

}  // namespace

struct Agent::Greeting {
  Descriptor socket;
  LeasePeer peer;
  Clock::time_point since;
  std::vector<std::string> gpus;  // once it has said so
  std::uint64_t start_time = 0;
  bool is_seen = false;  // to end
};

struct Agent::Lease {
  std::uint64_t number = 0;
  Descriptor socket;
  LeasePeer peer;
  std::vector<std::size_t> gpus;
  std::vector<Megahertz> clocks;  // what the request's number chooses from
  std::shared_ptr<LeaseMemories> memories;
  std::uint32_t seen = 0;  // sequence of the last request
  bool in_step = false;
  bool is_polled = false;
  bool needs_heartbeat = false;
  Clock::time_point heard;      // a sign of life
  Clock::time_point requested;  // a new request
};

struct Agent::Gpu {
  GpuIdentity identity;
  Ability set_clock;  // when the agent started
  std::vector<Megahertz> clocks;
  std::uint64_t lease = 0;  // who has it; 0: nobody
  bool is_restoring = false;
  bool is_slow = false;  // and the log says so
  std::unique_ptr<GpuWorker> worker;
};

Agent::Agent(Device& device, const Journal& journal, AgentOptions options, Log log)
    : device_(device),
      world_(nullptr),
      options_(std::move(options)),
      log_(std::move(log)),
      epoll_(::epoll_create1(EPOLL_CLOEXEC)),
      workers_done_(::eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK)),
      poll_timer_(::timerfd_create(CLOCK_MONOTONIC, TFD_CLOEXEC | TFD_NONBLOCK)) {
  if (!epoll_ || !workers_done_ || !poll_timer_) throw DeviceError("start agent", "", std::strerror(errno));
  if (auto* simulated = dynamic_cast<SimDevice*>(&device_)) world_ = simulated->world().get();
  listening_ = std::make_unique<ListeningSocket>(options_.socket_path, options_.socket_mode,
                                                 options_.socket_owner, options_.policy.socket_group());
  const Journal::Restoration left = journal.restore_leftovers(
      [&] {
        std::vector<std::unique_ptr<Device>> same;
        same.push_back(open_device(device_.spec()));
        return same;
      },
      // What the administrator says today counts, not what was said when the GPU was changed.
      options_.is_private ? std::function<Megahertz(const GpuIdentity&)>()
                          : [&](const GpuIdentity& gpu) { return options_.policy.baseline(gpu); });
  for (const std::string& gpu : left.gpus)
    log_(Importance::kProblem, "restored " + gpu + ", which an agent that died had changed");
  for (const std::string& failure : left.failures) log_(Importance::kProblem, "cannot restore " + failure);
  totals_.leftovers_restored = left.gpus.size();
  for (const char* end : std::span(kLeaseEnds).subspan(1)) totals_.leases_ended[end] = 0;

  const auto wake = [fd = workers_done_.get()] {
    const std::uint64_t one = 1;
    [[maybe_unused]] const ssize_t written = ::write(fd, &one, sizeof one);
  };
  std::vector<Journal::Claim> claims;
  for (const GpuId gpu : all_gpus(device_)) claims.push_back(journal.claim(device_.identity(gpu).uuid));
  const std::vector<Journal::Entry> unrestored = journal.entries();
  for (const GpuId gpu : all_gpus(device_)) {
    auto made = std::make_unique<Gpu>();
    made->identity = device_.identity(gpu);
    try {
      made->set_clock = device_.abilities(gpu).set_clock;
      if (made->set_clock) made->clocks = device_.supported_clocks(gpu);
    } catch (const DeviceError& error) {  // the others must not wait for it
      made->set_clock = {error.what(), ""};
      log_(Importance::kProblem, error.what());
    }
    const auto entry = std::ranges::find(unrestored, made->identity.uuid, &Journal::Entry::gpu);
    const bool is_left = entry != unrestored.end();
    const Megahertz baseline =
        is_left && options_.is_private ? entry->baseline : options_.policy.baseline(made->identity);
    if (!options_.is_private && baseline != Megahertz(0) && made->set_clock &&
        std::ranges::count(made->clocks, baseline) == 0) {
      throw DeviceError("use the policy's baseline", made->identity.uuid,
                        "it has no clock of " + std::to_string(baseline.value()) + " MHz; the nearest is " +
                            std::to_string(nearest(made->clocks, baseline).value()));
    }
    // What the driver did not let us restore yet is tried again until it does; nobody else could: it is ours.
    std::optional<std::string> state;
    if (is_left) state = entry->state;
    made->is_restoring = state.has_value();
    try {
      made->worker = std::make_unique<GpuWorker>(device_, world_, gpu, std::move(claims[gpu.index()]),
                                                 baseline, std::move(state), wake);
    } catch (const std::system_error& error) {
      throw DeviceError("start a thread for", made->identity.uuid, error.code().message());
    }
    gpus_.push_back(std::move(made));
  }
  watch(listening_->get(), token_of(Source::kListener), EPOLLIN);
  watch(workers_done_.get(), token_of(Source::kWorkers), EPOLLIN);
  watch(poll_timer_.get(), token_of(Source::kTimer), EPOLLIN);
  if (world_ != nullptr) {
    participant_.emplace(world_->join_as_observer());
    participant_->serve_requests(all_gpus(device_));
  }
}

Agent::~Agent() {
  greetings_.clear();  // nobody gets what becomes free now
  while (!leases_.empty()) end_lease(leases_.begin()->first, LeaseEnd::kAgentEnded);
  for (const auto& gpu : gpus_) gpu->worker->stop();
  const auto have_ended = [&] {
    return std::ranges::all_of(gpus_, [](const auto& gpu) { return gpu->worker->has_ended(); });
  };
  do {
    pollfd waiting{workers_done_.get(), POLLIN, 0};
    ::poll(&waiting, 1, kTickMs);
    after_workers();
    note_slow_drivers();
  } while (!have_ended());
  after_workers();  // their last words
}

void Agent::watch(int fd, std::uint64_t token, std::uint32_t events) {
  epoll_event event{};
  event.events = events;
  event.data.u64 = token;
  if (::epoll_ctl(epoll_.get(), EPOLL_CTL_ADD, fd, &event) != 0) {
    throw DeviceError("watch", options_.socket_path, std::strerror(errno));
  }
}

void Agent::run(int stop, const std::function<void()>& tick) {
  watch(stop, token_of(Source::kStop), EPOLLIN);
  auto next_tick = Clock::now();
  int ticks = 0;
  while (true) {
    std::array<epoll_event, 64> events{};
    const int count = ::epoll_wait(epoll_.get(), events.data(), static_cast<int>(events.size()), kTickMs);
    for (const epoll_event& event : std::span(events).first(static_cast<std::size_t>(std::max(count, 0)))) {
      const std::uint64_t number = event.data.u64 & ((std::uint64_t{1} << kSourceShift) - 1);
      switch (static_cast<Source>(event.data.u64 >> kSourceShift)) {
        case Source::kStop:
          ::epoll_ctl(epoll_.get(), EPOLL_CTL_DEL, stop, nullptr);
          return;
        case Source::kListener:
          accept_clients();
          break;
        case Source::kWorkers:
          after_workers();
          break;
        case Source::kTimer:
          poll_requests();
          break;
        case Source::kConnection:
          hear(number);
          break;
        case Source::kProcess:
          end_lease(number, LeaseEnd::kProcessEnded);
          break;
      }
    }
    if (Clock::now() < next_tick) continue;
    next_tick = Clock::now() + std::chrono::milliseconds(kTickMs);
    look_after_silence();
    if (ticks++ % kTicksPerCall != 0) continue;
    note_slow_drivers();
    sum_up_refusals();
    if (options_.takes_readings) {
      for (const auto& gpu : gpus_) gpu->worker->take_reading();
    }
    if (tick) tick();
  }
}

void Agent::accept_clients() {
  for (int i = 0; i < kMostAcceptedAtOnce; ++i) {
    Descriptor client(::accept4(listening_->get(), nullptr, nullptr, SOCK_CLOEXEC | SOCK_NONBLOCK));
    if (!client) {
      if (errno == EINTR || errno == ECONNABORTED) continue;
      // Out of descriptors: the listener stays readable, so look away until the next tick.
      if (errno != EAGAIN) ::epoll_ctl(epoll_.get(), EPOLL_CTL_DEL, listening_->get(), nullptr);
      return;
    }
    if (greetings_.size() >= kMostGreetings) greetings_.erase(greeting_too_many());
    try {
      auto greeting = std::make_unique<Greeting>();
      greeting->peer = LeasePeer::of(client.get());
      greeting->socket = std::move(client);
      greeting->since = Clock::now();
      const std::uint64_t number = next_number_++;
      watch(greeting->socket.get(), token_of(Source::kConnection, number), EPOLLIN);
      greetings_.emplace(number, std::move(greeting));
    } catch (const DeviceError& error) {
      log_(Importance::kProblem, error.what());
    }
  }
}

/// The oldest of the user who has most of them, so that nobody keeps other users out.
std::uint64_t Agent::greeting_too_many() const {
  std::map<uid_t, std::size_t> crowd;
  for (const auto& [number, greeting] : greetings_) ++crowd[greeting->peer.user.uid];
  const auto largest = std::ranges::max_element(crowd, {}, [](const auto& user) { return user.second; });
  const auto oldest = std::ranges::find_if(
      greetings_, [&](const auto& greeting) { return greeting.second->peer.user.uid == largest->first; });
  return oldest->first;
}

void Agent::hear(std::uint64_t number) {
  if (const auto greeting = greetings_.find(number); greeting != greetings_.end()) return answer(number);
  const auto found = leases_.find(number);
  if (found == leases_.end()) return;
  Lease& lease = *found->second;
  for (int i = 0; i < kMostMessagesAtOnce; ++i) {
    std::array<char, 2> message{};
    const ssize_t count =
        ::recv(lease.socket.get(), message.data(), message.size(), MSG_DONTWAIT | MSG_TRUNC);
    if (count < 0 && errno == EINTR) continue;
    if (count < 0 && errno == EAGAIN) break;
    if (count <= 0) return end_lease(number, LeaseEnd::kClosed);
    if (count != 1) return end_lease(number, LeaseEnd::kProtocolBroken);
    lease.heard = Clock::now();
  }
  take_request(lease);
}

void Agent::answer(std::uint64_t number) {
  Greeting& greeting = *greetings_.at(number);
  LeaseHello hello{};
  const ssize_t count = ::recv(greeting.socket.get(), &hello, sizeof hello, MSG_DONTWAIT | MSG_TRUNC);
  if (count < 0 && (errno == EAGAIN || errno == EINTR)) return;
  if (count <= 0) {  // it is gone
    greetings_.erase(number);
    return;
  }
  if (!greeting.gpus.empty()) return refuse(number, "the client broke the protocol");  // it has asked already
  if (count < 4 || hello.magic != kLeaseMagic) {
    return refuse(number, "the client speaks another version of the protocol");
  }
  if (count != sizeof hello || hello.gpu_count < 1 || hello.gpu_count > kMostLeasedGpus) {
    return refuse(number, "the client broke the protocol");
  }
  for (std::size_t g = 0; g < hello.gpu_count; ++g) {
    const auto& name = hello.gpus[g];
    greeting.gpus.emplace_back(name.begin(), std::ranges::find(name, '\0'));
  }
  greeting.start_time = hello.start_time;
  std::vector<std::size_t> gpus;
  bool is_passing = false;
  const std::string reason = reason_to_refuse(greeting, gpus, is_passing);
  if (reason.empty()) return grant(number, gpus);
  if (!is_passing) refuse(number, reason);
}

/// Why the client does not get what it asks for; empty if it does. `is_passing`: it may before long.
std::string Agent::reason_to_refuse(Greeting& greeting, std::vector<std::size_t>& gpus,
                                    bool& is_passing) const {
  const LeasePeer::Standing standing = greeting.peer.standing(greeting.start_time);
  if (standing == LeasePeer::Standing::kGone) return "the process that connected has ended";
  greeting.is_seen = standing == LeasePeer::Standing::kHere;
  if (leases_.size() >= kMostLeases) return "the agent has as many leases as it can";
  for (const std::string& name : greeting.gpus) {
    const auto found =
        std::ranges::find_if(gpus_, [&](const auto& gpu) { return gpu->identity.uuid == name; });
    const auto index = static_cast<std::size_t>(found - gpus_.begin());
    // Whoever may not have a GPU does not learn whether it exists.
    if (found == gpus_.end() || !options_.policy.allowed(greeting.peer.user, (*found)->identity)) {
      return "the policy does not give '" + printable(name) + "' to user " +
             std::to_string(greeting.peer.user.uid);
    }
    if (std::ranges::find(gpus, index) != gpus.end()) return name + " is asked for twice";
    gpus.push_back(index);
  }
  for (const std::size_t index : gpus) {
    const Gpu& gpu = *gpus_[index];
    if (gpu.clocks.empty()) {
      return gpu.identity.uuid + ": " +
             (gpu.set_clock ? "it has no clocks" : gpu.set_clock.why_not + " (when the agent began)");
    }
    if (gpu.lease != 0) return gpu.identity.uuid + " is leased to " + leases_.at(gpu.lease)->peer.name();
  }
  if (allowed_clocks(greeting, gpus).empty()) return "the policy leaves no clock that these GPUs have";
  for (const std::size_t index : gpus) {
    if (!gpus_[index]->is_restoring) continue;
    is_passing = true;
    return gpus_[index]->identity.uuid + " is still being restored after its last lease";
  }
  return {};
}

/// Clocks that all of them have and the policy allows on each, highest first.
std::vector<Megahertz> Agent::allowed_clocks(const Greeting& greeting,
                                             const std::vector<std::size_t>& gpus) const {
  std::vector<Megahertz> clocks = gpus_[gpus.front()]->clocks;
  for (const std::size_t index : gpus) {
    const Gpu& gpu = *gpus_[index];
    const auto range = options_.policy.allowed(greeting.peer.user, gpu.identity);
    std::erase_if(clocks, [&](Megahertz clock) {
      return clock < range->lowest || clock > range->highest ||
             std::ranges::find(gpu.clocks, clock) == gpu.clocks.end();
    });
  }
  if (clocks.size() > kMostClocks) clocks.resize(kMostClocks);
  return clocks;
}

void Agent::refuse(std::uint64_t number, const std::string& reason) {
  const Greeting& greeting = *greetings_.at(number);
  LeaseAnswer answer{};
  answer.magic = kLeaseMagic;
  answer.status = LeaseStatus::kRefused;
  reason.copy(answer.text.data(), answer.text.size() - 1);
  send_packet(greeting.socket.get(), std::as_bytes(std::span(&answer, 1)));
  if (refusals_logged_ < kMostRefusalsLogged) {
    ++refusals_logged_;
    log_(Importance::kProblem, "refused " + greeting.peer.name() + ": " + reason);
  } else {
    ++refusals_left_out_;
  }
  ++totals_.leases_refused;
  greetings_.erase(number);
}

/// What was refused beyond what is logged one by one.
void Agent::sum_up_refusals() {
  refusals_logged_ = 0;
  if (const int more = std::exchange(refusals_left_out_, 0); more > 0)
    log_(Importance::kProblem, "refused " + std::to_string(more) + " more");
}

void Agent::grant(std::uint64_t number, const std::vector<std::size_t>& gpus) {
  Greeting& greeting = *greetings_.at(number);
  auto lease = std::make_unique<Lease>();
  lease->number = number;
  lease->gpus = gpus;
  lease->clocks = allowed_clocks(greeting, gpus);
  lease->memories = std::make_shared<LeaseMemories>();
  const Descriptor requests = sealed_memory("slackline-requests", sizeof(RequestMemory));
  const Descriptor results = sealed_memory("slackline-results", sizeof(ResultMemory));
  if (requests && results) {
    lease->memories->requests = Mapping(requests.get(), sizeof(RequestMemory), PROT_READ);
    lease->memories->results = Mapping(results.get(), sizeof(ResultMemory));
  }
  if (!lease->memories->requests || !lease->memories->results || !seal_for_readers(results.get())) {
    return refuse(number, std::string("no memory for the lease: ") + std::strerror(errno));
  }
  auto* result = new (lease->memories->results.get()) ResultMemory{};
  result->asleep = 1;
  result->gpu_count = static_cast<std::uint32_t>(gpus.size());
  result->clock_count = static_cast<std::uint32_t>(lease->clocks.size());
  for (std::size_t c = 0; c < lease->clocks.size(); ++c) result->clocks_mhz[c] = lease->clocks[c].value();
  lease->needs_heartbeat = !greeting.is_seen;
  lease->heard = lease->requested = Clock::now();

  LeaseAnswer answer{};
  answer.magic = kLeaseMagic;
  answer.status = LeaseStatus::kGranted;
  if (lease->needs_heartbeat) {
    answer.heartbeat_ms = static_cast<std::uint32_t>(options_.heartbeat_patience.count() / 4);
  }
  try {
    if (greeting.peer.process)
      watch(greeting.peer.process.get(), token_of(Source::kProcess, number), EPOLLIN);
  } catch (const DeviceError& error) {
    return refuse(number, error.what());
  }
  const std::array memories{requests.get(), results.get()};
  if (!send_packet(greeting.socket.get(), std::as_bytes(std::span(&answer, 1)), memories)) {
    greetings_.erase(number);
    return;
  }
  lease->socket = std::move(greeting.socket);
  lease->peer = std::move(greeting.peer);
  greetings_.erase(number);
  std::string names;
  for (const std::size_t index : gpus) {
    gpus_[index]->lease = number;
    names += (names.empty() ? "" : ", ") + gpus_[index]->identity.uuid;
  }
  log_(Importance::kRoutine, lease->peer.name() + " leases " + names);
  ++totals_.leases_granted;
  leases_.emplace(number, std::move(lease));
}

void Agent::take_request(Lease& lease) {
  const auto request = ClockRequest::of(lease.memories->request().request.load(std::memory_order_seq_cst));
  const std::uint32_t fresh = request.sequence - lease.seen;
  const auto now = Clock::now();
  if (fresh != 0) {
    if (request.clock > lease.clocks.size()) {
      ++totals_.requests.refused;
      return end_lease(lease.number, LeaseEnd::kClockNotAllowed);
    }
    lease.seen = request.sequence;
    lease.in_step = request.in_step;
    lease.requested = now;
    const Megahertz clock = request.clock == 0 ? Megahertz(0) : lease.clocks[request.clock - 1];
    for (std::size_t g = 0; g < lease.gpus.size(); ++g) {
      gpus_[lease.gpus[g]]->worker->post(
          {request.sequence, clock, steady_ns(), &lease.memories->result().gpus[g], lease.memories},
          world_ != nullptr && world_->is_virtual() ? fresh : 0);
    }
  }
  // Virtual time stands still while a request is on its way, however long that takes; nothing to poll for.
  const bool is_virtual = world_ != nullptr && world_->is_virtual();
  const bool wants_poll = lease.in_step && !is_virtual && now - lease.requested < options_.poll_patience;
  if (wants_poll == lease.is_polled) return;
  lease.is_polled = wants_poll;
  lease.memories->result().asleep.store(wants_poll ? 0 : 1, std::memory_order_seq_cst);
  if (wants_poll) return set_polling(true);
  // The client may have posted before it could see that we sleep.
  take_request(lease);
}

void Agent::poll_requests() {
  std::uint64_t expirations = 0;  // a timer that nobody reads does not go on
  [[maybe_unused]] const ssize_t count = ::read(poll_timer_.get(), &expirations, sizeof expirations);
  bool wanted = false;
  for (auto next = leases_.begin(); next != leases_.end();) {
    Lease& lease = *(next++)->second;  // it may end here
    if (!lease.is_polled) continue;
    wanted = true;
    take_request(lease);
  }
  if (!wanted) set_polling(false);
}

void Agent::set_polling(bool wanted) {
  if (polling_ == wanted) return;
  polling_ = wanted;
  const auto ns = wanted ? std::chrono::nanoseconds(options_.poll_period).count() : 0;
  const timespec period{ns / 1'000'000'000, ns % 1'000'000'000};
  const itimerspec timer{period, period};
  ::timerfd_settime(poll_timer_.get(), 0, &timer, nullptr);
}

void Agent::end_lease(std::uint64_t number, LeaseEnd end) {
  const auto found = leases_.find(number);
  if (found == leases_.end()) return;
  const std::unique_ptr<Lease> lease = std::move(found->second);
  leases_.erase(found);
  lease->memories->result().ended.store(end, std::memory_order_seq_cst);
  for (const std::size_t index : lease->gpus) {
    gpus_[index]->lease = 0;
    gpus_[index]->is_restoring = true;
    gpus_[index]->worker->restore();
  }
  ++totals_.leases_ended[text_of(end)];
  const bool is_ordinary =
      end == LeaseEnd::kClosed || end == LeaseEnd::kProcessEnded || end == LeaseEnd::kAgentEnded;
  log_(is_ordinary ? Importance::kRoutine : Importance::kProblem,
       "the lease of " + lease->peer.name() + " is over: " + text_of(end));
}

void Agent::after_workers() {
  std::uint64_t rings = 0;
  [[maybe_unused]] const ssize_t count = ::read(workers_done_.get(), &rings, sizeof rings);
  for (const auto& gpu : gpus_) {
    // Asked first: a fault of the lease that is over must not be taken for one of the next.
    const bool is_restored = gpu->is_restoring && gpu->worker->is_restored();
    if (const auto fault = gpu->worker->take_fault()) {
      log_(Importance::kProblem, *fault);
      if (gpu->lease != 0) end_lease(gpu->lease, LeaseEnd::kDriverRefused);
    }
    if (is_restored) gpu->is_restoring = false;
  }
  for (auto next = greetings_.begin(); next != greetings_.end();) {
    const std::uint64_t number = (next++)->first;
    Greeting& greeting = *greetings_.at(number);
    if (greeting.gpus.empty()) continue;
    std::vector<std::size_t> gpus;
    bool is_passing = false;
    const std::string reason = reason_to_refuse(greeting, gpus, is_passing);
    if (reason.empty()) {
      grant(number, gpus);
    } else if (!is_passing) {
      refuse(number, reason);
    }
  }
}

void Agent::look_after_silence() {
  const auto now = Clock::now();
  for (auto next = leases_.begin(); next != leases_.end();) {
    const Lease& lease = *(next++)->second;
    if (lease.needs_heartbeat && now - lease.heard > options_.heartbeat_patience) {
      end_lease(lease.number, LeaseEnd::kSilent);
    }
  }
  for (auto next = greetings_.begin(); next != greetings_.end();) {
    const std::uint64_t number = next->first;
    const Greeting& greeting = *(next++)->second;
    if (now - greeting.since < kGreetingPatience) continue;
    refuse(number, greeting.gpus.empty() ? "it connected and said nothing"
                                         : "the GPUs are still being restored after their last lease");
  }
  epoll_event event{};
  event.events = EPOLLIN;
  event.data.u64 = token_of(Source::kListener);
  ::epoll_ctl(epoll_.get(), EPOLL_CTL_ADD, listening_->get(), &event);  // again, if it had been taken out
}

/// Once for each call.
void Agent::note_slow_drivers() {
  for (const auto& gpu : gpus_) {
    const auto time = gpu->worker->in_driver_for();
    const bool was_slow = std::exchange(gpu->is_slow, time > kSlowDriver);
    if (!gpu->is_slow || was_slow) continue;
    log_(Importance::kProblem,
         gpu->identity.uuid + ": the driver has not answered for " +
             std::to_string(std::chrono::duration_cast<std::chrono::seconds>(time).count()) + " s");
  }
}

std::chrono::nanoseconds Agent::silence_of_drivers() const {
  if (gpus_.empty()) return {};
  const auto silence = [](const auto& gpu) { return gpu->worker->in_driver_for(); };
  return silence(*std::ranges::min_element(gpus_, {}, silence));
}

AgentMetrics Agent::metrics() const {
  AgentMetrics metrics = totals_;
  for (const auto& gpu : gpus_) {
    const WorkerCounts counts = gpu->worker->counts();
    metrics.requests.applied += counts.applied;
    metrics.requests.skipped += counts.skipped;
    metrics.requests.overtaken += counts.overtaken;
    metrics.requests.failed += counts.failed;
    metrics.restores += counts.restored;
    metrics.restore_failures += counts.restore_failures;
    metrics.gpus.push_back({gpu->identity.uuid, gpu->lease != 0, counts.requested, counts.observed,
                            counts.energy, counts.last_call});
  }
  return metrics;
}

}  // namespace slackline
