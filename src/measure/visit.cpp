#include "slackline/measure/visit.h"

#include <Eigen/Dense>
#include <algorithm>
#include <array>
#include <cmath>
#include <functional>
#include <numeric>
#include <set>

#include "refresh_rows.h"
#include "slackline/curve/non_negative_least_squares.h"

namespace slackline {
namespace {

constexpr std::size_t kMostGroups = 20;
constexpr std::size_t kFewestGroups = 5;
/// Powers stand still when no one moves by more than this, relatively.
constexpr double kStandstill = 1e-7;
constexpr int kMostRounds = 1000;
/// Windows of the regression have different lengths, relative to this many refreshes or the longest run, so
/// that they differ in what they hold even where instructions alternate like a clock.
constexpr double kLeastRefreshes = 3;
constexpr std::array kWindowLengths{0.5, 1.0, 1.5};
/// Columns that are closer to dependent than this (smallest singular value, of columns of length 1) cannot be
/// told apart.
constexpr double kDependent = 0.02;
/// Share of the time below which waiting is not an activity of its own.
constexpr double kCrumbs = 0.01;
/// A run that takes this many times the median, and the most of them, relatively, that do not count.
constexpr double kHiccup = 2;
constexpr double kMostHiccups = 0.05;
/// Errors below this, relative to the value, are the rounding of sums.
constexpr double kRounding = 1e-9;

/// By which a standard error from few samples grows so that two of it (1.96) hold 95 % all the same:
/// Student's t against the normal quantile, by the first terms of its expansion (R. A. Fisher, E. A. Cornish
/// 1960).
double small_sample_factor(std::size_t samples) {
  const auto freedom = static_cast<double>(samples - 1);
  return 1 + 1.21 / freedom + 1.44 / (freedom * freedom);
}

/// What both ways find: joules a run of each kind, then watts of waiting and of what is outside of steps.
using Solution = std::vector<double>;
using Rows = std::vector<RefreshRow>;

/// The group that nothing is in.
constexpr std::size_t kKeepAll = SIZE_MAX;

/// Groups of the jackknife: as many runs of each kind in one as in another, each with what follows it, and
/// neighbours together. (Stretches of equal length would do for what happens all the time. But forwards that
/// warm a pipeline up come one after the other, and half of them would be in one stretch.)
class Groups {
 public:
  explicit Groups(const std::vector<Run>& runs) {
    std::map<Task, std::size_t> totals;
    for (const Run& run : runs) ++totals[run.task];
    std::size_t fewest = kMostGroups;
    for (const auto& [kind, total] : totals) {
      if (!is_fixed_time(kind.kind)) fewest = std::min(fewest, total);
    }
    count_ = std::max(fewest, kFewestGroups);
    std::map<Task, std::size_t> seen;
    for (const Run& run : runs) {
      begins_.push_back(run.span.begin);
      groups_.push_back(seen[run.task]++ * count_ / totals[run.task]);
    }
  }

  [[nodiscard]] std::size_t count() const { return count_; }
  [[nodiscard]] std::size_t of(const Span& span) const {
    const auto next = std::ranges::upper_bound(begins_, (span.begin + span.end) / 2);
    if (begins_.empty()) return 0;
    return groups_[static_cast<std::size_t>(std::max<std::ptrdiff_t>(0, next - begins_.begin() - 1))];
  }

 private:
  std::vector<Seconds> begins_;
  std::vector<std::size_t> groups_;
  std::size_t count_ = kFewestGroups;
};

/// Shares every row's energy out in proportion to power x time, again and again. `powers` are where to begin,
/// one an activity, and where it ended.
Solution interpolate(const Rows& rows, std::size_t kinds,
                     const std::function<bool(const RefreshRow&)>& counts, std::vector<double>& powers) {
  const std::size_t activities = kinds + 2;
  std::vector<const RefreshRow*> used;
  std::vector<double> time(activities);
  std::vector<double> runs(kinds);
  for (const RefreshRow& row : rows) {
    if (!counts(row)) continue;
    used.push_back(&row);
    for (std::size_t a = 0; a < activities; ++a) time[a] += row.durations[a];
    for (std::size_t k = 0; k < kinds; ++k) runs[k] += row.runs[k];
  }
  std::vector<double> shares(activities);
  for (int round = 0; round < kMostRounds; ++round) {
    std::ranges::fill(shares, 0);
    for (const RefreshRow* row : used) {
      double expected = 0;
      for (std::size_t a = 0; a < activities; ++a) expected += powers[a] * row->durations[a];
      if (expected <= 0) continue;
      const double factor = row->energy / expected;
      for (std::size_t a = 0; a < activities; ++a) shares[a] += factor * powers[a] * row->durations[a];
    }
    double moved = 0;
    for (std::size_t a = 0; a < activities; ++a) {
      if (time[a] <= 0) continue;
      const double power = shares[a] / time[a];
      if (power > 0) moved = std::max(moved, std::abs(power - powers[a]) / power);
      powers[a] = power;
    }
    if (moved < kStandstill) break;
  }
  Solution solution(activities);
  for (std::size_t k = 0; k < kinds; ++k) solution[k] = runs[k] > 0 ? shares[k] / runs[k] : 0;
  for (std::size_t a = kinds; a < activities; ++a) solution[a] = time[a] > 0 ? powers[a] : 0;
  return solution;
}

/// Neighbouring rows put together, to windows about as long as `length`.
Rows windows_of(const Rows& rows, double length) {
  Rows windows;
  for (const RefreshRow& row : rows) {
    const double wanted = length * kWindowLengths[windows.size() % kWindowLengths.size()];
    const bool is_open =
        !windows.empty() && row.follows && windows.back().span.length().value() < wanted * (1 - kRounding);
    if (!is_open) {
      windows.push_back(row);
      continue;
    }
    RefreshRow& window = windows.back();
    window.span.end = row.span.end;
    window.energy += row.energy;
    for (std::size_t a = 0; a < row.durations.size(); ++a) window.durations[a] += row.durations[a];
    for (std::size_t k = 0; k < row.runs.size(); ++k) window.runs[k] += row.runs[k];
  }
  return windows;
}

bool are_dependent(const std::vector<std::vector<double>>& columns) {
  const auto rows = static_cast<Eigen::Index>(columns.front().size());
  if (rows < static_cast<Eigen::Index>(columns.size())) return true;
  Eigen::MatrixXd matrix(rows, static_cast<Eigen::Index>(columns.size()));
  for (std::size_t c = 0; c < columns.size(); ++c) {
    matrix.col(static_cast<Eigen::Index>(c)) =
        Eigen::Map<const Eigen::VectorXd>(columns[c].data(), rows).normalized();
  }
  return Eigen::JacobiSVD<Eigen::MatrixXd>(matrix).singularValues().tail(1)[0] < kDependent;
}

/// All 0 where the windows do not tell the activities apart.
Solution regress(const Rows& windows, std::size_t kinds,
                 const std::function<bool(const RefreshRow&)>& counts) {
  std::vector<std::vector<double>> columns(kinds + 2);
  std::vector<double> energy;
  for (const RefreshRow& window : windows) {
    if (!counts(window)) continue;
    energy.push_back(window.energy);
    for (std::size_t k = 0; k < kinds; ++k) columns[k].push_back(window.runs[k]);
    for (std::size_t a = kinds; a < kinds + 2; ++a) columns[a].push_back(window.durations[a]);
  }
  Solution solution(kinds + 2);
  if (energy.empty()) return solution;
  // What never occurs has no column.
  std::vector<std::size_t> present;
  std::vector<std::vector<double>> chosen;
  for (std::size_t a = 0; a < columns.size(); ++a) {
    if (std::ranges::all_of(columns[a], [](double c) { return c == 0; })) continue;
    present.push_back(a);
    chosen.push_back(std::move(columns[a]));
  }
  if (chosen.empty() || are_dependent(chosen)) return solution;
  const std::vector<double> found = non_negative_least_squares(chosen, energy);
  for (std::size_t i = 0; i < present.size(); ++i) solution[present[i]] = found[i];
  return solution;
}

/// The estimate on all rows, and the delete-a-group jackknife's error of each of its numbers.
std::vector<Estimate> with_errors(const std::function<Solution(std::size_t without)>& solve,
                                  std::size_t groups) {
  const Solution whole = solve(kKeepAll);
  std::vector<Estimate> estimates;
  for (const double value : whole) estimates.push_back({value, 0});
  std::vector<Solution> without;
  for (std::size_t g = 0; g < groups; ++g) without.push_back(solve(g));
  const auto is_nothing = [](const Solution& s) { return std::ranges::count(s, 0.0) == std::ssize(s); };
  if (std::ranges::any_of(without, is_nothing)) {  // it all hangs on one group
    for (Estimate& estimate : estimates) estimate.error = estimate.value;
    return estimates;
  }
  for (std::size_t i = 0; i < whole.size(); ++i) {
    // What happens in one group only says nothing about how it varies.
    const auto value = [&](const Solution& solution) { return solution[i] == 0 ? whole[i] : solution[i]; };
    double mean = 0;
    for (const Solution& solution : without) mean += value(solution) / static_cast<double>(groups);
    double squares = 0;
    for (const Solution& solution : without) squares += std::pow(value(solution) - mean, 2);
    const double error = small_sample_factor(groups) *
                         std::sqrt(squares * static_cast<double>(groups - 1) / static_cast<double>(groups));
    if (error > kRounding * whole[i]) estimates[i].error = error;
  }
  return estimates;
}

Estimate mean_of(const std::vector<double>& samples) {
  Estimate mean;
  for (const double sample : samples) mean.value += sample;
  const auto count = static_cast<double>(samples.size());
  mean.value /= count;
  double squares = 0;
  for (const double sample : samples) squares += (sample - mean.value) * (sample - mean.value);
  if (samples.size() > 1) {
    mean.error = small_sample_factor(samples.size()) * std::sqrt(squares / (count - 1) / count);
  }
  if (samples.size() == 1) mean.error = mean.value;
  if (mean.error < kRounding * mean.value) mean.error = 0;
  return mean;
}

/// Runs that took so much longer than their kind does that something else happened: a library that loaded, a
/// host that slept. Not where they are many.
std::vector<Span> hiccups_of(const std::vector<Run>& runs) {
  std::map<Task, std::vector<const Run*>> kinds;
  for (const Run& run : runs) kinds[run.task].push_back(&run);
  std::vector<Span> hiccups;
  for (auto& [kind, all] : kinds) {
    std::ranges::sort(all, {}, &Run::time);
    const auto limit = all[all.size() / 2]->time() * kHiccup;
    const auto first = std::ranges::upper_bound(all, limit, {}, &Run::time);
    if (static_cast<double>(all.end() - first) > kMostHiccups * static_cast<double>(all.size())) continue;
    for (auto run = first; run != all.end(); ++run) hiccups.push_back((*run)->span);
  }
  return hiccups;
}

/// A GPU's share of the mean over all; their noise may be the same, so the error does not shrink.
void add_share(Estimate& mean, const Estimate& one, std::size_t gpus) {
  mean.value += one.value / static_cast<double>(gpus);
  mean.error += one.error / static_cast<double>(gpus);
}

/// Waiting, or what is outside of steps, that comes in crumbs cannot be told from what goes on around it; its
/// time is added to the kinds'.
void drop_crumbs(Rows& rows, std::size_t kinds) {
  double time = 0;
  std::vector<double> of_activity(kinds + 2);
  for (const RefreshRow& row : rows) {
    time += row.span.length().value();
    for (std::size_t a = kinds; a < kinds + 2; ++a) of_activity[a] += row.durations[a];
  }
  for (std::size_t a = kinds; a < kinds + 2; ++a) {
    if (of_activity[a] == 0 || of_activity[a] >= kCrumbs * time) continue;
    for (RefreshRow& row : rows) {
      const double computing =
          std::accumulate(row.durations.begin(), row.durations.begin() + std::ssize(row.runs), 0.0);
      if (computing <= 0) continue;
      for (std::size_t k = 0; k < kinds; ++k) row.durations[k] *= 1 + row.durations[a] / computing;
      row.durations[a] = 0;
    }
  }
}

/// What one counter says.
struct CounterEstimate {
  std::size_t ticks = 0;
  double refresh = 0;  // seconds, on average
  double waited = 0;   // seconds
  /// One a kind, then waiting; empty if it says nothing.
  std::vector<Estimate> interpolated;
  std::vector<Estimate> regressed;
};

CounterEstimate estimate_from(Rows rows, const Groups& groups, std::size_t kinds, double longest_run) {
  CounterEstimate result;
  result.ticks = rows.size();
  if (rows.size() < 2) return result;
  drop_crumbs(rows, kinds);
  double energy = 0;
  double time = 0;
  for (const RefreshRow& row : rows) {
    energy += row.energy;
    time += row.span.length().value();
    result.waited += row.durations[kinds];
  }
  result.refresh = time / static_cast<double>(rows.size());
  const auto all_but = [&groups](std::size_t group) {
    return
        [&groups, group](const RefreshRow& row) { return group == kKeepAll || groups.of(row.span) != group; };
  };
  std::vector<double> begin(kinds + 2, energy / time);
  result.interpolated = with_errors(
      [&](std::size_t without) {
        std::vector<double> powers = begin;
        Solution solution = interpolate(rows, kinds, all_but(without), powers);
        if (without == kKeepAll) begin = powers;  // the others end close to it
        return solution;
      },
      groups.count());
  const Rows windows = windows_of(rows, std::max(longest_run, kLeastRefreshes * result.refresh));
  result.regressed = with_errors(
      [&](std::size_t without) { return regress(windows, kinds, all_but(without)); }, groups.count());
  for (Estimate& estimate : result.regressed) {
    if (estimate.error >= estimate.value) estimate = {};
  }
  return result;
}

}  // namespace

VisitEstimate estimate(const VisitRecord& seen) {
  VisitRecord record = with_short_gaps_closed(seen);
  const std::vector<Span> hiccups = hiccups_of(record.runs);
  record.left_out.insert(record.left_out.end(), hiccups.begin(), hiccups.end());
  const std::vector<Span> left_out = spans_left_out(record);
  std::set<Task> present;
  std::map<Task, std::vector<double>> times;
  double longest_run = 0;
  for (const Run& run : record.runs) {
    if (run.span.length() <= Seconds(0)) continue;
    present.insert(run.task);
    longest_run = std::max(longest_run, run.span.length().value());
    if (!overlaps(left_out, run.span)) times[run.task].push_back(run.time().value());
  }
  VisitEstimate result;
  for (const auto& [kind, samples] : times) {
    result.kinds[kind].runs = samples.size();
    result.kinds[kind].time = mean_of(samples);
  }
  const Groups groups(record.runs);
  const std::vector<Task> kinds(present.begin(), present.end());
  const std::size_t gpus = record.counters.size();
  Estimate interpolated_blocking;
  Estimate regressed_blocking;
  double waited = 0;
  bool has_waited = gpus > 0;
  result.ticks = gpus > 0 ? SIZE_MAX : 0;
  for (const auto& readings : record.counters) {
    const CounterEstimate one =
        estimate_from(refresh_rows(record, kinds, readings, left_out), groups, kinds.size(), longest_run);
    result.ticks = std::min(result.ticks, one.ticks);
    has_waited = has_waited && one.ticks > 1 && one.waited >= one.refresh;
    if (one.interpolated.empty()) continue;
    for (std::size_t k = 0; k < kinds.size(); ++k) {
      const auto kind = result.kinds.find(kinds[k]);
      if (kind == result.kinds.end()) continue;
      add_share(kind->second.interpolated, one.interpolated[k], gpus);
      add_share(kind->second.regressed, one.regressed[k], gpus);
    }
    add_share(interpolated_blocking, one.interpolated[kinds.size()], gpus);
    add_share(regressed_blocking, one.regressed[kinds.size()], gpus);
    waited += one.waited / static_cast<double>(gpus);
  }
  if (has_waited) {
    result.interpolated_blocking = interpolated_blocking;
    result.regressed_blocking = regressed_blocking;
    result.waited = Seconds(waited);
  }
  return result;
}

}  // namespace slackline
