#include "session.h"

#include <time.h>
#include <unistd.h>

#include <cmath>
#include <cstdlib>
#include <cstring>
#include <thread>
#include <utility>

#include "slackline/base/error.h"
#include "slackline/runtime/packet_socket.h"

namespace slackline {
namespace {

/// For the agent's answer: at the start, and in the middle of training, which must not wait.
constexpr Seconds kFirstPatience(10);
constexpr Seconds kLaterPatience(0.2);
constexpr auto kBetweenAttempts = std::chrono::seconds(10);

}  // namespace

Session::~Session() {
  if (fork_count() != forks_) {  // what is left here belongs to the parent, or is closed
    if (participant_) participant_->forget();
    static_cast<void>(socket_.release());
    return;
  }
  if (socket_) keep_in_children(socket_.get());
  lease_.reset();  // before simulated time may go on without this process
}

void Session::open(int stage, int stages) {
  forks_ = fork_count();
  const char* path = std::getenv(kSocketVariable);
  if (path == nullptr || *path == '\0') return;
  Descriptor socket = connect_to(path);
  if (!socket) return;
  const JobHello hello{kJobMagic, stage, stages};
  if (!send_packet(socket.get(), std::as_bytes(std::span(&hello, 1)))) return;
  if (!wait_readable(socket.get(), kFirstPatience)) {
    tell("whoever started this job does not answer; its GPUs run at their own clocks");
    return;
  }
  auto answer = receive_packet(socket.get(), sizeof(JobWelcome));
  if (!answer || answer->data.size() != sizeof(JobWelcome)) return;
  JobWelcome welcome{};
  std::memcpy(&welcome, answer->data.data(), sizeof welcome);
  const std::string name = "stage " + std::to_string(stage);
  if (welcome.magic != kJobMagic) {
    throw DeviceError("join the job as", name, "it speaks another version of the protocol");
  }
  if (welcome.status != 0 || answer->descriptors.size() != 2) {
    throw DeviceError("join the job as", name, welcome.text.data());
  }
  const auto plan_length = static_cast<std::size_t>(welcome.plan_length);
  Mapping mapping(answer->descriptors[0].get(), JobMemory::bytes(plan_length));
  if (!mapping) throw DeviceError("join the job as", name, "cannot map its memory");
  if (welcome.sim_world[0] != '\0') {
    world_ = std::make_unique<SimWorld>(welcome.sim_world.data());
    participant_.emplace(world_->join_as_stage(stage));
  }
  doorbell_ = std::move(answer->descriptors[1]);
  socket_ = std::move(socket);
  close_in_children(socket_.get());
  baseline_steps_ = welcome.baseline_steps;
  agent_socket_ = welcome.agent_socket.data();
  for (int g = 0; g < welcome.gpu_count; ++g) {
    gpus_.emplace_back(welcome.gpus.at(static_cast<std::size_t>(g)).data());
    if (world_) simulated_.emplace_back(world_->first_gpu(stage).value() + g);
  }
  mapping_ = std::move(mapping);  // last: from here on the session is open
  if (plan_length > 0) cursor_.emplace(std::span<const PlanEntry>(memory()->plan(), plan_length));
  if (!gpus_.empty()) keep_lease();
}

std::string Session::lease(Seconds patience) {
  try {
    lease_ = LeaseClient::open(agent_socket_, gpus_, patience, world_.get(), simulated_);
  } catch (const std::exception& error) {
    return error.what();
  }
  if (!lease_) return "no agent listens at " + agent_socket_;
  numbers_.clear();
  for (std::int32_t i = 0; i < static_cast<std::int32_t>(cursor_->length()); ++i) {
    const Megahertz clock(memory()->plan()[i].clock_mhz);
    const auto number = lease_->number_of(clock);
    if (!number) {
      lease_.reset();
      return "the agent does not let this process set " + std::to_string(clock.value()) +
             " MHz, which the schedule wants";
    }
    numbers_.push_back(*number);
  }
  return {};
}

void Session::keep_lease() {
  const auto now = std::chrono::steady_clock::now();
  if (lease_) {
    if (!lease_->is_over()) return;
    const std::string reason = lease_->why_over();
    lease_.reset();
    next_attempt_ = now + kBetweenAttempts;
    return go_without_lease(reason);
  }
  if (now < next_attempt_) return;
  const bool is_first = next_attempt_ == std::chrono::steady_clock::time_point();
  next_attempt_ = now + kBetweenAttempts;
  const std::string reason = lease(is_first ? kFirstPatience : kLaterPatience);
  if (!lease_) return go_without_lease(reason);
  requested_ = 0;
  asked_in_step_ = false;
  if (std::exchange(lacks_lease_, false)) tell("the agent leases its GPUs to this process again");
}

void Session::go_without_lease(const std::string& reason) {
  if (std::exchange(lacks_lease_, true)) return;
  tell(reason + "; its GPUs run at their own clocks from here on");
  record(JobEventType::kNoLease);
  ring();
}

void Session::tell(std::string notice) {
  news_.notice = std::move(notice);
  has_news_ = true;
}

Session::News Session::take_news() {
  has_news_ = false;
  return std::exchange(news_, {});
}

/// Lets the other stages wait for this one, so that what they draw then can be measured.
void Session::wait_if_asked() {
  const std::uint32_t ms = memory()->hold_ms.load(std::memory_order_relaxed);
  if (ms == 0 || memory()->hold_ms.exchange(0) == 0) return;
  if (participant_ && world_->is_virtual()) {
    participant_->sleep_until(world_->now() + Seconds(ms / 1e3));
  } else {
    std::this_thread::sleep_for(std::chrono::milliseconds(ms));
  }
}

void Session::step_begin() {
  if (!is_open()) return;
  wait_if_asked();
  if (!gpus_.empty()) keep_lease();
  following_ = lease_ && !out_of_sequence_ && steps_ >= baseline_steps_ && memory()->released.load() == 0;
  ++steps_;
  record(JobEventType::kStepBegin);
  if (following_) cursor_->begin_step();
  ask_for(following_ ? cursor_->next() : std::nullopt, following_);
  ring();
}

void Session::step_end() {
  if (!is_open()) return;
  record(JobEventType::kStepEnd);
  const std::string reason = following_ ? cursor_->leftover() : "";
  ask_for(std::nullopt, false);
  ring();
  if (!reason.empty()) stop_following(reason);
}

void Session::instruction_begin(InstructionKind kind, int microbatch) {
  if (!is_open()) return;
  const auto number = static_cast<std::int32_t>(kind);
  if (following_ && !cursor_->fits(number, microbatch)) [[unlikely]]
    stop_following(cursor_->mismatch(number, microbatch));
  running_ = kind;
  record(JobEventType::kBegin, number);
  report();
  if (participant_) participant_->launch(kind);
}

bool Session::instruction_again() {
  if (!is_open()) return false;
  if (participant_) participant_->synchronize();
  if ((memory()->repeat_kinds.load() >> static_cast<unsigned>(running_) & 1U) == 0) return false;
  record_took();
  record(JobEventType::kAgain, static_cast<int>(running_));
  report();
  if (participant_) participant_->launch(running_);
  return true;
}

void Session::instruction_took(Seconds time) {
  if (!is_open() || time <= Seconds(0)) return;
  took_ = time;
}

void Session::instruction_end() {
  if (!is_open()) return;
  if (participant_) participant_->synchronize();
  record_took();
  record(JobEventType::kEnd, static_cast<int>(running_));
  report();
  if (!following_) return;
  cursor_->advance();
  if (memory()->released.load(std::memory_order_relaxed) != 0) {
    following_ = false;
    return ask_for(std::nullopt, false);
  }
  // The step's end goes back to the baseline; before that the next clock hides its switch behind the wait.
  if (const auto next = cursor_->next()) ask_for(next, true);
}

void Session::stop_following(const std::string& reason) {
  following_ = false;
  out_of_sequence_ = true;
  record(JobEventType::kOutOfSequence);
  ask_for(std::nullopt, false);
  ring();
  news_.trouble = reason + "; its GPUs stay at their baseline from here on";
  has_news_ = true;
}

void Session::record_took() {
  if (!took_) return;
  record(JobEventType::kTook, static_cast<int>(running_), std::llround(took_->value() * 1e9));
  took_.reset();
}

void Session::record(JobEventType type, int kind) {
  record(type, kind, now_ns());
}

void Session::record(JobEventType type, int kind, std::int64_t time_ns) {
  const std::uint64_t index = memory()->events_written.load(std::memory_order_relaxed);
  memory()->events[index % JobMemory::kEvents] = {type, kind, time_ns};
  memory()->events_written.store(index + 1, std::memory_order_release);
}

void Session::ring() {
  // Simulated time must not run on before this was heard, so it is announced first.
  if (participant_ && world_->is_virtual()) participant_->post_tidings();
  memory()->rings.fetch_add(1, std::memory_order_release);
  const std::uint64_t one = 1;
  [[maybe_unused]] const ssize_t written = ::write(doorbell_.get(), &one, sizeof one);
}

void Session::report() {
  if (!cursor_) ring();
}

void Session::ask_for(std::optional<std::size_t> entry, bool in_step) {
  if (!lease_) return;
  const std::uint32_t number = entry ? numbers_[*entry] : 0;
  if (number == requested_ && in_step == asked_in_step_) return;
  requested_ = number;
  asked_in_step_ = in_step;
  lease_->post(number, in_step);
}

std::int64_t Session::now_ns() {
  if (world_) return std::llround(world_->now().value() * 1e9);
  timespec now{};
  ::clock_gettime(CLOCK_MONOTONIC, &now);
  return now.tv_sec * 1'000'000'000 + now.tv_nsec;
}

}  // namespace slackline
