#include "plan_agreement.h"

#include <linux/futex.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <algorithm>
#include <chrono>
#include <climits>
#include <utility>

namespace slackline {
namespace {

using Clock = std::chrono::steady_clock;

/// For rank 0 to begin the first step, which may have much to load, and any other; and for how many steps in
/// a row that may fail before nobody asks it any more.
constexpr auto kFirstPatience = std::chrono::seconds(60);
constexpr auto kPatience = std::chrono::seconds(10);
constexpr int kMostUnheard = 3;

/// Plans whose times differ by less are equally long.
constexpr double kSameTime = 1e-9;

// Of simulated channels, far above those that jobs use.
constexpr SimWorld::Channel kFirstChannel = SimWorld::Channel{1} << 62;
constexpr SimWorld::Channel kChannelsAPipeline = SimWorld::Channel{1} << 24;

void wake_all(std::atomic<std::uint32_t>& word) {
  word.fetch_add(1, std::memory_order_release);
  ::syscall(SYS_futex, &word, FUTEX_WAKE, INT_MAX, nullptr, nullptr, 0);
}

void wait_for_change(std::atomic<std::uint32_t>& word, std::uint32_t seen,
                     std::chrono::nanoseconds patience) {
  const timespec timeout{patience.count() / 1'000'000'000, patience.count() % 1'000'000'000};
  ::syscall(SYS_futex, &word, FUTEX_WAIT, seen, &timeout, nullptr, 0);
}

double median_of(std::vector<double> values) {
  const auto middle = values.begin() + std::ssize(values) / 2;
  std::ranges::nth_element(values, middle);
  return *middle;
}

}  // namespace

PlanAgreement::PlanAgreement(Mapping board, const Setup& setup, std::span<const double> seconds)
    : board_(std::move(board)), setup_(setup), seconds_(seconds) {
  if (!setup_.joins_late) return;
  unheard_ = kMostUnheard;
  news_ =
      "this process joined while the others of its pipeline are in the middle of the run; its GPUs stay at "
      "their baseline";
}

std::int32_t PlanAgreement::best() const {
  double slowdown = board().outside_slowdown.load(std::memory_order_relaxed);
  const auto pipelines = board().pipelines();
  for (std::size_t p = 0; p < pipelines.size(); ++p) {
    if (static_cast<std::int32_t>(p) == setup_.place.pipeline) continue;
    slowdown = std::max(slowdown, pipelines[p].slowdown.load(std::memory_order_relaxed));
  }
  const std::uint32_t first = board().first_plan.load(std::memory_order_acquire);
  const std::uint32_t count = board().plan_count.load(std::memory_order_relaxed);
  const double until = seconds_[first] * slowdown * (1 + kSameTime);
  std::uint32_t plan = first;
  while (plan + 1 < first + count && seconds_[plan + 1] <= until) ++plan;
  return static_cast<std::int32_t>(plan);
}

std::int32_t PlanAgreement::agree_on(std::uint32_t step, SimWorld* world,
                                     SimWorld::Participant* participant) {
  if (leads()) {
    const std::int32_t plan = unheard_ < kMostUnheard ? best() : -1;
    announce(step, plan, world);
    return plan;
  }
  if (unheard_ >= kMostUnheard) return -1;
  if (participant != nullptr) participant->wait_begin(channel_of(setup_.place.rank));
  const auto plan = await(step);
  if (participant != nullptr) participant->wait_end(channel_of(setup_.place.rank));
  if (plan) {
    has_heard_ = true;
    unheard_ = 0;
    return *plan;
  }
  if (++unheard_ == 1) {
    news_ =
        "rank 0 of this pipeline does not say which plan to follow; until it does, this rank's GPUs run "
        "at their baseline";
  }
  if (unheard_ == kMostUnheard) news_ = "nobody says which plan to follow; this rank stays at its baseline";
  return -1;
}

void PlanAgreement::announce(std::uint32_t step, std::int32_t plan, SimWorld* world) {
  if (world != nullptr && world->is_virtual()) {
    for (std::int32_t rank = 1; rank < setup_.place.ranks; ++rank) world->send(channel_of(rank));
  }
  own().announced[step % JobBoard::kSteps].store(JobBoard::announcement(setup_.epoch, step, plan),
                                                 std::memory_order_release);
  wake_all(own().changes);
}

/// Nothing if it does not come in time, or is gone already.
std::optional<std::int32_t> PlanAgreement::await(std::uint32_t step) {
  std::atomic<std::uint64_t>& slot = own().announced[step % JobBoard::kSteps];
  const auto deadline = Clock::now() + (has_heard_ ? kPatience : kFirstPatience);
  while (true) {
    const std::uint32_t seen = own().changes.load(std::memory_order_acquire);
    const std::uint64_t announced = slot.load(std::memory_order_acquire);
    if (JobBoard::is_of(announced, setup_.epoch, step)) return JobBoard::plan_of(announced);
    const bool is_past = JobBoard::is_of(announced, setup_.epoch, step + JobBoard::kSteps);
    const auto left = deadline - Clock::now();
    if (is_past || left <= Clock::duration::zero()) return std::nullopt;
    wait_for_change(own().changes, seen, left);
  }
}

SimWorld::Channel PlanAgreement::channel_of(std::int32_t rank) const {
  return kFirstChannel + static_cast<SimWorld::Channel>(setup_.place.pipeline) * kChannelsAPipeline +
         static_cast<SimWorld::Channel>(rank);
}

double PlanAgreement::pace_of_the_fastest() const {
  double fastest = 0;
  for (const JobBoard::Pipeline& pipeline : board().pipelines()) {
    const double pace = pipeline.pace.load(std::memory_order_relaxed);
    if (pace > 0 && (fastest == 0 || pace < fastest)) fastest = pace;
  }
  return fastest;
}

/// Rank 0 has the first instruction of a step and, but for weight gradients, the last one: it sees the
/// pipeline's time. What all pipelines have in common (a network that is slower than the profile) makes none
/// a straggler: the fastest is the measure.
void PlanAgreement::step_took(std::int32_t plan, Seconds time) {
  if (!leads() || setup_.detect_steps == 0 || plan < 0) return;
  const double pace = time.value() / seconds_[static_cast<std::size_t>(plan)];
  own().pace.store(pace, std::memory_order_relaxed);
  const double fastest = pace_of_the_fastest();
  const bool is_behind = pace > fastest * (1 + setup_.detect_share);
  behind_ = is_behind ? behind_ + 1 : 0;
  abreast_ = is_behind ? 0 : abreast_ + 1;
  if (!is_behind) paces_.clear();
  if (is_behind) paces_.push_back(pace / fastest);
  if (behind_ >= setup_.detect_steps) {
    paces_.erase(paces_.begin(), paces_.end() - setup_.detect_steps);
    own().slowdown.store(median_of(paces_), std::memory_order_release);
    has_found_ = true;
  } else if (abreast_ >= setup_.detect_steps && std::exchange(has_found_, false)) {
    own().slowdown.store(1, std::memory_order_release);
  }
}

bool PlanAgreement::set_slowdown(std::int32_t pipeline, double slowdown) {
  if (!(slowdown >= 1 && slowdown <= kMostSlowdown) || pipeline < -1 || pipeline >= board().pipeline_count) {
    return false;
  }
  auto& target = pipeline < 0 ? board().outside_slowdown
                              : board().pipelines()[static_cast<std::size_t>(pipeline)].slowdown;
  target.store(slowdown, std::memory_order_release);
  return true;
}

double PlanAgreement::slowdown(std::int32_t pipeline) const {
  if (pipeline < 0 || pipeline >= board().pipeline_count) return board().outside_slowdown.load();
  return board().pipelines()[static_cast<std::size_t>(pipeline)].slowdown.load();
}

std::string PlanAgreement::take_news() {
  return std::exchange(news_, {});
}

}  // namespace slackline
