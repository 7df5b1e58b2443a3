#include "slackline/device/sim_world.h"

#include <fcntl.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstring>
#include <new>
#include <utility>

#include "sim_build.h"
#include "sim_layout.h"
#include "sim_physics.h"
#include "sim_time.h"
#include "slackline/base/descriptor.h"
#include "slackline/base/error.h"

namespace slackline {
namespace {

constexpr std::uint64_t kMagic = 0x35646c726f77536bULL;  // changes with the layout
/// How long a participant may be dead before others notice, in wall time.
constexpr std::int64_t kLivenessCheckNs = 50'000'000;

[[noreturn]] void fail(const std::string& operation, const std::string& path) {
  throw DeviceError(operation, "sim:" + path, std::strerror(errno));
}

}  // namespace

/// Holds the world's lock. A process that died with it leaves plain data, each field of which is still valid.
class SimWorld::Guard {
 public:
  explicit Guard(const SimWorld& world) : owner_(world), world_(*world.layout_) {
    if (::pthread_mutex_lock(&world_.mutex) == EOWNERDEAD) ::pthread_mutex_consistent(&world_.mutex);
    if (world_.pace != 0) follow_wall_time(world_);
  }
  Guard(const Guard&) = delete;
  Guard& operator=(const Guard&) = delete;
  ~Guard() { ::pthread_mutex_unlock(&world_.mutex); }

  [[nodiscard]] bool is_lost(GpuId gpu) const { return world_.now_ns >= world_.gpus()[gpu.index()].lost_ns; }
  /// DeviceError if the driver has lost it.
  [[nodiscard]] SimGpuState& reachable(GpuId gpu, const char* operation) const {
    if (is_lost(gpu)) throw DeviceError(operation, owner_.label(gpu), kLost);
    return world_.gpus()[gpu.index()];
  }
  [[nodiscard]] const SimRankState& rank_of(const SimGpuState& gpu) const {
    return world_.ranks()[static_cast<std::size_t>(gpu.rank)];
  }

  /// Waits until somebody has let `participant` run again.
  void block(SimParticipantState& participant) {
    advance(world_);
    while (participant.activity != SimActivity::kRunning) {
      const std::uint32_t seen = participant.signal.load();
      std::int64_t patience = kLivenessCheckNs;
      if (world_.pace != 0) {
        const std::int64_t next = next_event(world_);
        const double until = next == kNever ? static_cast<double>(kLivenessCheckNs)
                                            : static_cast<double>(next - world_.now_ns) / world_.pace + 1;
        patience = static_cast<std::int64_t>(std::clamp(until, 1.0, static_cast<double>(kLivenessCheckNs)));
      }
      ::pthread_mutex_unlock(&world_.mutex);
      const std::int64_t begin = wall_ns();
      wait_for_signal(participant, seen, patience);
      if (::pthread_mutex_lock(&world_.mutex) == EOWNERDEAD) ::pthread_mutex_consistent(&world_.mutex);
      if (wall_ns() - begin >= kLivenessCheckNs) remove_dead(world_);
      advance(world_);
    }
  }

 private:
  const SimWorld& owner_;
  SimLayout& world_;
};

void SimWorld::create(const std::string& path, const std::vector<SimRank>& ranks, const SimOptions& options) {
  const Descriptor fd(::open(path.c_str(), O_RDWR | O_CREAT | O_EXCL | O_NOFOLLOW | O_CLOEXEC, 0600));
  if (!fd) fail("create", path);
  const std::size_t bytes = layout_bytes(ranks);
  if (::ftruncate(fd.get(), static_cast<off_t>(bytes)) != 0) fail("create", path);
  void* memory = ::mmap(nullptr, bytes, PROT_READ | PROT_WRITE, MAP_SHARED, fd.get(), 0);
  if (memory == MAP_FAILED) fail("create", path);
  auto& world = *new (memory) SimLayout;  // the file is zero already
  build(world, ranks, options);
  pthread_mutexattr_t attributes{};
  ::pthread_mutexattr_init(&attributes);
  ::pthread_mutexattr_setpshared(&attributes, PTHREAD_PROCESS_SHARED);
  ::pthread_mutexattr_setrobust(&attributes, PTHREAD_MUTEX_ROBUST);
  ::pthread_mutex_init(&world.mutex, &attributes);
  ::pthread_mutexattr_destroy(&attributes);
  world.magic = kMagic;
  ::munmap(memory, bytes);
}

SimWorld::SimWorld(std::string path) : path_(std::move(path)) {
  const Descriptor fd(::open(path_.c_str(), O_RDWR | O_NOFOLLOW | O_CLOEXEC));
  if (!fd) fail("open", path_);
  struct stat status {};
  if (::fstat(fd.get(), &status) != 0) fail("open", path_);
  const auto not_ours = [&] {
    return DeviceError("open", "sim:" + path_, "not a simulated node of this version");
  };
  if (!S_ISREG(status.st_mode) || status.st_uid != ::geteuid()) throw not_ours();
  bytes_ = static_cast<std::size_t>(status.st_size);
  if (bytes_ < sizeof(SimLayout)) throw not_ours();
  void* memory = ::mmap(nullptr, bytes_, PROT_READ | PROT_WRITE, MAP_SHARED, fd.get(), 0);
  if (memory == MAP_FAILED) fail("open", path_);
  layout_ = static_cast<SimLayout*>(memory);
  const auto count = [](std::int32_t n) { return static_cast<std::size_t>(std::max(n, 0)); };
  if (layout_->magic != kMagic ||
      bytes_ != SimLayout::bytes(count(layout_->rank_count), count(layout_->gpu_count),
                                 count(layout_->option_count), count(layout_->task_count))) {
    ::munmap(layout_, bytes_);
    throw not_ours();
  }
}

SimWorld::~SimWorld() {
  ::munmap(layout_, bytes_);
}

int SimWorld::ranks() const {
  return layout_->rank_count;
}
int SimWorld::gpus() const {
  return layout_->gpu_count;
}
bool SimWorld::is_virtual() const {
  return layout_->pace == 0;
}
Seconds SimWorld::counter_period() const {
  return from_nanoseconds(layout_->tick_ns);
}

Seconds SimWorld::now() {
  const Guard guard(*this);
  return from_nanoseconds(layout_->now_ns);
}

int SimWorld::join(Role role, int rank) {
  const Guard guard(*this);
  remove_dead(*layout_);
  const auto participants = layout_->participants();
  if (role == Role::kJob) {
    const bool taken =
        std::any_of(participants.begin(), participants.end(), [&](const SimParticipantState& p) {
          return p.activity != SimActivity::kFree && p.is_job != 0 && p.rank == rank;
        });
    if (taken || rank < 0 || rank >= layout_->rank_count) {
      throw DeviceError("join", "rank " + std::to_string(rank),
                        taken ? "another process drives it already" : "there is no such rank");
    }
  }
  auto& slots = layout_->slots;
  const auto free = std::find_if(slots.begin(), slots.end(), [](const SimParticipantState& p) {
    return p.activity == SimActivity::kFree;
  });
  if (free == slots.end()) throw DeviceError("join", "", "too many processes take part");
  const ProcessIdentity self = this_process();
  free->is_job = role == Role::kJob ? 1 : 0;
  free->rank = rank;
  free->pid = self.pid;
  free->start_time = self.start_time;
  free->activity = SimActivity::kRunning;
  if (role == Role::kJob) layout_->ranks()[static_cast<std::size_t>(rank)].joined = 1;
  const auto slot = static_cast<std::int32_t>(free - slots.begin());
  layout_->slots_used = std::max(layout_->slots_used, slot + 1);
  return slot;
}

SimWorld::Participant SimWorld::join_as_observer() {
  return {this, join(Role::kObserver, 0)};
}
SimWorld::Participant SimWorld::join_as_rank(int rank) {
  return {this, join(Role::kJob, rank)};
}

void SimWorld::send(Channel channel) {
  const Guard guard(*this);
  ++channel_state(*layout_, channel).untaken;
}

GpuId SimWorld::first_gpu(int rank) const {
  return GpuId(layout_->ranks()[static_cast<std::size_t>(rank)].first_gpu);
}

void SimWorld::post_request(GpuId gpu) {
  const Guard guard(*this);
  ++layout_->gpus()[gpu.index()].requests.untaken;
}

void SimWorld::post_requests(const std::vector<GpuId>& gpus) {
  const Guard guard(*this);
  for (const GpuId gpu : gpus) ++layout_->gpus()[gpu.index()].requests.untaken;
}

void SimWorld::take_requests(GpuId gpu, std::int64_t requests) {
  const Guard guard(*this);
  // Those of a process that died meanwhile are off the books already.
  std::int64_t& untaken = layout_->gpus()[gpu.index()].requests.untaken;
  untaken = std::max<std::int64_t>(0, untaken - requests);
  advance(*layout_);
}

void SimWorld::take_tidings(int rank, std::int64_t tidings) {
  const Guard guard(*this);
  std::int64_t& untaken = layout_->ranks()[static_cast<std::size_t>(rank)].tidings.untaken;
  untaken = std::max<std::int64_t>(0, untaken - tidings);
  advance(*layout_);
}

void SimWorld::forget_requests(GpuId gpu) {
  const Guard guard(*this);
  layout_->gpus()[gpu.index()].requests.untaken = 0;
  advance(*layout_);
}

void SimWorld::let_observers_run_on() {
  const Guard guard(*this);
  layout_->observers_run_on = 1;
  remove_dead(*layout_);
  advance(*layout_);
}

void SimWorld::shut_down() {
  const Guard guard(*this);
  layout_->shut_down = 1;
  for (SimParticipantState& participant : layout_->participants()) {
    if (participant.activity == SimActivity::kSleeping) start_running(participant);
  }
}

std::string SimWorld::label(GpuId gpu) const {
  return "sim:" + path_ + "#" + std::to_string(gpu.value());
}

std::vector<Megahertz> SimWorld::supported_clocks(GpuId gpu) const {
  const Guard guard(*this);
  const SimGpuState& state = guard.reachable(gpu, "list clocks");
  std::vector<Megahertz> supported;
  for (const std::int32_t clock : clocks_of(*layout_, guard.rank_of(state))) supported.emplace_back(clock);
  return supported;
}

void SimWorld::lock_clock(GpuId gpu, Megahertz clock) {
  constexpr const char* kOperation = "lock clock";
  const Guard guard(*this);
  SimGpuState& state = guard.reachable(gpu, kOperation);
  const std::vector<std::int32_t> clocks = clocks_of(*layout_, guard.rank_of(state));
  if (std::find(clocks.begin(), clocks.end(), clock.value()) == clocks.end()) {
    throw DeviceError(kOperation, label(gpu), std::to_string(clock.value()) + " MHz is not supported");
  }
  state.locked_mhz = clock.value();
  request_clock(*layout_, state, clock.value());
}

void SimWorld::unlock_clock(GpuId gpu) {
  const Guard guard(*this);
  SimGpuState& state = guard.reachable(gpu, "unlock clock");
  state.locked_mhz = 0;
  request_clock(*layout_, state, state.highest_mhz);
}

std::optional<Megahertz> SimWorld::locked_clock(GpuId gpu) {
  const Guard guard(*this);
  const std::int32_t clock = layout_->gpus()[gpu.index()].locked_mhz;
  return clock == 0 ? std::nullopt : std::optional(Megahertz(clock));
}

Megahertz SimWorld::observed_clock(GpuId gpu) {
  const Guard guard(*this);
  return Megahertz(running_clock(*layout_, guard.reachable(gpu, "read clock")));
}

EventReasons SimWorld::event_reasons(GpuId gpu) {
  const Guard guard(*this);
  const SimGpuState& state = guard.reachable(gpu, "read event reasons");
  EventReasons reasons;
  if (state.locked_mhz != 0) reasons |= EventReason::kUserSet;
  if (guard.rank_of(state).throttled != 0) reasons |= EventReason::kThermal;
  return reasons;
}

EnergyReading SimWorld::energy(GpuId gpu) {
  const Guard guard(*this);
  const SimCounter counter = read_counter(*layout_, guard.reachable(gpu, "read energy"));
  return {Joules(counter.total_j), from_nanoseconds(counter.tick_ns)};
}

Watts SimWorld::power(GpuId gpu) {
  const Guard guard(*this);
  return Watts(power_now(*layout_, guard.reachable(gpu, "read power")));
}

std::vector<int> SimWorld::processes(GpuId gpu) {
  constexpr int kIntruder = 0;
  const Guard guard(*this);
  const SimGpuState& state = guard.reachable(gpu, "list processes");
  std::vector<int> processes;
  for (const SimParticipantState& participant : layout_->participants()) {
    const bool drives = participant.activity != SimActivity::kFree && participant.is_job != 0 &&
                        participant.rank == state.rank;
    if (drives && is_alive({participant.pid, participant.start_time})) processes.push_back(participant.pid);
  }
  if (guard.rank_of(state).intruded != 0) processes.push_back(kIntruder);
  return processes;
}

bool SimWorld::is_lost(GpuId gpu) {
  const Guard guard(*this);
  return guard.is_lost(gpu);
}

SimWorld::Participant::Participant(Participant&& other) noexcept
    : world_(std::exchange(other.world_, nullptr)), slot_(other.slot_) {}

SimWorld::Participant::~Participant() {
  if (world_ == nullptr) return;
  const Guard guard(*world_);
  SimParticipantState& self = world_->layout_->slots[static_cast<std::size_t>(slot_)];
  remove(*world_->layout_, self);
  advance(*world_->layout_);
}

void SimWorld::Participant::launch(InstructionKind kind, std::optional<StageId> stage) {
  const Guard guard(*world_);
  const SimParticipantState& self = world_->layout_->slots[static_cast<std::size_t>(slot_)];
  SimRankState& rank = world_->layout_->ranks()[static_cast<std::size_t>(self.rank)];
  const auto tasks = world_->layout_->tasks_of(rank);
  const auto task = std::ranges::find_if(tasks, [&](const SimTaskRow& row) {
    return row.kind == static_cast<std::int32_t>(kind) && (!stage || row.stage == stage->value());
  });
  if (task == tasks.end()) {
    throw DeviceError(
        "run",
        "rank " + std::to_string(self.rank) + (stage ? ", stage " + std::to_string(stage->value()) : ""),
        "its profile has no '" + std::string(name_of(kind)) + "'");
  }
  begin_instruction(*world_->layout_, rank, static_cast<std::int32_t>(task - tasks.begin()));
}

void SimWorld::Participant::synchronize() {
  Guard guard(*world_);
  SimParticipantState& self = world_->layout_->slots[static_cast<std::size_t>(slot_)];
  if (world_->layout_->ranks()[static_cast<std::size_t>(self.rank)].running_task == kNoInstruction) return;
  self.activity = SimActivity::kComputing;
  guard.block(self);
}

void SimWorld::Participant::wait_begin(Channel channel) {
  if (!world_->is_virtual()) return;
  const Guard guard(*world_);
  SimParticipantState& self = world_->layout_->slots[static_cast<std::size_t>(slot_)];
  self.activity = SimActivity::kWaiting;
  self.channel = channel;
  advance(*world_->layout_);
}

void SimWorld::Participant::wait_end(Channel channel) {
  if (!world_->is_virtual()) return;
  const Guard guard(*world_);
  world_->layout_->slots[static_cast<std::size_t>(slot_)].activity = SimActivity::kRunning;
  --channel_state(*world_->layout_, channel).untaken;
}

bool SimWorld::Participant::sleep_until(Seconds time) {
  Guard guard(*world_);
  SimParticipantState& self = world_->layout_->slots[static_cast<std::size_t>(slot_)];
  self.wake_ns = to_nanoseconds(time);
  if (world_->layout_->shut_down == 0 && self.wake_ns > world_->layout_->now_ns) {
    self.activity = SimActivity::kSleeping;
    guard.block(self);
  }
  return world_->layout_->shut_down == 0;
}

void SimWorld::Participant::post_tidings() {
  const Guard guard(*world_);
  const SimParticipantState& self = world_->layout_->slots[static_cast<std::size_t>(slot_)];
  ++world_->layout_->ranks()[static_cast<std::size_t>(self.rank)].tidings.untaken;
}

void SimWorld::Participant::serve_requests(const std::vector<GpuId>& gpus) {
  const Guard guard(*world_);
  for (const GpuId gpu : gpus) world_->layout_->gpus()[gpu.index()].requests = {0, slot_ + 1};
  world_->layout_->slots[static_cast<std::size_t>(slot_)].activity = SimActivity::kServing;
  advance(*world_->layout_);
}

void SimWorld::Participant::hear_tidings(std::optional<int> rank) {
  const Guard guard(*world_);
  for (int s = rank.value_or(0); s < (rank ? *rank + 1 : world_->ranks()); ++s) {
    world_->layout_->ranks()[static_cast<std::size_t>(s)].tidings = {0, slot_ + 1};
  }
  world_->layout_->slots[static_cast<std::size_t>(slot_)].activity = SimActivity::kServing;
  advance(*world_->layout_);
}

}  // namespace slackline
