#include "slackline/measure/clock_sweep.h"

#include <algorithm>
#include <utility>

#include "stage_watch.h"

namespace slackline {
namespace {

/// Where readings are dated when they are made, they are made this often a refresh.
constexpr double kReadingsARefresh = 10;
constexpr Seconds kShortestPause(0.002);
constexpr Seconds kLongestPause(0.01);

/// Between two readings of a counter.
Seconds pause_of(Device& device) {
  const Seconds period = device.energy_refresh_period();
  if (device.dates_refreshes()) return period;
  return std::clamp(period / kReadingsARefresh, kShortestPause, kLongestPause);
}

double largest_error(const Visit& visit) {
  double largest = 0;
  for (const auto& [task, estimate] : visit.estimate.kinds) {
    if (is_fixed_time(task.kind)) continue;
    for (const Estimate& one : {estimate.time, estimate.interpolated}) {
      if (one.value > 0) largest = std::max(largest, one.error / one.value);
    }
  }
  return largest;
}

bool has_waits(const Recording& recording) {
  return std::ranges::all_of(recording.stages, [](const StageRecording& stage) {
    return std::ranges::any_of(stage.visits, &Visit::is_wait);
  });
}

}  // namespace

ClockSweep::ClockSweep(Device& device, std::vector<std::vector<GpuId>> stage_gpus, Recording begun,
                       SweepControl& control, SweepOptions options)
    : device_(device),
      control_(control),
      options_(std::move(options)),
      recording_(std::move(begun)),
      trace_(static_cast<int>(stage_gpus.size()),
             [this](int stage, Seconds time) { at_boundary(stage, time); }) {
  for (std::size_t s = 0; s < stage_gpus.size(); ++s) {
    stages_.push_back(std::make_unique<Stage>(device, control, trace_, options_, static_cast<int>(s),
                                              std::move(stage_gpus[s])));
  }
  rounds_ = rounds_done(recording_);
  expected_rounds_ = options_.is_read_only ? 1 : most_rounds(recording_, options_.order);
}

ClockSweep::~ClockSweep() = default;

void ClockSweep::at_boundary(int stage, Seconds time) {
  stages_[static_cast<std::size_t>(stage)]->at_boundary(time);
}

void ClockSweep::run(Timeline& timeline) {
  Seconds measured;
  for (const StageRecording& stage : recording_.stages) {
    for (const Visit& visit : stage.visits) measured = std::max(measured, visit.span.end);
  }
  recording_.counter_period = device_.energy_refresh_period();
  offset_ = timeline.now() - measured;
  complete_ = run_rounds(timeline);
  if (!options_.is_read_only) {
    for (std::size_t s = 0; s < stages_.size(); ++s) control_.set_clock(static_cast<int>(s), Megahertz(0));
  }
  if (!complete_) return;
  recording_.is_complete = true;
  control_.keep(recording_);
}

/// False if the timeline ended.
bool ClockSweep::run_rounds(Timeline& timeline) {
  if (options_.blocking_wait > Seconds(0) && !has_waits(recording_) && !make_wait(timeline)) return false;
  const RoundClocks own_clocks(stages_.size());
  while (true) {
    std::optional<RoundClocks> next = next_round(recording_, options_.order);
    if (options_.is_read_only) next = rounds_ == 0 ? std::optional(own_clocks) : std::nullopt;
    if (!next) return true;
    if (!run_round(*next, {}, timeline)) return false;
    finish_round(rounds_);
    ++rounds_;
  }
}

/// False if the timeline ended.
bool ClockSweep::run_round(const RoundClocks& clocks, std::optional<int> to_be_held, Timeline& timeline) {
  const bool is_wait = to_be_held.has_value();
  Seconds now = timeline.now();
  for (std::size_t s = 0; s < stages_.size(); ++s) {
    const bool rests = clocks[s] == Megahertz(0) && !is_wait && !options_.is_read_only;
    stages_[s]->begin_visit(clocks[s],
                            is_wait ? Stage::Kind::kWait
                            : rests ? Stage::Kind::kRest
                                    : Stage::Kind::kMeasure,
                            now);
  }
  const Seconds pause = pause_of(device_);
  const Seconds between_states = device_.energy_refresh_period() / 2;
  std::optional<Seconds> last_state;
  while (!std::ranges::all_of(stages_, &Stage::is_done)) {
    if (!timeline.sleep_until(now + pause)) return false;
    now = timeline.now();
    const bool thoroughly = !last_state || now >= *last_state + between_states;
    if (thoroughly) last_state = now;
    for (const auto& stage : stages_) stage->look(now, thoroughly);
    // Not before all look on.
    if (to_be_held && std::ranges::all_of(stages_, &Stage::is_measuring)) {
      control_.hold(*to_be_held, options_.blocking_wait);
      to_be_held.reset();
    }
  }
  return true;
}

/// Stages wait for the one that is held: the later ones for the first, the earlier ones for the last.
bool ClockSweep::make_wait(Timeline& timeline) {
  const RoundClocks unlocked(stages_.size());
  const auto last = static_cast<int>(stages_.size()) - 1;
  for (const int held : {0, last}) {
    if (!run_round(unlocked, held, timeline)) return false;
    finish_round(0);
  }
  return true;
}

void ClockSweep::finish_round(int round) {
  double error = 0;
  for (std::size_t s = 0; s < stages_.size(); ++s) {
    recording_.microbatches = std::max(recording_.microbatches, stages_[s]->microbatches());
    if (!stages_[s]->visit()) continue;
    Visit visit = *stages_[s]->visit();
    visit.round = round;
    visit.span = {visit.span.begin - offset_, visit.span.end - offset_};
    error = std::max(error, largest_error(visit));
    recording_.stages[s].visits.push_back(std::move(visit));
  }
  last_error_ = error;
  if (!options_.is_read_only) expected_rounds_ = most_rounds(recording_, options_.order);
  control_.keep(recording_);
}

}  // namespace slackline
