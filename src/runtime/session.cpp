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

void Session::open(JobHello place) {
  forks_ = fork_count();
  const char* path = std::getenv(kSocketVariable);
  if (path == nullptr || *path == '\0') return;
  Descriptor socket = connect_to(path);
  if (!socket) return;
  place.magic = kJobMagic;
  if (!send_packet(socket.get(), std::as_bytes(std::span(&place, 1)))) return;
  if (!wait_readable(socket.get(), kFirstPatience)) {
    tell("whoever started this job does not answer; its GPUs run at their own clocks");
    return;
  }
  auto answer = receive_packet(socket.get(), sizeof(JobWelcome));
  if (!answer || answer->data.size() != sizeof(JobWelcome)) return;
  JobWelcome welcome{};
  std::memcpy(&welcome, answer->data.data(), sizeof welcome);
  std::string name = "rank " + std::to_string(place.rank);
  if (place.pipelines > 1) name += " of pipeline " + std::to_string(place.pipeline);
  const auto cannot = [&name](const std::string& why) { return DeviceError("join the job as", name, why); };
  if (welcome.magic != kJobMagic) throw cannot("it speaks another version of the protocol");
  if (welcome.status != 0 || answer->descriptors.size() != 3 || !JobTables::plausible(welcome.shape)) {
    throw cannot(welcome.text.data());
  }
  Mapping mapping(answer->descriptors[0].get(), JobTables::bytes(welcome.shape));
  Mapping board(answer->descriptors[2].get(), JobBoard::bytes(static_cast<std::size_t>(place.pipelines)));
  if (!mapping || !board) throw cannot("cannot map its memory");
  const std::int32_t world_rank = place.pipeline * place.ranks + place.rank;
  if (welcome.sim_world[0] != '\0') {
    world_ = std::make_unique<SimWorld>(welcome.sim_world.data());
    participant_.emplace(world_->join_as_rank(world_rank));
  }
  doorbell_ = std::move(answer->descriptors[1]);
  socket_ = std::move(socket);
  close_in_children(socket_.get());
  baseline_steps_ = welcome.baseline_steps;
  agent_socket_ = welcome.agent_socket.data();
  for (int g = 0; g < welcome.gpu_count; ++g) {
    gpus_.emplace_back(welcome.gpus.at(static_cast<std::size_t>(g)).data());
    if (world_) simulated_.emplace_back(world_->first_gpu(world_rank).value() + g);
  }
  mapping_ = std::move(mapping);  // from here on the session is open
  tables_.emplace(mapping_.get(), welcome.shape);
  order_ = tables_->order();
  if (order_.empty()) return;
  cursor_.emplace(order_);
  plan_count_ = welcome.plan_count;
  if (plan_count_ > 1) {
    agreement_.emplace(std::move(board),
                       PlanAgreement::Setup{place, welcome.epoch, welcome.joins_late != 0,
                                            welcome.detect_steps, welcome.detect_share},
                       tables_->seconds());
  }
  if (!gpus_.empty()) keep_lease();
}

std::string Session::lease(Seconds patience) {
  try {
    lease_ = LeaseClient::open(agent_socket_, gpus_, patience, world_.get(), simulated_);
  } catch (const std::exception& error) {
    return error.what();
  }
  if (!lease_) return "no agent listens at " + agent_socket_;
  std::string reason = number_clocks();
  if (!reason.empty()) lease_.reset();
  return reason;
}

std::string Session::number_clocks() {
  std::vector<bool> is_wanted(tables().clocks().size());
  for (int plan = 0; plan < plan_count_; ++plan) {
    for (const std::uint16_t clock : tables().plan(static_cast<std::size_t>(plan)))
      is_wanted.at(clock) = true;
  }
  numbers_.clear();
  for (std::size_t c = 0; c < is_wanted.size(); ++c) {
    const Megahertz clock(tables().clocks()[c]);
    const auto number = lease_->number_of(clock);
    if (!number && is_wanted[c]) {
      return "the agent does not let this process set " + std::to_string(clock.value()) +
             " MHz, which the schedule wants";
    }
    numbers_.push_back(number.value_or(0));
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

void Session::step_begin(std::optional<int> plan) {
  if (!is_open()) return;
  wait_if_asked();
  if (!gpus_.empty()) keep_lease();
  in_step_ = true;
  first_begin_ns_.reset();
  record(JobEventType::kStepBegin);
  checking_ = cursor_ && !out_of_sequence_;
  if (checking_) cursor_->begin_step();
  if (cursor_) {
    ring();
    const int agreed = agreed_plan(plan);
    const bool is_checked = has_fitted_ || baseline_steps_ == 0;
    const bool may_follow = lease_ && checking_ && is_checked && memory()->released.load() == 0 &&
                            steps_ >= static_cast<std::uint32_t>(baseline_steps_);
    plan_ = may_follow ? agreed : -1;
    following_ = plan_ >= 0;
    if (following_) clocks_ = tables().plan(static_cast<std::size_t>(plan_));
    record(JobEventType::kPlan, plan_);
    ask_for(following_ ? cursor_->next() : std::nullopt, following_);
  }
  ++steps_;
  ring();
}

int Session::agreed_plan(std::optional<int> plan) {
  if (plan) return *plan < tables().plan_capacity() ? *plan : -1;
  if (!agreement_) return 0;
  SimWorld::Participant* const participant = participant_ && world_->is_virtual() ? &*participant_ : nullptr;
  const int agreed = agreement_->agree_on(steps_, world_.get(), participant);
  if (std::string news = agreement_->take_news(); !news.empty()) tell(std::move(news));
  return agreed;
}

void Session::step_end() {
  if (!is_open() || !in_step_) return;
  in_step_ = false;
  record(JobEventType::kStepEnd);
  const std::string reason = checking_ ? cursor_->leftover() : "";
  has_fitted_ = has_fitted_ || (checking_ && reason.empty());
  if (agreement_ && following_ && first_begin_ns_) {
    agreement_->step_took(plan_, Seconds(static_cast<double>(last_end_ns_ - *first_begin_ns_) / 1e9));
  }
  ask_for(std::nullopt, false);
  following_ = checking_ = false;
  ring();
  if (!reason.empty()) stop_following(reason);
}

void Session::instruction_begin(InstructionKind kind, int stage, int microbatch) {
  if (!is_open()) return;
  running_ = {static_cast<std::int32_t>(kind), stage, microbatch};
  if (checking_ && !cursor_->fits(running_)) [[unlikely]]
    stop_following(cursor_->mismatch(running_));
  running_mhz_ = following_ ? tables().clocks()[clocks_[*cursor_->next()]] : 0;
  record_run(JobEventType::kBegin);
  report();
  launch();
}

void Session::launch() {
  if (!participant_) return;
  const std::optional<StageId> stage =
      running_.stage < 0 ? std::nullopt : std::optional(StageId(running_.stage));
  participant_->launch(static_cast<InstructionKind>(running_.kind), stage);
}

bool Session::instruction_again() {
  if (!is_open()) return false;
  if (participant_) participant_->synchronize();
  if ((memory()->repeat_kinds.load() >> static_cast<unsigned>(running_.kind) & 1U) == 0) return false;
  record_took();
  record_run(JobEventType::kAgain);
  report();
  launch();
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
  record_run(JobEventType::kEnd);
  report();
  if (!checking_) return;
  cursor_->advance();
  if (!following_) return;
  if (memory()->released.load(std::memory_order_relaxed) != 0) {
    following_ = false;
    return ask_for(std::nullopt, false);
  }
  // The step's end goes back to the baseline; before that the next clock hides its switch behind the wait.
  if (const auto next = cursor_->next()) ask_for(next, true);
}

void Session::stop_following(const std::string& reason) {
  following_ = checking_ = false;
  out_of_sequence_ = true;
  record(JobEventType::kOutOfSequence);
  ask_for(std::nullopt, false);
  ring();
  news_.trouble = reason + "; its GPUs stay at their baseline from here on";
  has_news_ = true;
}

void Session::record_took() {
  if (!took_) return;
  record(
      {JobEventType::kTook, running_.kind, running_.stage, running_mhz_, std::llround(took_->value() * 1e9)});
  took_.reset();
}

void Session::record(JobEventType type, int kind) {
  record({type, kind, -1, 0, now_ns()});
}

void Session::record_run(JobEventType type) {
  const std::int64_t now = now_ns();
  if (!first_begin_ns_) first_begin_ns_ = now;
  last_end_ns_ = now;
  record({type, running_.kind, running_.stage, running_mhz_, now});
}

void Session::record(const JobEvent& event) {
  const std::uint64_t index = memory()->events_written.load(std::memory_order_relaxed);
  memory()->events[index % JobMemory::kEvents] = event;
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
  const std::uint32_t number = entry ? numbers_[clocks_[*entry]] : 0;
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
