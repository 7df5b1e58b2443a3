#include "stage_watch.h"

#include <algorithm>
#include <cmath>
#include <set>
#include <string>
#include <utility>

#include "slackline/base/error.h"

namespace slackline {
namespace {

/// What is there for more than this share of a visit is what its clock gives, and is not left out.
constexpr double kMostOfTheTime = 0.5;
/// A job that has run so many instructions and no step marks none.
constexpr std::size_t kRunsWithoutSteps = 1000;
/// Refreshes between two looks at how precise a visit without steps is.
constexpr double kRefreshesBetween = 10;

/// Part of a refresh period in which there surely is no next refresh.
constexpr double kNoNews = 0.8;
/// Asking a driver for the processes on a GPU is dear.
constexpr Seconds kBetweenStrangers(0.5);

constexpr std::uint32_t bit_of(InstructionKind kind) {
  return 1U << static_cast<unsigned>(kind);
}

bool is_within(const Estimate& estimate, double precision) {
  return estimate.error <= precision * estimate.value;
}

std::vector<Span> clipped(const std::vector<Span>& spans, const Span& window) {
  std::vector<Span> inside;
  for (const Span& span : spans) {
    const Span part{std::max(span.begin, window.begin), std::min(span.end, window.end)};
    if (part.length() > Seconds(0)) inside.push_back(part);
  }
  return inside;
}

}  // namespace

void SpanMarker::look(Seconds now, bool is_so) {
  if (is_so && !was_so_) spans_.push_back({last_look_.value_or(now), now});
  if (was_so_) spans_.back().end = now;
  was_so_ = is_so;
  last_look_ = now;
}

void SpanMarker::forget_before(Seconds time) {
  std::erase_if(spans_, [&](const Span& span) { return span.end < time; });
  if (spans_.empty()) was_so_ = false;
}

double share_of(const std::vector<Span>& spans, const Span& window) {
  Seconds covered;
  for (const Span& span : clipped(spans, window)) covered += span.length();
  return window.length() > Seconds(0) ? covered / window.length() : 0;
}

ClockSweep::Stage::Stage(Device& device, SweepControl& control, JobTrace& trace, const SweepOptions& options,
                         int number, std::vector<GpuId> gpus)
    : device_(device),
      control_(control),
      trace_(trace),
      options_(options),
      number_(number),
      gpus_(std::move(gpus)),
      counters_(gpus_.size()) {}

void ClockSweep::Stage::begin_visit(Megahertz clock, Kind kind, Seconds now) {
  clock_ = clock;
  kind_ = kind;
  arrived_at_.reset();
  is_missed_ = false;
  steps_ = 0;
  runs_.clear();
  record_ = {};
  visit_.reset();
  judged_at_.reset();
  for (Counter& counter : counters_) counter.last_tick = now;
  {
    const std::lock_guard lock(mutex_);
    wanted_ = clock;
    switched_at_.reset();
  }
  if (!trace_.is_running(number_)) at_boundary(now);
  phase_ = kind == Kind::kRest ? Phase::kDone : Phase::kSwitching;
  control_.set_repeat(number_, options_.is_isolated && kind == Kind::kMeasure ? ~0U : 0);
}

void ClockSweep::Stage::at_boundary(Seconds time) {
  const std::lock_guard lock(mutex_);
  if (!wanted_) return;
  if (!options_.is_read_only) control_.set_clock(number_, *wanted_);
  wanted_.reset();
  switched_at_ = time;
}

void ClockSweep::Stage::look(Seconds now, bool thoroughly) {
  for (std::size_t g = 0; g < gpus_.size(); ++g) read_counter(g, now);
  if (thoroughly) read_state(now);
  take_news(now);
  if (phase_ == Phase::kMeasuring && is_due(now)) try_to_finish(now);
}

void ClockSweep::Stage::read_counter(std::size_t gpu, Seconds now) {
  Counter& counter = counters_[gpu];
  if (now < counter.next_look) return;
  try {
    const EnergyReading reading = device_.energy(gpus_[gpu]);
    counter.failing_since.reset();
    const bool is_new = counter.readings.empty() || reading.at > counter.readings.back().at;
    if (is_new) {
      counter.last_tick = now;
      // A reading may keep the driver from the job's own work for milliseconds.
      const bool may_wait = !device_.dates_refreshes() && !counter.readings.empty();
      if (may_wait) counter.next_look = now + device_.energy_refresh_period() * kNoNews;
    }
    if (phase_ != Phase::kMeasuring) counter.readings.clear();
    if (is_new || counter.readings.empty()) counter.readings.push_back(reading);
  } catch (const DeviceError&) {
    if (!counter.failing_since) counter.failing_since = now;
    if (now - *counter.failing_since > options_.fault_patience) throw;
    unreadable_.look(now, true);
    return;
  }
  if (now - counter.last_tick > options_.fault_patience) {
    throw DeviceError("read energy", device_.identity(gpus_[gpu]).uuid,
                      "its energy counter has stood still for " +
                          std::to_string(static_cast<int>(options_.fault_patience.value())) + " s");
  }
}

void ClockSweep::Stage::read_state(Seconds now) {
  bool throttles = false;
  bool has_stranger = false;
  const bool looks_for_strangers = !strangers_looked_ || now >= *strangers_looked_ + kBetweenStrangers;
  bool is_readable = true;
  for (std::size_t g = 0; g < gpus_.size(); ++g) {
    try {
      throttles = throttles || device_.event_reasons(gpus_[g]).throttles();
      has_stranger = has_stranger || (looks_for_strangers && control_.has_stranger(gpus_[g]));
    } catch (const DeviceError&) {  // not every GPU tells; of one that is lost the counter will
    }
    const auto& readings = counters_[g].readings;
    const std::size_t count = readings.size();
    const bool jumped_back = count >= 2 && readings[count - 1].total < readings[count - 2].total;
    is_readable = is_readable && !jumped_back && !counters_[g].failing_since;
  }
  throttled_.look(now, throttles);
  if (looks_for_strangers) {
    foreign_.look(now, has_stranger);
    strangers_looked_ = now;
  }
  unreadable_.look(now, !is_readable);
  if (!trace_.is_running(number_)) return;
  // Which clock it is shows under load only.
  if (phase_ == Phase::kWarmingUp && !arrived_at_ && has_arrived(now)) arrived_at_ = now;
  if (phase_ == Phase::kMeasuring && sets_no_clock()) {
    observed_ = std::max(observed_, device_.observed_clock(gpus_.front()));
  }
}

bool ClockSweep::Stage::has_arrived(Seconds now) {
  if (sets_no_clock()) return true;
  const bool reads_it = std::ranges::all_of(gpus_, [&](GpuId gpu) {
    return std::abs(device_.observed_clock(gpu).value() - clock_.value()) <= options_.clock_tolerance.value();
  });
  if (reads_it) return true;
  // A capped or hot GPU never reads what was asked for. What it does then is what asking for that gives.
  if (now < asked_at_ + options_.settling) return false;
  is_missed_ = throttled_.spans().empty() || throttled_.spans().back().end < now;
  return true;
}

void ClockSweep::Stage::take_news(Seconds now) {
  JobTrace::News news = trace_.take(number_);
  expect_steps(news);
  for (const Span& step : news.steps) {
    const auto forwards = std::ranges::count_if(news.runs, [&](const Run& run) {
      return run.task.kind == InstructionKind::kForward && run.span.begin >= step.begin &&
             run.span.end <= step.end;
    });
    std::set<int> chunks;
    for (const Task& task : kinds_seen_) chunks.insert(task.chunk);
    const auto share = std::max<std::ptrdiff_t>(1, std::ssize(chunks));
    microbatches_ = std::max(microbatches_, static_cast<int>(forwards / share));
  }
  if (phase_ == Phase::kSwitching) {
    const std::lock_guard lock(mutex_);
    if (!switched_at_) return;
    asked_at_ = *switched_at_;
    phase_ = Phase::kWarmingUp;
  }
  if (phase_ == Phase::kWarmingUp) warm_up(news, now);
  if (phase_ == Phase::kMeasuring) record(std::move(news));
}

/// A job that is to mark steps and does not would never be through.
void ClockSweep::Stage::expect_steps(const JobTrace::News& news) {
  if (options_.is_isolated || trace_.has_steps(number_)) return;
  runs_without_steps_ += news.runs.size();
  if (runs_without_steps_ < kRunsWithoutSteps) return;
  throw InputError("", 0, "--isolated",
                   "the job has run " + std::to_string(runs_without_steps_) +
                       " instructions and marked no step (slackline_step_begin); with this flag it need not");
}

void ClockSweep::Stage::warm_up(const JobTrace::News& news, Seconds now) {
  if (kind_ == Kind::kWait) return begin_measuring(asked_at_);
  Seconds warm_since = now;
  if (options_.is_isolated) {
    for (const Run& run : news.runs) {
      if (run.span.begin >= asked_at_) ++runs_[run.task];
    }
    const bool is_warm =
        std::ranges::any_of(runs_, [&](const auto& entry) { return entry.second >= options_.warm_up_runs; });
    if (is_warm && arrived_at_) begin_measuring(now);
    return;
  }
  for (const Span& step : news.steps) {
    if (step.end <= asked_at_) continue;  // the one in which the clock changed is the first
    ++steps_;
    warm_since = step.end;
  }
  if (steps_ >= options_.warm_up_steps && arrived_at_) begin_measuring(std::max(warm_since, *arrived_at_));
}

void ClockSweep::Stage::begin_measuring(Seconds time) {
  phase_ = Phase::kMeasuring;
  steps_ = 0;
  runs_.clear();
  measuring_since_ = time;
  judged_at_ = time;
  observed_ = Megahertz(0);
  for (SpanMarker* marker : {&throttled_, &foreign_, &unreadable_}) marker->forget_before(time);
}

void ClockSweep::Stage::record(JobTrace::News news) {
  for (const Run& run : news.runs) {
    if (run.span.begin < measuring_since_) continue;
    record_.runs.push_back(run);
    ++runs_[run.task];
    kinds_seen_.insert(run.task);
  }
  for (const Span& step : news.steps) {
    if (step.begin < measuring_since_) continue;
    record_.steps.push_back(step);
    ++steps_;
    judged_at_.reset();  // there is something to judge
  }
}

bool ClockSweep::Stage::is_due(Seconds now) const {
  if (kind_ == Kind::kWait) return steps_ >= kStepsOfWait;
  if (options_.is_isolated) {
    return !record_.runs.empty() && now >= *judged_at_ + device_.energy_refresh_period() * kRefreshesBetween;
  }
  return !judged_at_ && steps_ >= options_.least_steps;
}

void ClockSweep::Stage::try_to_finish(Seconds now) {
  judged_at_ = now;
  Visit visit;
  visit.clock = sets_no_clock() ? observed_ : clock_;
  visit.span = {measuring_since_,
                options_.is_isolated ? record_.runs.back().span.end : record_.steps.back().end};
  visit.is_missed = is_missed_;
  visit.is_wait = kind_ == Kind::kWait;
  record_.left_out.clear();
  const auto leave_out = [&](const SpanMarker& marker, double& share) {
    share = share_of(marker.spans(), visit.span);
    if (share > kMostOfTheTime) return false;
    const std::vector<Span> spans = clipped(marker.spans(), visit.span);
    record_.left_out.insert(record_.left_out.end(), spans.begin(), spans.end());
    return true;
  };
  visit.is_throttled = !leave_out(throttled_, visit.throttled_share);
  leave_out(foreign_, visit.foreign_share);
  leave_out(unreadable_, visit.unreadable_share);
  record_.counters.clear();
  for (const Counter& counter : counters_) record_.counters.push_back(counter.readings);
  visit.estimate = estimate(record_);
  const bool is_last =
      options_.is_isolated ? visit.span.length() >= options_.longest_visit : steps_ >= options_.most_steps;
  const bool is_enough = visit.is_wait || is_last || is_precise(visit.estimate);
  if (!is_enough || visit.clock == Megahertz(0)) {
    if (options_.is_isolated) repeat_what_is_open(visit.estimate);
    return;
  }
  visit_ = std::move(visit);
  phase_ = Phase::kDone;
  record_ = {};
  control_.set_repeat(number_, 0);
}

bool ClockSweep::Stage::is_known(const KindEstimate& kind) const {
  return kind.runs >= options_.least_runs && is_within(kind.time, options_.precision) &&
         is_within(kind.interpolated, options_.precision);
}

bool ClockSweep::Stage::is_precise(const VisitEstimate& estimate) const {
  if (estimate.ticks < options_.least_ticks) return false;
  // Alone, kinds come one after the other: at least these two will.
  const auto has_seen = [&](InstructionKind kind) {
    return std::ranges::any_of(kinds_seen_, [kind](const Task& task) { return task.kind == kind; });
  };
  const bool has_backward = has_seen(InstructionKind::kBackward) ||
                            has_seen(InstructionKind::kForwardBackward) ||
                            has_seen(InstructionKind::kBackwardWeight);
  if (options_.is_isolated && !(has_seen(InstructionKind::kForward) && has_backward)) return false;
  return std::ranges::all_of(kinds_seen_, [&](const Task& task) {
    const auto found = estimate.kinds.find(task);
    return is_fixed_time(task.kind) || (found != estimate.kinds.end() && is_known(found->second));
  });
}

void ClockSweep::Stage::repeat_what_is_open(const VisitEstimate& estimate) {
  std::uint32_t kinds = ~0U;
  for (const auto& [task, found] : estimate.kinds) {
    if (estimate.ticks >= options_.least_ticks && is_known(found)) kinds &= ~bit_of(task.kind);
  }
  // A kind is through when it is on every stage of the rank.
  for (const auto& [task, found] : estimate.kinds) {
    if (!is_known(found)) kinds |= bit_of(task.kind);
  }
  control_.set_repeat(number_, kinds);
}

}  // namespace slackline
