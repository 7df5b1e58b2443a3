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
#include <functional>
#include <new>
#include <set>
#include <utility>

#include "slackline/base/error.h"
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

/// Memory of a name and size that its other users cannot change.
Descriptor sealed_memory(const char* name, std::size_t bytes) {
  Descriptor memory(::memfd_create(name, MFD_CLOEXEC | MFD_ALLOW_SEALING));
  if (memory && (::ftruncate(memory.get(), static_cast<off_t>(bytes)) != 0 ||
                 ::fcntl(memory.get(), F_ADD_SEALS, F_SEAL_SHRINK | F_SEAL_GROW | F_SEAL_SEAL) != 0)) {
    memory.reset();
  }
  return memory;
}

/// The clocks that a rank's plans name, highest first.
std::vector<Megahertz> clocks_of(const JobPlans::Rank& rank) {
  std::set<Megahertz, std::greater<>> clocks;
  for (const auto& plan : rank.clocks) clocks.insert(plan.begin(), plan.end());
  return {clocks.begin(), clocks.end()};
}

void fill(const JobTables& tables, const JobPlans::Rank& rank, const std::vector<Seconds>& times) {
  const std::vector<Megahertz> clocks = clocks_of(rank);
  std::ranges::transform(times, tables.seconds().begin(), &Seconds::value);
  std::ranges::copy(rank.order, tables.order().begin());
  std::ranges::transform(clocks, tables.clocks().begin(), &Megahertz::value);
  for (std::size_t p = 0; p < rank.clocks.size(); ++p) {
    std::ranges::transform(rank.clocks[p], tables.plan(p).begin(), [&](Megahertz clock) {
      const auto place = std::ranges::lower_bound(clocks, clock, std::ranges::greater());
      return static_cast<std::uint16_t>(place - clocks.begin());
    });
  }
}

constexpr int kMostPipelines = 1 << 14;

JobPlace place_of(const JobHello& hello) {
  return {hello.rank, hello.ranks, hello.pipeline, hello.pipelines, hello.lane, hello.lanes};
}

template <std::size_t N>
void copy_text(std::array<char, N>& target, const std::string& text) {
  const std::size_t length = std::min(text.size(), N - 1);
  std::memcpy(target.data(), text.data(), length);
  target[length] = '\0';
}

}  // namespace

struct JobServer::Member {
  int number = 0;
  int world_rank = 0;  // of the simulated node
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
      listener_(listen_on(socket_path)) {
  watch(listener_.get(), token_of(Source::kListener, 0));
  if (world_) {
    participant_.emplace(world_->join_as_observer());
    participant_->hear_tidings(options_.simulated_rank);
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
        answer_first_message(number);
        break;
      case Source::kMemberSocket:  // a process says nothing after its hello: this is its end
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

void JobServer::answer_first_message(int fd) {
  Descriptor client = std::move(greeting_.at(fd));
  greeting_.erase(fd);
  const auto packet = receive_packet(client.get(), std::max(sizeof(JobHello), sizeof(JobNotice)) + 1);
  if (!packet) return;  // it is gone
  JobNotice notice{};
  if (packet->data.size() == sizeof notice) {
    std::memcpy(&notice, packet->data.data(), sizeof notice);
    if (notice.magic == kNoticeMagic) return answer_notice(client, notice);
  }
  JobHello hello{};
  std::memcpy(&hello, packet->data.data(), std::min(packet->data.size(), sizeof hello));
  const auto refuse = [&](const std::string& reason) {
    JobWelcome welcome{};
    welcome.magic = kJobMagic;
    welcome.status = 1;
    copy_text(welcome.text, reason);
    send_packet(client.get(), bytes_of(welcome));
  };
  // All versions begin alike, and what is not ours at all is no process of the job.
  const bool is_ours = packet->data.size() >= sizeof hello.magic && hello.magic >> 8 == kJobMagic >> 8;
  if (is_ours && hello.magic != kJobMagic) {
    const std::string reason = "the client speaks another version of the protocol";
    refuse(reason);
    return observer_.on_refusal(reason);
  }
  if (!is_ours || packet->data.size() != sizeof hello) {
    const std::string reason = "the client broke the protocol";
    refuse(reason);
    return observer_.on_stranger("refused a connection to " + socket_path_ + ": " + reason);
  }
  hello.gpu.back() = '\0';
  if (const auto [reason, is_fatal] = reason_to_refuse(hello); !reason.empty()) {
    refuse(reason);
    if (is_fatal) observer_.on_refusal(reason);
    return;
  }
  try {
    admit(std::move(client), hello);
  } catch (const DeviceError& error) {
    observer_.on_refusal(error.what());
  }
}

void JobServer::answer_notice(const Descriptor& client, const JobNotice& notice) {
  JobNoticeAnswer answer{};
  answer.magic = kNoticeMagic;
  const auto refuse = [&](const std::string& reason) {
    answer.status = 1;
    copy_text(answer.text, reason);
  };
  const bool is_known = shape_ && notice.pipeline >= -1 && notice.pipeline < shape_->pipelines;
  if (options_.plans.empty()) {
    refuse("the job follows no schedule");
  } else if (!shape_) {
    refuse("no process of the job has joined yet");
  } else if (!is_known) {
    refuse("it has " + std::to_string(shape_->pipelines) + " pipelines, and so no pipeline " +
           std::to_string(notice.pipeline));
  } else if (shape_->pipelines == 1) {
    refuse("it has one pipeline, which nobody waits for");
  } else if (!(notice.slowdown >= 1 && notice.slowdown <= kMostSlowdown)) {
    refuse("a slowdown is from 1 to " + std::to_string(static_cast<int>(kMostSlowdown)));
  } else {
    auto& slowdown = notice.pipeline < 0
                         ? board()->outside_slowdown
                         : board()->pipelines()[static_cast<std::size_t>(notice.pipeline)].slowdown;
    slowdown = notice.slowdown;
    ++board()->notices;
    observer_.on_notice(notice.pipeline, notice.slowdown);
  }
  send_packet(client.get(), std::as_bytes(std::span(&answer, 1)));
}

void JobServer::admit(Descriptor client, const JobHello& hello) {
  if (members_.empty()) begin_epoch(place_of(hello));
  const int number = number_of(hello);
  static const JobPlans::Rank kNoPlan;
  const JobPlans::Rank& rank =
      options_.plans.empty() ? kNoPlan : options_.plans.ranks[static_cast<std::size_t>(hello.rank)];
  const auto count = [](std::size_t n) { return static_cast<std::int32_t>(n); };
  const JobShape shape{count(rank.order.size()), count(clocks_of(rank).size()), count(rank.clocks.size())};

  auto member = std::make_unique<Member>();
  member->number = number;
  member->world_rank = hello.pipeline * hello.ranks + hello.rank;
  const Descriptor memory = sealed_memory("slackline-job", JobTables::bytes(shape));
  if (memory) member->mapping = Mapping(memory.get(), JobTables::bytes(shape));
  member->doorbell = Descriptor(::eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK));
  if (!member->mapping || !member->doorbell) {
    throw DeviceError("serve the job", "rank " + std::to_string(hello.rank), std::strerror(errno));
  }
  auto* shared = new (member->mapping.get()) JobMemory{};
  shared->repeat_kinds = repeat_[number];
  shared->released = released_ ? 1 : 0;
  if (shape.order_length > 0) fill(JobTables(shared, shape), rank, options_.plans.times);

  JobWelcome welcome{};
  welcome.magic = kJobMagic;
  welcome.shape = shape;
  welcome.plan_count = hello.pipelines > 1 ? shape.plan_capacity : std::min(shape.plan_capacity, 1);
  welcome.baseline_steps =
      std::max(std::min(1, options_.baseline_steps), options_.baseline_steps - steps_begun_[number]);
  welcome.epoch = epoch_;
  welcome.joins_late = has_begun_ ? 1 : 0;
  welcome.detect_steps = options_.detect_steps;
  welcome.detect_share = options_.detect_share;
  if (shape.order_length > 0) {
    const std::vector<std::string> gpus = gpus_of(hello);
    welcome.gpu_count = count(gpus.size());
    for (std::size_t g = 0; g < gpus.size(); ++g) copy_text(welcome.gpus.at(g), gpus[g]);
    copy_text(welcome.agent_socket, options_.agent_socket);
  }
  if (world_) copy_text(welcome.sim_world, world_->path());
  const std::array fds{memory.get(), member->doorbell.get(), board_memory_.get()};
  if (!send_packet(client.get(), bytes_of(welcome), fds)) return;
  // The greeting's watch lives on the same descriptor; it only gets another meaning.
  epoll_event event{};
  event.events = EPOLLIN;
  event.data.u64 = token_of(Source::kMemberSocket, number);
  ::epoll_ctl(epoll_.get(), EPOLL_CTL_MOD, client.get(), &event);
  watch(member->doorbell.get(), token_of(Source::kDoorbell, number));
  member->socket = std::move(client);
  members_.emplace(number, std::move(member));
  observer_.on_join(number, place_of(hello), gpus_of(hello));
}

std::pair<std::string, bool> JobServer::reason_to_refuse(const JobHello& hello) const {
  const auto text = [](int n) { return std::to_string(n); };
  constexpr std::int64_t kMost = 1'000'000;
  const auto is_wrong = [](int number, int count) { return number < 0 || number >= count || count > kMost; };
  if (is_wrong(hello.rank, hello.ranks) || is_wrong(hello.pipeline, hello.pipelines) ||
      is_wrong(hello.lane, hello.lanes) || hello.pipelines > kMostPipelines ||
      std::int64_t{hello.ranks} * hello.pipelines > kMost ||
      std::int64_t{hello.ranks} * hello.pipelines * hello.lanes > kMost) {
    return {"there is no rank " + text(hello.rank) + " of " + text(hello.ranks) + ", pipeline " +
                text(hello.pipeline) + " of " + text(hello.pipelines) + ", lane " + text(hello.lane) +
                " of " + text(hello.lanes),
            true};
  }
  if (!options_.plans.empty() && hello.ranks != static_cast<int>(options_.plans.ranks.size())) {
    return {"the schedule is for " + text(static_cast<int>(options_.plans.ranks.size())) +
                " ranks, the job has " + text(hello.ranks),
            true};
  }
  const auto places = static_cast<int>(options_.rank_gpus.size());
  if (options_.plans.empty() && !options_.has_one_rank) {
    if (hello.ranks * hello.pipelines != places) {
      return {"the device has GPUs for " + text(places) + " ranks, the job has " +
                  text(hello.ranks * hello.pipelines),
              true};
    }
    if (hello.lanes > 1) return {"the job has " + text(hello.lanes) + " processes a rank, not one", true};
  }
  if (!options_.has_one_rank && places > 0 && hello.gpu[0] == '\0' &&
      static_cast<std::int64_t>(hello.ranks) * hello.pipelines > places) {
    return {"the device has GPUs for " + text(places) + " ranks, the job has " + text(hello.ranks) +
                (hello.pipelines > 1 ? " in each of " + text(hello.pipelines) + " pipelines" : ""),
            true};
  }
  if (world_ && static_cast<std::int64_t>(hello.ranks) * hello.pipelines != world_->ranks()) {
    return {"the device simulates " + text(world_->ranks()) + " ranks, the job has " +
                text(hello.ranks * hello.pipelines),
            true};
  }
  if (world_ && hello.lanes > 1) {
    return {"all simulated GPUs of a rank are driven by one process, the job has " + text(hello.lanes), true};
  }
  const JobPlace place = place_of(hello);
  if (!members_.empty() && (shape_->ranks != place.ranks || shape_->pipelines != place.pipelines ||
                            shape_->lanes != place.lanes)) {
    return {"another process says that the job has " + text(shape_->ranks) + " ranks, " +
                text(shape_->pipelines) + " pipelines and " + text(shape_->lanes) + " lanes",
            true};
  }
  const int world_rank = hello.pipeline * hello.ranks + hello.rank;
  if (options_.simulated_rank && world_rank != *options_.simulated_rank) {
    return {"the simulated GPUs here are those of rank " + text(*options_.simulated_rank) +
                ", the process is rank " + text(world_rank),
            true};
  }
  if (hello.gpu[0] != '\0' && !world_ && std::ranges::count(options_.gpus, hello.gpu.data()) == 0) {
    return {std::string("its GPU ") + hello.gpu.data() + " is none of those that --device names", true};
  }
  if (members_.contains(number_of(hello))) {
    return {"another process is rank " + text(hello.rank) + " already", false};
  }
  return {};
}

int JobServer::number_of(const JobHello& hello) const {
  if (options_.has_one_rank) return 0;
  return (hello.pipeline * hello.ranks + hello.rank) * hello.lanes + hello.lane;
}

std::vector<std::string> JobServer::gpus_of(const JobHello& hello) const {
  if (hello.gpu[0] != '\0' && !world_) return {hello.gpu.data()};
  const std::size_t place =
      options_.has_one_rank ? 0 : static_cast<std::size_t>(hello.pipeline * hello.ranks + hello.rank);
  if (place >= options_.rank_gpus.size()) return {};
  const std::vector<std::string>& all = options_.rank_gpus[place];
  // Lanes share the rank's GPUs out.
  const auto lanes = static_cast<std::size_t>(hello.lanes);
  const auto lane = static_cast<std::size_t>(hello.lane);
  const auto at = [&](std::size_t n) {
    return all.begin() + static_cast<std::ptrdiff_t>(all.size() * n / lanes);
  };
  return {at(lane), at(lane + 1)};
}

void JobServer::make_board(int pipelines) {
  const std::size_t bytes = JobBoard::bytes(static_cast<std::size_t>(pipelines));
  board_ = {};
  board_memory_ = sealed_memory("slackline-board", bytes);
  if (board_memory_) board_ = Mapping(board_memory_.get(), bytes);
  if (!board_) throw DeviceError("serve the job", socket_path_, std::strerror(errno));
  auto* const board = new (board_.get()) JobBoard{};
  board->pipeline_count = pipelines;
  board->plan_count = static_cast<std::uint32_t>(options_.plans.times.size());
  board->outside_slowdown = 1;
  for (JobBoard::Pipeline& pipeline : board->pipelines()) {
    new (&pipeline) JobBoard::Pipeline{};
    pipeline.slowdown = 1;
  }
}

/// The job has started, perhaps anew, and counts its steps from 0.
void JobServer::begin_epoch(const JobPlace& first) {
  ++epoch_;
  has_begun_ = false;
  if (!shape_ || shape_->pipelines != first.pipelines) make_board(first.pipelines);
  shape_ = first;
}

void JobServer::handle_ring(Member& member) {
  std::uint64_t count = 0;
  [[maybe_unused]] const ssize_t bytes = ::read(member.doorbell.get(), &count, sizeof count);
  const std::uint32_t rings = member.memory().rings.load(std::memory_order_acquire);
  const std::uint32_t fresh = rings - std::exchange(member.rings_heard, rings);
  drain_events(member);
  if (world_ && fresh > 0) world_->take_tidings(member.world_rank, fresh);
}

void JobServer::drain_events(Member& member) {
  const std::uint64_t written = member.memory().events_written.load(std::memory_order_acquire);
  if (written - member.events_read > JobMemory::kEvents) {
    events_lost_ += written - member.events_read - JobMemory::kEvents;
    member.events_read = written - JobMemory::kEvents;
  }
  while (member.events_read < written) {
    const JobEvent event = member.memory().events[member.events_read++ % JobMemory::kEvents];
    if (event.type == JobEventType::kStepEnd) has_begun_ = true;
    if (event.type == JobEventType::kStepBegin) ++steps_begun_[member.number];
    observer_.on_event(member.number, event);
  }
}

void JobServer::end_member(int number) {
  const auto found = members_.find(number);
  if (found == members_.end()) return;
  handle_ring(*found->second);
  members_.erase(found);
  observer_.on_end(number);
}

void JobServer::set_repeat(int number, std::uint32_t kinds) {
  const std::lock_guard lock(mutex_);
  repeat_[number] = kinds;
  if (const auto member = members_.find(number); member != members_.end()) {
    member->second->memory().repeat_kinds = kinds;
  }
}

void JobServer::hold(int number, Seconds time) {
  const std::lock_guard lock(mutex_);
  const auto ms = static_cast<std::uint32_t>(std::clamp(time.value() * 1e3, 0.0, 4e9));
  if (const auto member = members_.find(number); member != members_.end()) {
    member->second->memory().hold_ms = ms;
  }
}

void JobServer::release() {
  const std::lock_guard lock(mutex_);
  released_ = true;
  for (const auto& [number, member] : members_) member->memory().released = 1;
}

}  // namespace slackline
