#include "slackline/runtime/job_server.h"

#include <fcntl.h>
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
enum class Source : std::uint64_t { kListener, kGreeting, kMemberSocket, kDoorbell };
constexpr std::uint64_t token_of(Source source, int number) {
  return static_cast<std::uint64_t>(source) << 32 | static_cast<std::uint32_t>(number);
}

std::span<const std::byte> bytes_of(const JobWelcome& welcome) {
  return std::as_bytes(std::span(&welcome, 1));
}

template <std::size_t N>
void copy_text(std::array<char, N>& target, const std::string& text) {
  const std::size_t length = std::min(text.size(), N - 1);
  std::memcpy(target.data(), text.data(), length);
  target[length] = '\0';
}

}  // namespace

struct JobServer::Member {
  int stage = 0;
  int pipeline_stage = 0;  // what it calls itself
  Descriptor socket;
  Descriptor doorbell;
  Mapping mapping;
  std::uint32_t rings_heard = 0;
  std::uint64_t events_read = 0;

  [[nodiscard]] JobMemory& memory() const { return *static_cast<JobMemory*>(mapping.get()); }
};

JobServer::JobServer(std::shared_ptr<SimWorld> world, JobOptions options, const std::string& socket_path,
                     JobObserver& observer)
    : world_(std::move(world)),
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
    participant_->hear_tidings(options_.simulated_stage);
  }
}

JobServer::~JobServer() {
  ::unlink(socket_path_.c_str());
}

void JobServer::watch(int fd, std::uint64_t token) {
  epoll_event event{};
  event.events = EPOLLIN;
  event.data.u64 = token;
  if (::epoll_ctl(epoll_.get(), EPOLL_CTL_ADD, fd, &event) != 0) {
    throw DeviceError("watch", socket_path_, std::strerror(errno));
  }
}

void JobServer::serve() {
  std::array<epoll_event, 64> events{};
  const int count = ::epoll_wait(epoll_.get(), events.data(), static_cast<int>(events.size()), 0);
  const std::lock_guard lock(mutex_);
  for (int i = 0; i < count; ++i) {
    const std::uint64_t token = events[static_cast<std::size_t>(i)].data.u64;
    const int number = static_cast<int>(token & 0xffffffff);
    switch (static_cast<Source>(token >> 32)) {
      case Source::kListener:
        accept_member();
        break;
      case Source::kGreeting:
        answer_hello(number);
        break;
      case Source::kMemberSocket:  // a client says nothing after its hello: this is its end
        end_member(number);
        break;
      case Source::kDoorbell:
        if (const auto member = members_.find(number); member != members_.end()) handle_ring(*member->second);
        break;
    }
  }
}

void JobServer::accept_member() {
  Descriptor client(::accept4(listener_.get(), nullptr, nullptr, SOCK_CLOEXEC));
  if (!client) return;
  const int fd = client.get();
  watch(fd, token_of(Source::kGreeting, fd));
  greeting_.emplace(fd, std::move(client));
}

void JobServer::answer_hello(int fd) {
  Descriptor client = std::move(greeting_.at(fd));
  greeting_.erase(fd);
  const auto packet = receive_packet(client.get(), sizeof(JobHello) + 1);
  if (!packet) return;  // it is gone
  JobWelcome welcome{};
  welcome.magic = kJobMagic;
  const auto refuse = [&](const std::string& reason, bool is_fatal) {
    welcome.status = 1;
    copy_text(welcome.text, reason);
    send_packet(client.get(), bytes_of(welcome));
    if (is_fatal) observer_.on_refusal(reason);
  };
  JobHello hello{};
  std::memcpy(&hello, packet->data.data(), std::min(packet->data.size(), sizeof hello));
  // All versions begin alike, and what is not ours at all is no process of the job.
  const bool is_ours = packet->data.size() >= sizeof hello.magic && hello.magic >> 8 == kJobMagic >> 8;
  if (is_ours && hello.magic != kJobMagic) {
    return refuse("the client speaks another version of the protocol", true);
  }
  if (!is_ours || packet->data.size() != sizeof hello) {
    const std::string reason = "the client broke the protocol";
    refuse(reason, false);
    return observer_.on_stranger("refused a connection to " + socket_path_ + ": " + reason);
  }
  if (const auto [reason, is_fatal] = reason_to_refuse(hello); !reason.empty()) {
    return refuse(reason, is_fatal);
  }
  const int number = options_.has_one_rank ? 0 : hello.stage;

  static const std::vector<PlanEntry> kNoPlan;
  const auto stage = static_cast<std::size_t>(number);
  const std::vector<PlanEntry>& plan = options_.plan.empty() ? kNoPlan : options_.plan[stage];
  const std::size_t bytes = JobMemory::bytes(plan.size());
  auto member = std::make_unique<Member>();
  member->stage = number;
  member->pipeline_stage = hello.stage;
  const Descriptor memory(::memfd_create("slackline-job", MFD_CLOEXEC | MFD_ALLOW_SEALING));
  if (!memory || ::ftruncate(memory.get(), static_cast<off_t>(bytes)) != 0 ||
      ::fcntl(memory.get(), F_ADD_SEALS, F_SEAL_SHRINK | F_SEAL_GROW | F_SEAL_SEAL) != 0)
    return refuse(std::strerror(errno), true);
  member->mapping = Mapping(memory.get(), bytes);
  member->doorbell = Descriptor(::eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK));
  if (!member->mapping || !member->doorbell) return refuse(std::strerror(errno), true);
  auto* shared = new (member->mapping.get()) JobMemory{};
  shared->repeat_kinds = repeat_[stage];
  shared->released = released_ ? 1 : 0;
  if (!plan.empty()) std::memcpy(shared->plan(), plan.data(), plan.size() * sizeof(PlanEntry));

  welcome.plan_length = static_cast<std::int32_t>(plan.size());
  welcome.baseline_steps = std::max(0, options_.baseline_steps - steps_begun_[stage]);
  if (!plan.empty()) {
    const std::vector<std::string>& gpus = options_.stage_gpus[stage];
    welcome.gpu_count = static_cast<std::int32_t>(gpus.size());
    for (std::size_t g = 0; g < gpus.size(); ++g) copy_text(welcome.gpus.at(g), gpus[g]);
    copy_text(welcome.agent_socket, options_.agent_socket);
  }
  if (world_) copy_text(welcome.sim_world, world_->path());
  const std::array fds{memory.get(), member->doorbell.get()};
  if (!send_packet(client.get(), bytes_of(welcome), fds)) return;
  // The greeting's watch lives on the same descriptor; it only gets another meaning.
  epoll_event event{};
  event.events = EPOLLIN;
  event.data.u64 = token_of(Source::kMemberSocket, number);
  ::epoll_ctl(epoll_.get(), EPOLL_CTL_MOD, client.get(), &event);
  watch(member->doorbell.get(), token_of(Source::kDoorbell, number));
  member->socket = std::move(client);
  members_.emplace(number, std::move(member));
  observer_.on_join(number, hello.stage, hello.stages);
}

std::pair<std::string, bool> JobServer::reason_to_refuse(const JobHello& hello) const {
  const int stages = options_.has_one_rank ? hello.stages : static_cast<int>(options_.stage_gpus.size());
  if (hello.stages != stages) {
    return {(options_.plan.empty() ? "the device has GPUs for " : "the schedule is for ") +
                std::to_string(stages) + " stages, the job has " + std::to_string(hello.stages),
            true};
  }
  if (hello.stage < 0 || hello.stage >= stages) {
    return {"there is no stage " + std::to_string(hello.stage), true};
  }
  if (options_.simulated_stage && hello.stage != *options_.simulated_stage) {
    return {"this rank's simulated GPUs are those of stage " + std::to_string(*options_.simulated_stage) +
                ", its process drives stage " + std::to_string(hello.stage),
            true};
  }
  if (members_.contains(options_.has_one_rank ? 0 : hello.stage)) {
    return {"another process drives stage " + std::to_string(hello.stage) + " already", false};
  }
  return {};
}

void JobServer::handle_ring(Member& member) {
  std::uint64_t count = 0;
  [[maybe_unused]] const ssize_t bytes = ::read(member.doorbell.get(), &count, sizeof count);
  const std::uint32_t rings = member.memory().rings.load(std::memory_order_acquire);
  const std::uint32_t fresh = rings - std::exchange(member.rings_heard, rings);
  drain_events(member);
  if (world_ && fresh > 0) world_->take_tidings(member.pipeline_stage, fresh);
}

void JobServer::drain_events(Member& member) {
  const std::uint64_t written = member.memory().events_written.load(std::memory_order_acquire);
  if (written - member.events_read > JobMemory::kEvents) {
    events_lost_ += written - member.events_read - JobMemory::kEvents;
    member.events_read = written - JobMemory::kEvents;
  }
  while (member.events_read < written) {
    const JobEvent event = member.memory().events[member.events_read++ % JobMemory::kEvents];
    if (event.type == JobEventType::kStepBegin) ++steps_begun_[static_cast<std::size_t>(member.stage)];
    observer_.on_event(member.stage, event);
  }
}

void JobServer::end_member(int stage) {
  const auto found = members_.find(stage);
  if (found == members_.end()) return;
  handle_ring(*found->second);
  members_.erase(found);
  observer_.on_end(stage);
}

void JobServer::set_repeat(int stage, std::uint32_t kinds) {
  const std::lock_guard lock(mutex_);
  repeat_[static_cast<std::size_t>(stage)] = kinds;
  if (const auto member = members_.find(stage); member != members_.end()) {
    member->second->memory().repeat_kinds = kinds;
  }
}

void JobServer::hold(int stage, Seconds time) {
  const std::lock_guard lock(mutex_);
  const auto ms = static_cast<std::uint32_t>(std::clamp(time.value() * 1e3, 0.0, 4e9));
  if (const auto member = members_.find(stage); member != members_.end()) {
    member->second->memory().hold_ms = ms;
  }
}

void JobServer::release() {
  const std::lock_guard lock(mutex_);
  released_ = true;
  for (const auto& [stage, member] : members_) member->memory().released = 1;
}

}  // namespace slackline
