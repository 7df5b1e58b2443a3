#include "swept_job.h"

#include <unistd.h>

#include <algorithm>
#include <utility>

#include "slackline/base/error.h"
#include "slackline/base/log_line.h"
#include "slackline/base/process.h"

namespace slackline {

SweptJob::SweptJob(const JobDevice& device) : device_(device.device()), world_(device.world()) {
  if (device.agent_socket().empty()) return;
  const auto uuids = device.rank_uuids();
  for (std::size_t s = 0; s < uuids.size(); ++s) {
    leases_.push_back(
        LeaseClient::open(device.agent_socket(), uuids[s], Seconds(10), world_.get(), device.rank_gpus()[s]));
    if (!leases_.back()) throw DeviceError("lease", "", "no agent listens at " + device.agent_socket());
  }
}

void SweptJob::begin(JobServer& server, JobTrace& trace) {
  server_ = &server;
  trace_ = &trace;
}

void SweptJob::on_join(int rank, const JobPlace& place, const std::vector<std::string>& /*gpus*/) {
  const std::lock_guard lock(mutex_);
  if (!place_) place_ = place;
  ranks_.insert_or_assign(rank, place.rank);
}

std::optional<JobPlace> SweptJob::place() const {
  const std::lock_guard lock(mutex_);
  return place_;
}

void SweptJob::expect_stages(int rank, const std::vector<int>& stages) {
  const std::lock_guard lock(mutex_);
  stages_[rank] = stages;
}

/// A job that does not tell its stages has one a rank, with the rank's number.
Task SweptJob::task_of(int rank, const JobEvent& event) {
  const std::lock_guard lock(mutex_);
  std::vector<int>& known = stages_[rank];
  const int stage = event.stage >= 0 ? event.stage : ranks_.at(rank);
  auto place = std::ranges::find(known, stage);
  if (place == known.end()) place = known.insert(known.end(), stage);
  return {static_cast<InstructionKind>(event.kind), static_cast<int>(place - known.begin())};
}

void SweptJob::on_event(int rank, const JobEvent& event) {
  const Seconds time(static_cast<double>(event.time_ns) / 1e9);
  switch (event.type) {
    case JobEventType::kStepBegin:
      return trace_->step_begin(rank, time);
    case JobEventType::kStepEnd:
      return trace_->step_end(rank, time);
    case JobEventType::kBegin:
      return trace_->begin(rank, task_of(rank, event), time);
    case JobEventType::kTook:
      return trace_->device_time(rank, time);
    case JobEventType::kAgain:
      return trace_->again(rank, time);
    case JobEventType::kEnd:
      return trace_->end(rank, time);
    case JobEventType::kOutOfSequence:
    case JobEventType::kNoLease:
    case JobEventType::kPlan:
      return;  // of jobs that follow a schedule
  }
}

void SweptJob::on_stranger(const std::string& reason) {
  log_line("slackline: ", reason);
}

void SweptJob::set_clock(int stage, Megahertz clock) {
  LeaseClient& lease = *leases_[static_cast<std::size_t>(stage)];
  if (lease.is_over()) throw DeviceError("set clock", "", lease.why_over());
  const auto number = lease.number_of(clock);
  if (!number) {
    throw DeviceError("set clock", "",
                      "the agent does not let this process set " + std::to_string(clock.value()) + " MHz");
  }
  lease.post(*number, true);
}

/// Drivers tell numbers that may be those of another namespace of processes. What is not here at all is taken
/// for ours if nothing else is.
bool SweptJob::has_stranger(GpuId gpu) {
  const auto pids = device_.processes(gpu);
  if (!pids) return false;
  std::size_t ours = 0;
  std::size_t unknown = 0;
  for (const int pid : *pids) {
    switch (owner_of(pid)) {
      case Owner::kStranger:
        return true;
      case Owner::kJob:
        ++ours;
        break;
      case Owner::kUnknown:
        ++unknown;
        break;
    }
  }
  return ours > 0 ? unknown > 0 : unknown > 1;
}

SweptJob::Owner SweptJob::owner_of(int pid) {
  const auto [entry, is_new] = owners_.emplace(pid, Owner::kUnknown);
  if (!is_new) return entry->second;
  if (pid > 0 && start_time_of(pid)) {
    entry->second = descends_from(pid, ::getpid()) ? Owner::kJob : Owner::kStranger;
  }
  return entry->second;
}

void SweptJob::keep(const Recording& recording) {
  const std::lock_guard lock(mutex_);
  kept_ = recording;
  name_stages(*kept_);
}

void SweptJob::name_stages(Recording& recording) const {
  int stages = 0;
  for (const auto& [rank, seen] : stages_) {
    recording.stages[static_cast<std::size_t>(rank)].stages = seen;
    for (const int stage : seen) stages = std::max(stages, stage + 1);
    // A rank alone knows of the others that they hold as many.
    if (place_) stages = std::max(stages, place_->ranks * static_cast<int>(seen.size()));
  }
  if (stages > 0) recording.pipeline_stages = stages;
}

std::optional<Recording> SweptJob::take_kept() {
  const std::lock_guard lock(mutex_);
  return std::exchange(kept_, std::nullopt);
}

std::vector<std::unique_ptr<LeaseClient>>::const_iterator SweptJob::lost_lease() const {
  return std::ranges::find_if(leases_, [](const auto& lease) { return lease->is_over(); });
}

}  // namespace slackline
