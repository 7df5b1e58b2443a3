#include "slackline/measure/combine.h"

#include <algorithm>
#include <cmath>
#include <set>
#include <string>
#include <utility>

#include "slackline/base/error.h"

namespace slackline {
namespace {

[[noreturn]] void fail(const std::string& reason) {
  throw InputError("", 0, "recordings", reason);
}

/// How one stage's energies change with time: relatively, a second.
struct Drift {
  double rate = 0;
  double error = 0;  // infinite if it is not known
};

/// Pairs of estimates of the same thing at different times.
class DriftFit {
 public:
  void add(const Estimate& first, Seconds at_first, const Estimate& second, Seconds at_second) {
    const double apart = (at_second - at_first).value();
    if (apart <= 0 || first.value <= 0 || second.value <= 0) return;
    const double variance = std::pow(first.error / first.value, 2) + std::pow(second.error / second.value, 2);
    const double rate = std::log(second.value / first.value) / apart;
    // What does not vary at all is known to its rounding.
    const double weight = apart * apart / std::max(variance, 1e-16);
    weights_ += weight;
    rates_ += weight * rate;
    squares_ += weight * rate * rate;
    ++pairs_;
  }
  [[nodiscard]] Drift drift() const {
    if (pairs_ < 2) return {0, INFINITY};
    const double rate = rates_ / weights_;
    const double scatter = std::max(0.0, squares_ - weights_ * rate * rate) / static_cast<double>(pairs_ - 1);
    return {rate, std::sqrt(std::max(1.0, scatter) / weights_)};
  }

 private:
  double weights_ = 0;
  double rates_ = 0;
  double squares_ = 0;
  std::size_t pairs_ = 0;
};

Seconds middle_of(const Span& span) {
  return (span.begin + span.end) / 2;
}

Drift drift_of(const StageRecording& stage) {
  DriftFit fit;
  for (std::size_t b = 1; b < stage.visits.size(); ++b) {
    for (std::size_t a = 0; a < b; ++a) {
      const Visit& first = stage.visits[a];
      const Visit& second = stage.visits[b];
      if (first.clock != second.clock || first.is_wait || second.is_wait) continue;
      for (const auto& [kind, estimate] : first.estimate.kinds) {
        const auto other = second.estimate.kinds.find(kind);
        if (other == second.estimate.kinds.end()) continue;
        fit.add(estimate.interpolated, middle_of(first.span), other->second.interpolated,
                middle_of(second.span));
      }
    }
  }
  return fit.drift();
}

/// A mean of estimates of the same thing.
class Mean {
 public:
  void add(const Estimate& estimate, double weight = 1) {
    samples_.push_back({estimate, weight});
    weights_ += weight;
  }
  [[nodiscard]] bool empty() const { return samples_.empty(); }
  [[nodiscard]] Estimate estimate() const {
    Estimate mean;
    double variance = 0;
    for (const auto& [one, weight] : samples_) {
      mean.value += one.value * weight / weights_;
      variance += std::pow(one.error * weight / weights_, 2);
    }
    mean.error = std::sqrt(variance);
    return mean;
  }
  /// From how far the samples are apart, if there are enough: waiting comes in so few stretches that a visit
  /// alone can hardly tell.
  [[nodiscard]] std::optional<double> error_by_scatter() const {
    constexpr std::size_t kEnough = 5;
    if (samples_.size() < kEnough) return std::nullopt;
    const double mean = estimate().value;
    double variance = 0;
    for (const auto& [one, weight] : samples_)
      variance += std::pow((one.value - mean) * weight / weights_, 2);
    const auto count = static_cast<double>(samples_.size());
    return std::sqrt(variance * count / (count - 1));
  }
  /// Sum of squares of the deviations from the mean, in errors, and how many of them are free.
  void add_scatter(double& squares, double& freedom) const {
    const double mean = estimate().value;
    if (samples_.size() < 2) return;
    for (const auto& [one, weight] : samples_) {
      if (one.error > 0) squares += std::pow((one.value - mean) / one.error, 2);
    }
    freedom += static_cast<double>(samples_.size() - 1);
  }

 private:
  std::vector<std::pair<Estimate, double>> samples_;
  double weights_ = 0;
};

/// By which errors have to grow so that they explain how far visits of the same clock are apart.
double widening(const std::vector<const Mean*>& means) {
  double squares = 0;
  double freedom = 0;
  for (const Mean* mean : means) mean->add_scatter(squares, freedom);
  return freedom > 0 ? std::sqrt(std::max(1.0, squares / freedom)) : 1;
}

struct ClockMeans {
  Mean time;
  Mean interpolated;
  Mean regressed;
  std::size_t runs = 0;
  bool is_throttled = false;
  bool is_missed = false;
};

class StageMeans {
 public:
  StageMeans(const StageRecording& stage, Seconds middle) : drift_(drift_of(stage)) {
    for (const Visit& visit : stage.visits) add(visit, middle);
  }

  [[nodiscard]] const Drift& drift() const { return drift_; }

  [[nodiscard]] std::map<InstructionKind, std::vector<Measurement>> instructions(int chunk) const {
    std::map<InstructionKind, std::vector<Measurement>> result;
    for (const auto& [task, clocks] : tasks_) {
      if (task.chunk != chunk) continue;
      const auto collect = [&clocks = clocks](Mean ClockMeans::*which) {
        std::vector<const Mean*> means;
        for (const auto& [clock, one] : clocks) means.push_back(&(one.*which));
        return widening(means);
      };
      const double time_widening = collect(&ClockMeans::time);
      const double energy_widening = collect(&ClockMeans::interpolated);
      const double second_widening = collect(&ClockMeans::regressed);
      for (auto entry = clocks.rbegin(); entry != clocks.rend(); ++entry) {
        const ClockMeans& one = entry->second;
        const Estimate time = one.time.estimate();
        const Estimate energy = one.interpolated.estimate();
        const Estimate second = one.regressed.estimate();
        Measurement m{entry->first, Seconds(time.value), Joules(energy.value)};
        m.time_error = Seconds(time.error * time_widening);
        m.energy_error = Joules(energy.error * energy_widening);
        m.second_energy = Joules(second.value);
        m.second_energy_error = Joules(second.error * second_widening);
        m.runs = static_cast<int>(std::min<std::size_t>(one.runs, 1'000'000'000));
        result[task.kind].push_back(m);
      }
    }
    return result;
  }

  [[nodiscard]] static std::optional<Estimate> blocking(const Mean& mean) {
    if (mean.empty()) return std::nullopt;
    Estimate estimate = mean.estimate();
    if (const auto error = mean.error_by_scatter()) estimate.error = *error;
    return estimate;
  }
  [[nodiscard]] std::optional<Estimate> interpolated_blocking() const { return blocking(interpolated_); }
  [[nodiscard]] std::optional<Estimate> regressed_blocking() const { return blocking(regressed_); }

  [[nodiscard]] std::vector<Megahertz> clocks_that(bool ClockMeans::*flag) const {
    std::set<Megahertz> clocks;
    for (const auto& [task, means] : tasks_) {
      for (const auto& [clock, one] : means) {
        if (one.*flag) clocks.insert(clock);
      }
    }
    return {clocks.rbegin(), clocks.rend()};
  }

 private:
  void add(const Visit& visit, Seconds middle) {
    const double factor = std::exp(-drift_.rate * (middle_of(visit.span) - middle).value());
    const auto corrected = [&](const Estimate& e) { return Estimate{e.value * factor, e.error * factor}; };
    if (visit.estimate.interpolated_blocking) {
      const double weight = visit.estimate.waited.value();
      interpolated_.add(*visit.estimate.interpolated_blocking, weight);
      if (visit.estimate.regressed_blocking->value > 0) {
        regressed_.add(*visit.estimate.regressed_blocking, weight);
      }
    }
    if (visit.is_wait) return;
    for (const auto& [task, estimate] : visit.estimate.kinds) {
      ClockMeans& means = tasks_[task][is_fixed_time(task.kind) ? Megahertz(0) : visit.clock];
      means.time.add(estimate.time);
      means.interpolated.add(corrected(estimate.interpolated));
      if (estimate.regressed.value > 0) means.regressed.add(corrected(estimate.regressed));
      means.runs += estimate.runs;
      means.is_throttled = means.is_throttled || visit.is_throttled;
      means.is_missed = means.is_missed || visit.is_missed;
    }
  }

  Drift drift_;
  std::map<Task, std::map<Megahertz, ClockMeans>> tasks_;
  Mean interpolated_;
  Mean regressed_;
};

Span whole_of(const Recording& recording) {
  Span whole{Seconds(INFINITY), Seconds(0)};
  for (const StageRecording& stage : recording.stages) {
    for (const Visit& visit : stage.visits) {
      whole.begin = std::min(whole.begin, visit.span.begin);
      whole.end = std::max(whole.end, visit.span.end);
    }
  }
  return whole;
}

StageProfile stage_profile(const Recording& recording, const StageRecording& stage, int chunk) {
  const Span whole = whole_of(recording);
  const StageMeans means(stage, middle_of(whole));
  StageProfile profile;
  profile.tensor_parallel = stage.gpus;
  profile.instructions = means.instructions(chunk);
  MeasuringNotes notes;
  notes.counter_period = recording.counter_period;
  notes.duration = whole.length();
  if (const auto blocking = means.interpolated_blocking()) {
    profile.blocking_power = Watts(blocking->value);
    notes.blocking_error = Watts(blocking->error);
  }
  if (const auto blocking = means.regressed_blocking()) {
    notes.second_blocking_power = Watts(blocking->value);
    notes.second_blocking_error = Watts(blocking->error);
  }
  double time = 0;
  for (const Visit& visit : stage.visits) {
    const double length = visit.span.length().value();
    time += length;
    notes.throttled_share += visit.throttled_share * length;
    notes.foreign_share += visit.foreign_share * length;
    notes.unreadable_share += visit.unreadable_share * length;
  }
  if (time > 0) {
    for (double* share : {&notes.throttled_share, &notes.foreign_share, &notes.unreadable_share}) {
      *share = std::min(1.0, *share / time);
    }
  }
  if (std::isfinite(means.drift().error)) {
    notes.drift = means.drift().rate * whole.length().value();
    notes.drift_error = means.drift().error * whole.length().value();
  }
  notes.throttled_clocks = means.clocks_that(&ClockMeans::is_throttled);
  notes.missed_clocks = means.clocks_that(&ClockMeans::is_missed);
  profile.notes = notes;
  return profile;
}

/// The same kind at the same clock by several ranks: lockstep waits for the slowest.
Measurement slowest_and_mean(const std::vector<Measurement>& ranks) {
  Measurement result = *std::ranges::max_element(ranks, {}, &Measurement::time);
  const auto count = static_cast<double>(ranks.size());
  double energy = 0;
  double variance = 0;
  double second = 0;
  double second_variance = 0;
  for (const Measurement& m : ranks) {
    energy += m.energy.value() / count;
    variance += std::pow(m.energy_error.value() / count, 2);
    second += m.second_energy.value() / count;
    second_variance += std::pow(m.second_energy_error.value() / count, 2);
    result.runs = std::min(result.runs, m.runs);
  }
  result.energy = Joules(energy);
  result.energy_error = Joules(std::sqrt(variance));
  result.second_energy = Joules(second);
  result.second_energy_error = Joules(std::sqrt(second_variance));
  return result;
}

void merge_notes(MeasuringNotes& notes, const MeasuringNotes& other, double share) {
  const auto mean = [share](auto& mine, const auto& theirs) { mine = mine * (1 - share) + theirs * share; };
  mean(notes.blocking_error, other.blocking_error);
  mean(notes.second_blocking_power, other.second_blocking_power);
  mean(notes.second_blocking_error, other.second_blocking_error);
  mean(notes.throttled_share, other.throttled_share);
  mean(notes.foreign_share, other.foreign_share);
  mean(notes.unreadable_share, other.unreadable_share);
  mean(notes.drift, other.drift);
  mean(notes.drift_error, other.drift_error);
  notes.duration = std::max(notes.duration, other.duration);
  notes.counter_period = std::max(notes.counter_period, other.counter_period);
  const auto join = [](std::vector<Megahertz>& mine, const std::vector<Megahertz>& theirs) {
    std::set<Megahertz> both(mine.begin(), mine.end());
    both.insert(theirs.begin(), theirs.end());
    mine.assign(both.rbegin(), both.rend());
  };
  join(notes.throttled_clocks, other.throttled_clocks);
  join(notes.missed_clocks, other.missed_clocks);
}

/// Ranks of one stage. Only clocks that all of them have measured count.
StageProfile merge(const std::vector<StageProfile>& ranks) {
  StageProfile merged = ranks.front();
  std::size_t with_blocking = merged.blocking_power ? 1 : 0;
  for (std::size_t r = 1; r < ranks.size(); ++r) {
    merged.tensor_parallel += ranks[r].tensor_parallel;
    merge_notes(*merged.notes, *ranks[r].notes, 1.0 / static_cast<double>(r + 1));
    if (!ranks[r].blocking_power) continue;
    const double share = 1.0 / static_cast<double>(++with_blocking);
    merged.blocking_power =
        merged.blocking_power.value_or(Watts(0)) * (1 - share) + *ranks[r].blocking_power * share;
  }
  for (auto& [kind, options] : merged.instructions) {
    std::vector<Measurement> common;
    for (const Measurement& option : options) {
      std::vector<Measurement> same;
      for (const StageProfile& rank : ranks) {
        if (const Measurement* m = find_measurement(rank, kind, option.clock)) same.push_back(*m);
      }
      if (same.size() == ranks.size()) common.push_back(slowest_and_mean(same));
    }
    options = std::move(common);
  }
  std::erase_if(merged.instructions, [](const auto& entry) { return entry.second.empty(); });
  return merged;
}

}  // namespace

std::vector<StageProfile> combine(const std::vector<Recording>& recordings,
                                  std::optional<int> tensor_parallel) {
  if (recordings.empty()) fail("there are none");
  const int stages = recordings.front().pipeline_stages;
  std::vector<std::vector<StageProfile>> ranks(static_cast<std::size_t>(stages));
  for (const Recording& recording : recordings) {
    if (recording.pipeline_stages != stages) {
      fail("rank " + std::to_string(recording.rank) + " saw a pipeline of " +
           std::to_string(recording.pipeline_stages) + " stages, another one of " + std::to_string(stages));
    }
    for (const StageRecording& stage : recording.stages) {
      for (std::size_t chunk = 0; chunk < stage.stages.size(); ++chunk) {
        ranks[static_cast<std::size_t>(stage.stages[chunk])].push_back(
            stage_profile(recording, stage, static_cast<int>(chunk)));
      }
    }
  }
  std::vector<StageProfile> profiles;
  for (std::size_t s = 0; s < ranks.size(); ++s) {
    if (ranks[s].empty()) fail("there is none of stage " + std::to_string(s));
    profiles.push_back(merge(ranks[s]));
    if (!tensor_parallel) continue;
    if (profiles.back().tensor_parallel % *tensor_parallel != 0) {
      fail("stage " + std::to_string(s) + " has " + std::to_string(profiles.back().tensor_parallel) +
           " GPUs, which are no replicas of " + std::to_string(*tensor_parallel));
    }
    profiles.back().tensor_parallel = *tensor_parallel;
  }
  return profiles;
}

}  // namespace slackline
