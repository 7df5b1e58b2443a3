#include "slackline/measure/clock_sweep.h"

#include <algorithm>
#include <array>
#include <bit>
#include <cmath>
#include <map>
#include <optional>
#include <utility>

#include "slackline/base/error.h"
#include "slackline/measure/line_fit.h"

namespace slackline {
namespace {

/// Readings of one counter, one a tick.
class TickSeries {
 public:
  void add(const EnergyReading& reading) {
    if (!at_.empty() && reading.total.value() < total_.back()) clear();  // it was reset
    if (!at_.empty() && reading.at.value() <= at_.back()) return;
    at_.push_back(reading.at.value());
    total_.push_back(reading.total.value());
  }
  void clear() {
    at_.clear();
    total_.clear();
  }
  [[nodiscard]] std::size_t ticks() const { return at_.empty() ? 0 : at_.size() - 1; }
  [[nodiscard]] LineFit fit() const { return fit_line(at_, total_); }

 private:
  std::vector<double> at_;
  std::vector<double> total_;
};

struct Mean {
  double value = 0;
  double standard_error = 0;
};

Mean mean_of(const std::vector<double>& samples) {
  Mean mean;
  for (const double sample : samples) mean.value += sample;
  const auto count = static_cast<double>(samples.size());
  mean.value /= count;
  double squares = 0;
  for (const double sample : samples) squares += (sample - mean.value) * (sample - mean.value);
  if (samples.size() > 1) mean.standard_error = std::sqrt(squares / (count - 1) / count);
  return mean;
}

/// What every job runs. One that splits its backward, say, is not measured yet.
constexpr std::array kSweptKinds{InstructionKind::kForward, InstructionKind::kBackward};

/// Relative.
constexpr double kRounding = 1e-9;

std::uint32_t bit_of(InstructionKind kind) {
  return 1U << static_cast<unsigned>(kind);
}

}  // namespace

/// The measurement of one kind at one clock.
struct ClockSweep::Window {
  bool done = true;
  bool settled = false;            // the clock has arrived
  std::size_t runs_before = 0;     // completed when it had, plus the warm-up
  std::vector<TickSeries> series;  // a GPU
  EventReasons reasons;            // of any GPU, while it was open
  // Over the clocks so far, for the end of the sweep.
  int rises = 0;
  std::optional<Measurement> previous;
  bool finished = false;
};

/// A GPU's counter while its stage waits.
struct ClockSweep::Waiting {
  std::optional<EnergyReading> last;
  Joules energy;
  Seconds time;
};

struct ClockSweep::Stage {
  int number = 0;
  std::vector<GpuId> gpus;
  std::vector<Megahertz> clocks;
  Megahertz clock;
  Seconds clock_since;  // asked for
  std::optional<Seconds> failing_since;
  std::map<InstructionKind, Window> windows;
  std::vector<Waiting> waiting;
  Slowdown slowdown;
  StageProfile profile;

  [[nodiscard]] std::uint32_t open_kinds() const {
    std::uint32_t kinds = 0;
    for (const auto& [kind, window] : windows) {
      if (!window.done) kinds |= bit_of(kind);
    }
    return kinds;
  }

  /// Mean over all waiting seen so far.
  [[nodiscard]] std::optional<Watts> blocking_power() const {
    Joules energy;
    Seconds time;
    for (const Waiting& gpu : waiting) {
      energy += gpu.energy;
      time += gpu.time;
    }
    return time > Seconds(0) ? std::optional(energy / time) : std::nullopt;
  }
  /// Of the GPU that has been seen waiting least.
  [[nodiscard]] Seconds time_waited() const { return std::ranges::min(waiting, {}, &Waiting::time).time; }
};

ClockSweep::ClockSweep(Device& device, std::vector<std::vector<GpuId>> stage_gpus, const InstructionLog& log,
                       SweepControl& control, SweepOptions options)
    : device_(device), log_(log), control_(control), options_(options) {
  for (auto& gpus : stage_gpus) {
    auto stage = std::make_unique<Stage>();
    stage->number = stage->slowdown.stage = static_cast<int>(stages_.size());
    stage->clocks = options.read_only ? std::vector{Megahertz(0)} : device.supported_clocks(gpus.front());
    stage->waiting.resize(gpus.size());
    stage->profile.tensor_parallel = static_cast<int>(gpus.size());
    stage->gpus = std::move(gpus);
    for (const InstructionKind kind : kSweptKinds) stage->windows[kind].series.resize(stage->gpus.size());
    stages_.push_back(std::move(stage));
  }
}

ClockSweep::~ClockSweep() = default;

std::size_t ClockSweep::clocks() const {
  std::size_t most = 0;
  for (const auto& stage : stages_) most = std::max(most, stage->clocks.size());
  return most;
}

std::vector<StageProfile> ClockSweep::run(Timeline& timeline) {
  const Seconds pause = device_.energy_refresh_period() / 2;
  bool going_on = true;
  const auto is_silent = [&](const auto& stage) { return !log_.heard_of(stage->number); };
  while (going_on && std::any_of(stages_.begin(), stages_.end(), is_silent)) {
    going_on = timeline.sleep_until(timeline.now() + pause);
  }
  for (std::size_t c = 0; c < clocks() && going_on; ++c) {
    std::size_t windows = 0;
    for (const auto& stage : stages_) {
      begin_clock(*stage, c, timeline.now());
      windows += static_cast<std::size_t>(std::popcount(stage->open_kinds()));
    }
    if (windows == 0) break;  // every instruction's sweep has ended
    for (std::size_t open = windows; open > 0 && going_on;) {
      going_on = timeline.sleep_until(timeline.now() + pause);
      open = 0;
      for (const auto& stage : stages_) {
        watch(*stage, timeline.now());
        open += static_cast<std::size_t>(std::popcount(stage->open_kinds()));
      }
      const double part = 1 - static_cast<double>(open) / static_cast<double>(windows);
      progress_ = (static_cast<double>(c) + part) / static_cast<double>(clocks());
    }
    if (going_on) ++clocks_done_;
  }
  for (const auto& stage : stages_) {
    control_.set_repeat(stage->number, 0);
    if (!options_.read_only) control_.set_clock(stage->number, Megahertz(0));
  }
  for (const auto& stage : stages_) going_on = going_on && make_wait(*stage, timeline);
  complete_ = going_on;
  std::vector<StageProfile> profiles;
  for (const auto& stage : stages_) {
    stage->profile.blocking_power = stage->blocking_power();
    profiles.push_back(std::move(stage->profile));
  }
  return profiles;
}

void ClockSweep::begin_clock(Stage& stage, std::size_t clock_index, Seconds now) {
  if (clock_index >= stage.clocks.size()) return;
  stage.clock = stage.clocks[clock_index];
  stage.clock_since = now;
  for (auto& [kind, window] : stage.windows) {
    window.done = window.finished;
    window.settled = false;
    window.reasons = {};
    for (TickSeries& series : window.series) series.clear();
  }
  // A stage that is through goes back to full speed: it must not slow down the others.
  if (!options_.read_only) {
    control_.set_clock(stage.number, stage.open_kinds() == 0 ? Megahertz(0) : stage.clock);
  }
  control_.set_repeat(stage.number, stage.open_kinds());
}

/// Drivers that are asked often fail now and then; counters go on meanwhile.
void ClockSweep::watch(Stage& stage, Seconds now) {
  try {
    look_at(stage, now);
    stage.failing_since.reset();
  } catch (const DeviceError&) {
    if (!stage.failing_since) stage.failing_since = now;
    if (now - *stage.failing_since > options_.fault_patience) throw;
  }
}

void ClockSweep::look_at(Stage& stage, Seconds now) {
  watch_waiting(stage);
  const auto repetition = log_.repetition(stage.number);
  if (!repetition) return;
  const auto entry = stage.windows.find(repetition->kind);
  if (entry == stage.windows.end() || entry->second.done) return;
  Window& window = entry->second;
  if (!window.settled) {
    // Which clock it is shows under load only.
    if (options_.read_only) stage.clock = device_.observed_clock(stage.gpus.front());
    // A capped or hot GPU never reads what was asked for. What it does then is what that setting gives.
    const bool arrived = options_.read_only || now > stage.clock_since + options_.settling ||
                         std::all_of(stage.gpus.begin(), stage.gpus.end(), [&](GpuId gpu) {
                           return std::abs((device_.observed_clock(gpu).value() - stage.clock.value())) <=
                                  options_.clock_tolerance.value();
                         });
    if (!arrived) return;
    window.settled = true;
    // The run under way had another clock for a part; it goes with the warm-up.
    window.runs_before = repetition->ends.size() + 1 + options_.warm_up_runs;
    return;
  }
  if (repetition->ends.size() > window.runs_before) measure(stage, window, *repetition);
}

void ClockSweep::measure(Stage& stage, Window& window, const InstructionLog::Repetition& repetition) {
  const Seconds warm_since = repetition.ends[window.runs_before - 1];
  std::size_t ticks = SIZE_MAX;
  for (std::size_t g = 0; g < stage.gpus.size(); ++g) {
    const EnergyReading reading = device_.energy(stage.gpus[g]);
    if (reading.at >= warm_since) window.series[g].add(reading);
    ticks = std::min(ticks, window.series[g].ticks());
    try {
      window.reasons |= device_.event_reasons(stage.gpus[g]);
    } catch (const DeviceError&) {  // not every GPU tells
    }
  }
  const std::size_t runs = repetition.ends.size() - window.runs_before;
  if (runs < options_.least_runs || ticks < options_.least_ticks) return;

  std::vector<double> times;
  for (std::size_t i = window.runs_before; i < repetition.ends.size(); ++i) {
    times.push_back((repetition.ends[i] - repetition.ends[i - 1]).value());
  }
  const Mean time = mean_of(times);
  double power = 0;
  double power_error = 0;
  for (const TickSeries& series : window.series) {
    const LineFit fit = series.fit();
    power += fit.slope / static_cast<double>(stage.gpus.size());
    power_error = std::max(power_error, fit.standard_error);
  }
  const bool precise = time.standard_error <= options_.precision * time.value &&
                       power_error <= options_.precision * std::abs(power);
  if (!precise && runs < options_.most_runs) return;

  Measurement measured{stage.clock, Seconds(time.value), Joules(std::max(0.0, power * time.value))};
  // What a noise-free clock and counter leave is the rounding of sums.
  if (time.standard_error > kRounding * time.value) measured.time_error = Seconds(time.standard_error);
  const double energy_error = std::hypot(power_error * time.value, power * time.standard_error);
  if (energy_error > kRounding * measured.energy.value()) measured.energy_error = Joules(energy_error);
  close(stage, window, measured);
}

void ClockSweep::close(Stage& stage, Window& window, const Measurement& measured) {
  const auto entry = std::find_if(stage.windows.begin(), stage.windows.end(),
                                  [&](const auto& candidate) { return &candidate.second == &window; });
  stage.profile.instructions[entry->first].push_back(measured);
  const auto blocking = stage.blocking_power();
  const auto cost = [&](const Measurement& m) { return m.energy - *blocking * m.time; };
  const bool risen = blocking && window.previous && measured.time > window.previous->time &&
                     cost(measured) > cost(*window.previous);
  window.rises = risen ? window.rises + 1 : 0;
  window.finished = window.rises >= options_.rises;
  window.previous = measured;
  window.done = true;
  if (window.reasons.throttles()) {
    ++stage.slowdown.windows;
    stage.slowdown.reasons |= window.reasons.throttling();
  }
  control_.set_repeat(stage.number, stage.open_kinds());
}

std::vector<ClockSweep::Slowdown> ClockSweep::slowdowns() const {
  std::vector<Slowdown> slowdowns;
  for (const auto& stage : stages_) {
    if (stage->slowdown.windows > 0) slowdowns.push_back(stage->slowdown);
  }
  return slowdowns;
}

/// Until the stage has been seen waiting long enough, as it has in most sweeps. The others repeat whatever
/// they come to, so that it waits for one of them. False if the timeline ended.
bool ClockSweep::make_wait(Stage& stage, Timeline& timeline) {
  if (stages_.size() == 1) return true;  // for whom?
  const Seconds period = device_.energy_refresh_period();
  const Seconds enough = period * static_cast<double>(options_.least_ticks);
  const Seconds since = timeline.now();
  const auto repeat_others = [&](std::uint32_t kinds) {
    for (const auto& other : stages_) {
      if (other.get() != &stage) control_.set_repeat(other->number, kinds);
    }
  };
  bool going_on = true;
  if (stage.time_waited() < enough) repeat_others(~0U);
  while (going_on && stage.time_waited() < enough && timeline.now() < since + options_.waiting_patience) {
    going_on = timeline.sleep_until(timeline.now() + period / 2);
    watch(stage, timeline.now());
  }
  repeat_others(0);
  return going_on;
}

void ClockSweep::watch_waiting(Stage& stage) {
  const auto since = log_.waiting_since(stage.number);
  for (std::size_t g = 0; g < stage.gpus.size(); ++g) {
    Waiting& gpu = stage.waiting[g];
    if (!since) {
      gpu.last.reset();
      continue;
    }
    const EnergyReading reading = device_.energy(stage.gpus[g]);
    const bool is_reset = gpu.last && reading.total < gpu.last->total;
    if (gpu.last && !is_reset && gpu.last->at >= *since && reading.at > gpu.last->at) {
      gpu.energy += reading.total - gpu.last->total;
      gpu.time += reading.at - gpu.last->at;
    }
    gpu.last = reading;
  }
}

}  // namespace slackline
