#include "session.h"

#include <time.h>
#include <unistd.h>

#include <cmath>
#include <cstdlib>
#include <cstring>
#include <utility>

#include "slackline/base/error.h"
#include "slackline/runtime/packet_socket.h"

namespace slackline {

void Session::open(int stage, int stages) {
  const char* path = std::getenv(kSocketVariable);
  if (path == nullptr || *path == '\0') return;
  Descriptor socket = connect_to(path);
  if (!socket) return;
  const Hello hello{kProtocolMagic, stage, stages};
  if (!send_packet(socket.get(), std::as_bytes(std::span(&hello, 1)))) return;
  auto answer = receive_packet(socket.get(), sizeof(Welcome));
  if (!answer || answer->data.size() != sizeof(Welcome)) return;
  Welcome welcome{};
  std::memcpy(&welcome, answer->data.data(), sizeof welcome);
  if (welcome.magic != kProtocolMagic) {
    throw DeviceError("lease", "stage " + std::to_string(stage),
                      "the agent speaks another version of the protocol");
  }
  if (welcome.status != 0 || answer->descriptors.size() != 2) {
    throw DeviceError("lease", "stage " + std::to_string(stage), welcome.text.data());
  }
  const auto plan_length = static_cast<std::size_t>(welcome.plan_length);
  Mapping mapping(answer->descriptors[0].get(), LeaseMemory::bytes(plan_length));
  if (!mapping) {
    throw DeviceError("lease", "stage " + std::to_string(stage), "cannot map the lease's memory");
  }
  if (welcome.sim_world[0] != '\0') {
    world_ = std::make_unique<SimWorld>(welcome.sim_world.data());
    participant_.emplace(world_->join_as_stage(stage));
  }
  doorbell_ = std::move(answer->descriptors[1]);
  socket_ = std::move(socket);
  baseline_steps_ = welcome.baseline_steps;
  mapping_ = std::move(mapping);  // last: from here on the session is open
  if (plan_length > 0) cursor_.emplace(std::span<const PlanEntry>(memory()->plan(), plan_length));
}

std::string Session::step_begin() {
  if (!mapping_) return {};
  following_ = cursor_ && !out_of_sequence_ && steps_ >= baseline_steps_ && memory()->released.load() == 0;
  ++steps_;
  record(LeaseEventType::kStepBegin);
  if (following_) cursor_->begin_step();
  post(following_ ? cursor_->next_clock().value_or(0) : 0);
  return {};
}

std::string Session::step_end() {
  if (!mapping_) return {};
  record(LeaseEventType::kStepEnd);
  const std::string reason = following_ ? cursor_->leftover() : "";
  post(0);
  return reason.empty() ? reason : stop_following(reason);
}

std::string Session::instruction_begin(InstructionKind kind, int microbatch) {
  if (!mapping_) return {};
  std::string reason;
  if (following_) {
    reason = cursor_->mismatch(static_cast<std::int32_t>(kind), microbatch);
    if (!reason.empty()) reason = stop_following(std::move(reason));
  }
  running_ = kind;
  record(LeaseEventType::kBegin, static_cast<int>(kind));
  report();
  if (participant_) participant_->launch(kind);
  return reason;
}

bool Session::instruction_again() {
  if (!mapping_) return false;
  if (participant_) participant_->synchronize();
  if ((memory()->repeat_kinds.load() >> static_cast<unsigned>(running_) & 1U) == 0) return false;
  record(LeaseEventType::kAgain, static_cast<int>(running_));
  report();
  if (participant_) participant_->launch(running_);
  return true;
}

void Session::instruction_end() {
  if (!mapping_) return;
  if (participant_) participant_->synchronize();
  record(LeaseEventType::kEnd, static_cast<int>(running_));
  report();
  if (!following_) return;
  cursor_->advance();
  if (memory()->released.load() != 0) {
    following_ = false;
    return post(0);
  }
  // The step's end goes back to the baseline; before that the next clock hides its switch behind the wait.
  const auto next = cursor_->next_clock();
  if (next && *next != requested_mhz_) post(*next);
}

std::string Session::stop_following(std::string reason) {
  following_ = false;
  out_of_sequence_ = true;
  record(LeaseEventType::kOutOfSequence);
  post(0);
  return reason + "; its GPUs stay at their baseline from here on";
}

void Session::record(LeaseEventType type, int kind) {
  const std::uint64_t index = memory()->events_written.load(std::memory_order_relaxed);
  memory()->events[index % LeaseMemory::kEvents] = {type, kind, now_ns()};
  memory()->events_written.store(index + 1, std::memory_order_release);
}

void Session::post(std::int32_t clock_mhz) {
  requested_mhz_ = clock_mhz;
  // Simulated time must not run on while the request is under way, so it is announced first.
  if (participant_ && world_->is_virtual()) participant_->post_request();
  const std::uint64_t sequence = (memory()->request.load(std::memory_order_relaxed) >> 32) + 1;
  memory()->request.store(sequence << 32 | static_cast<std::uint32_t>(clock_mhz), std::memory_order_release);
  const std::uint64_t one = 1;
  [[maybe_unused]] const ssize_t written = ::write(doorbell_.get(), &one, sizeof one);
}

void Session::report() {
  if (!cursor_) post(requested_mhz_);
}

std::int64_t Session::now_ns() {
  if (world_) return std::llround(world_->now().value() * 1e9);
  timespec now{};
  ::clock_gettime(CLOCK_MONOTONIC, &now);
  return now.tv_sec * 1'000'000'000 + now.tv_nsec;
}

}  // namespace slackline
