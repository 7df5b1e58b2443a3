#include "slackline/runtime/agent.h"

#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <cstring>
#include <new>
#include <utility>

#include "slackline/base/error.h"
#include "slackline/runtime/mapping.h"
#include "slackline/runtime/packet_socket.h"

namespace slackline {
namespace {

// What an epoll token names: the kind of descriptor above, its stage or number below.
enum class Source : std::uint64_t { kListener, kGreeting, kLeaseSocket, kDoorbell };
constexpr std::uint64_t token_of(Source source, int number) {
  return static_cast<std::uint64_t>(source) << 32 | static_cast<std::uint32_t>(number);
}

std::span<const std::byte> bytes_of(const Welcome& welcome) {
  return std::as_bytes(std::span(&welcome, 1));
}

template <std::size_t N>
void copy_text(std::array<char, N>& target, const std::string& text) {
  const std::size_t length = std::min(text.size(), N - 1);
  std::memcpy(target.data(), text.data(), length);
  target[length] = '\0';
}

}  // namespace

struct Agent::Lease {
  int stage = 0;
  Descriptor socket;
  Descriptor doorbell;
  Mapping mapping;
  std::uint32_t requests_seen = 0;
  std::uint64_t events_read = 0;
  Megahertz clock;                     // locked now; 0: at the baseline
  std::vector<Journal::Claim> claims;  // GPUs of the stage, from its first on, that are ours to change

  [[nodiscard]] LeaseMemory& memory() const { return *static_cast<LeaseMemory*>(mapping.get()); }
};

Agent::Agent(Device& device, std::shared_ptr<SimWorld> world, Journal& journal, AgentOptions options,
             const std::string& socket_path, JobObserver& observer)
    : device_(device),
      world_(std::move(world)),
      journal_(journal),
      options_(std::move(options)),
      observer_(observer),
      socket_path_(socket_path),
      epoll_(::epoll_create1(EPOLL_CLOEXEC)),
      listener_(listen_on(socket_path)),
      repeat_(options_.stage_gpus.size(), 0),
      steps_begun_(options_.stage_gpus.size(), 0) {
  watch(listener_.get(), token_of(Source::kListener, 0));
  if (world_) {
    participant_.emplace(world_->join_as_observer());
    participant_->serve_requests();
  }
}

Agent::~Agent() {
  restore_all();
  ::unlink(socket_path_.c_str());
}

void Agent::watch(int fd, std::uint64_t token) {
  epoll_event event{};
  event.events = EPOLLIN;
  event.data.u64 = token;
  if (::epoll_ctl(epoll_.get(), EPOLL_CTL_ADD, fd, &event) != 0) {
    throw DeviceError("watch", socket_path_, std::strerror(errno));
  }
}

void Agent::serve() {
  std::array<epoll_event, 64> events{};
  const int count = ::epoll_wait(epoll_.get(), events.data(), static_cast<int>(events.size()), 0);
  const std::lock_guard lock(mutex_);
  for (int i = 0; i < count; ++i) {
    const std::uint64_t token = events[static_cast<std::size_t>(i)].data.u64;
    const int number = static_cast<int>(token & 0xffffffff);
    switch (static_cast<Source>(token >> 32)) {
      case Source::kListener:
        accept_client();
        break;
      case Source::kGreeting:
        answer_hello(number);
        break;
      case Source::kLeaseSocket:  // a client says nothing after its hello: this is its end
        end_lease(number);
        break;
      case Source::kDoorbell:
        if (const auto lease = leases_.find(number); lease != leases_.end()) handle_request(*lease->second);
        break;
    }
  }
}

void Agent::accept_client() {
  Descriptor client(::accept4(listener_.get(), nullptr, nullptr, SOCK_CLOEXEC));
  if (!client) return;
  const int fd = client.get();
  watch(fd, token_of(Source::kGreeting, fd));
  greeting_.emplace(fd, std::move(client));
}

void Agent::answer_hello(int fd) {
  Descriptor client = std::move(greeting_.at(fd));
  greeting_.erase(fd);
  const auto packet = receive_packet(client.get(), sizeof(Hello));
  if (!packet || packet->data.size() != sizeof(Hello)) return;
  Hello hello{};
  std::memcpy(&hello, packet->data.data(), sizeof hello);
  Welcome welcome{};
  welcome.magic = kProtocolMagic;
  const auto refuse = [&](const std::string& reason, bool is_fatal) {
    welcome.status = 1;
    copy_text(welcome.text, reason);
    send_packet(client.get(), bytes_of(welcome));
    if (is_fatal) observer_.on_refusal(reason);
  };
  if (hello.magic != kProtocolMagic) return refuse("the client speaks another version of the protocol", true);
  const int stages = static_cast<int>(options_.stage_gpus.size());
  if (hello.stages != stages) {
    return refuse((options_.plan.empty() ? "the device has GPUs for " : "the schedule is for ") +
                      std::to_string(stages) + " stages, the job has " + std::to_string(hello.stages),
                  true);
  }
  if (hello.stage < 0 || hello.stage >= stages) {
    return refuse("there is no stage " + std::to_string(hello.stage), true);
  }
  if (leases_.contains(hello.stage)) {
    return refuse("another process drives stage " + std::to_string(hello.stage) + " already", false);
  }

  static const std::vector<PlanEntry> kNoPlan;
  const auto stage = static_cast<std::size_t>(hello.stage);
  const std::vector<PlanEntry>& plan = options_.plan.empty() ? kNoPlan : options_.plan[stage];
  const std::size_t bytes = LeaseMemory::bytes(plan.size());
  auto lease = std::make_unique<Lease>();
  lease->stage = hello.stage;
  const Descriptor memory(::memfd_create("slackline-lease", MFD_CLOEXEC));
  if (!memory || ::ftruncate(memory.get(), static_cast<off_t>(bytes)) != 0)
    return refuse(std::strerror(errno), true);
  lease->mapping = Mapping(memory.get(), bytes);
  lease->doorbell = Descriptor(::eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK));
  if (!lease->mapping || !lease->doorbell) return refuse(std::strerror(errno), true);
  auto* shared = new (lease->mapping.get()) LeaseMemory{};
  shared->repeat_kinds = repeat_[stage];
  shared->released = released_ ? 1 : 0;
  if (!plan.empty()) std::memcpy(shared->plan(), plan.data(), plan.size() * sizeof(PlanEntry));

  welcome.plan_length = static_cast<std::int32_t>(plan.size());
  welcome.baseline_steps = std::max(0, options_.baseline_steps - steps_begun_[stage]);
  if (world_) copy_text(welcome.sim_world, world_->path());
  const std::array fds{memory.get(), lease->doorbell.get()};
  if (!send_packet(client.get(), bytes_of(welcome), fds)) return;
  // The greeting's watch lives on the same descriptor; it only gets another meaning.
  epoll_event event{};
  event.events = EPOLLIN;
  event.data.u64 = token_of(Source::kLeaseSocket, hello.stage);
  ::epoll_ctl(epoll_.get(), EPOLL_CTL_MOD, client.get(), &event);
  watch(lease->doorbell.get(), token_of(Source::kDoorbell, hello.stage));
  lease->socket = std::move(client);
  leases_.emplace(hello.stage, std::move(lease));
}

void Agent::handle_request(Lease& lease) {
  std::uint64_t rings = 0;
  [[maybe_unused]] const ssize_t count = ::read(lease.doorbell.get(), &rings, sizeof rings);
  const std::uint64_t request = lease.memory().request.load(std::memory_order_acquire);
  const auto sequence = static_cast<std::uint32_t>(request >> 32);
  const Megahertz clock(static_cast<std::int32_t>(request & 0xffffffff));
  const std::uint32_t fresh = sequence - lease.requests_seen;
  lease.requests_seen = sequence;
  drain_events(lease);
  if (!options_.plan.empty()) set_clock(lease, released_ ? Megahertz(0) : clock);
  if (world_ && fresh > 0) world_->take_requests(world_->first_gpu(lease.stage), fresh);
}

void Agent::drain_events(Lease& lease) {
  const std::uint64_t written = lease.memory().events_written.load(std::memory_order_acquire);
  if (written - lease.events_read > LeaseMemory::kEvents) {
    events_lost_ += written - lease.events_read - LeaseMemory::kEvents;
    lease.events_read = written - LeaseMemory::kEvents;
  }
  while (lease.events_read < written) {
    const LeaseEvent event = lease.memory().events[lease.events_read++ % LeaseMemory::kEvents];
    if (event.type == LeaseEventType::kStepBegin) ++steps_begun_[static_cast<std::size_t>(lease.stage)];
    observer_.on_event(lease.stage, event);
  }
}

void Agent::set_clock(Lease& lease, Megahertz clock) {
  if (clock == lease.clock) return;
  lease.clock = clock;
  if (clock == Megahertz(0)) return unlock(lease, false);
  const std::vector<GpuId>& gpus = options_.stage_gpus[static_cast<std::size_t>(lease.stage)];
  try {
    for (std::size_t g = 0; g < gpus.size(); ++g) {
      if (g == lease.claims.size()) {
        lease.claims.push_back(journal_.claim(device_.identity(gpus[g]).uuid));
        lease.claims.back().record(device_, device_.state(gpus[g]), Megahertz(0));
      }
      device_.lock_clock(gpus[g], clock);
    }
  } catch (const DeviceError& error) {
    lease.memory().released = 1;
    observer_.on_fault(error.what());
    set_clock(lease, Megahertz(0));
  }
}

void Agent::unlock(Lease& lease, bool for_good) {
  const std::vector<GpuId>& gpus = options_.stage_gpus[static_cast<std::size_t>(lease.stage)];
  for (std::size_t g = 0; g < lease.claims.size(); ++g) {
    try {
      device_.restore(gpus[g], "");
      if (for_good) lease.claims[g].clear();
    } catch (const DeviceError& error) {
      lease.memory().released = 1;
      observer_.on_fault(error.what());  // its journal entry stays, for the guardian
    }
  }
}

void Agent::end_lease(int stage) {
  const auto found = leases_.find(stage);
  if (found == leases_.end()) return;
  handle_request(*found->second);
  unlock(*found->second, true);
  leases_.erase(found);
  observer_.on_lease_end(stage);
}

void Agent::set_stage_clock(int stage, Megahertz clock) {
  const std::lock_guard lock(mutex_);
  const auto lease = leases_.find(stage);
  if (lease != leases_.end()) set_clock(*lease->second, clock);
}

void Agent::set_repeat(int stage, std::uint32_t kinds) {
  const std::lock_guard lock(mutex_);
  repeat_[static_cast<std::size_t>(stage)] = kinds;
  if (const auto lease = leases_.find(stage); lease != leases_.end())
    lease->second->memory().repeat_kinds = kinds;
}

void Agent::release() {
  const std::lock_guard lock(mutex_);
  released_ = true;
  for (const auto& [stage, lease] : leases_) {
    lease->memory().released = 1;
    set_clock(*lease, Megahertz(0));
  }
}

void Agent::restore_all() {
  const std::lock_guard lock(mutex_);
  while (!leases_.empty()) end_lease(leases_.begin()->first);
}

}  // namespace slackline
