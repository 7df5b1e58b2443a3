#include "slackline/measure/visit.h"

#include <algorithm>
#include <cmath>
#include <functional>
#include <set>

#include "refresh_rows.h"
#include "slackline/curve/non_negative_least_squares.h"

namespace slackline {
namespace {

constexpr std::size_t kMostBlocks = 20;
constexpr std::size_t kFewestBlocks = 5;
/// Powers stand still when no one moves by more than this, relatively.
constexpr double kStandstill = 1e-7;
constexpr int kMostRounds = 1000;
/// A window of the regression holds at least so many refreshes.
constexpr double kLeastRefreshes = 3;
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

/// Rows whose block is not this one.
constexpr std::size_t kKeepAll = SIZE_MAX;

struct Blocks {
  double begin = 0;
  double length = 1;
  std::size_t count = 1;

  [[nodiscard]] std::size_t of(const Span& span) const {
    const double middle = (span.begin.value() + span.end.value()) / 2;
    const double place = (middle - begin) / length;
    return std::min(count - 1, static_cast<std::size_t>(std::max(0.0, place)));
  }
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

/// Neighbouring rows put together until they are as long as a run.
Rows windows_of(const Rows& rows, double length) {
  Rows windows;
  for (const RefreshRow& row : rows) {
    const bool is_open =
        !windows.empty() && row.follows && windows.back().span.length().value() < length * (1 - kRounding);
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
  // What a gap has cut short says little about much.
  std::erase_if(windows, [&](const RefreshRow& w) { return w.span.length().value() < length / 2; });
  return windows;
}

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
  if (chosen.empty()) return solution;
  const std::vector<double> found = non_negative_least_squares(chosen, energy);
  for (std::size_t i = 0; i < present.size(); ++i) solution[present[i]] = found[i];
  return solution;
}

/// The estimate on all rows, and the delete-a-block jackknife's error of each of its numbers.
std::vector<Estimate> with_errors(const std::function<Solution(std::size_t without)>& solve,
                                  std::size_t blocks) {
  const Solution whole = solve(kKeepAll);
  std::vector<Estimate> estimates;
  for (const double value : whole) estimates.push_back({value, 0});
  if (blocks < kFewestBlocks) {
    for (Estimate& estimate : estimates) estimate.error = estimate.value;  // nothing is known of it
    return estimates;
  }
  std::vector<Solution> without;
  for (std::size_t b = 0; b < blocks; ++b) without.push_back(solve(b));
  for (std::size_t i = 0; i < whole.size(); ++i) {
    double mean = 0;
    for (const Solution& solution : without) mean += solution[i] / static_cast<double>(blocks);
    double squares = 0;
    for (const Solution& solution : without) squares += (solution[i] - mean) * (solution[i] - mean);
    const double error = small_sample_factor(blocks) *
                         std::sqrt(squares * static_cast<double>(blocks - 1) / static_cast<double>(blocks));
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

Blocks blocks_of(const Rows& rows, double longest_run) {
  Blocks blocks;
  blocks.begin = rows.front().span.begin.value();
  const double length = rows.back().span.end.value() - blocks.begin;
  const double most = length / std::max(2 * longest_run, 1e-9);
  blocks.count = std::clamp(static_cast<std::size_t>(std::min(most, 1e6)), kFewestBlocks, kMostBlocks);
  blocks.count = std::min(blocks.count, std::max<std::size_t>(1, rows.size() / 2));
  blocks.length = length / static_cast<double>(blocks.count);
  return blocks;
}

/// A GPU's share of the mean over all; their noise may be the same, so the error does not shrink.
void add_share(Estimate& mean, const Estimate& one, std::size_t gpus) {
  mean.value += one.value / static_cast<double>(gpus);
  mean.error += one.error / static_cast<double>(gpus);
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

CounterEstimate estimate_from(const Rows& rows, std::size_t kinds, double longest_run) {
  CounterEstimate result;
  result.ticks = rows.size();
  if (rows.size() < 2) return result;
  double energy = 0;
  double time = 0;
  for (const RefreshRow& row : rows) {
    energy += row.energy;
    time += row.span.length().value();
    result.waited += row.durations[kinds];
  }
  result.refresh = time / static_cast<double>(rows.size());
  const Blocks blocks = blocks_of(rows, longest_run);
  const auto all_but = [&blocks](std::size_t block) {
    return
        [&blocks, block](const RefreshRow& row) { return block == kKeepAll || blocks.of(row.span) != block; };
  };
  std::vector<double> begin(kinds + 2, energy / time);
  result.interpolated = with_errors(
      [&](std::size_t without) {
        std::vector<double> powers = begin;
        Solution solution = interpolate(rows, kinds, all_but(without), powers);
        if (without == kKeepAll) begin = powers;  // the others end close to it
        return solution;
      },
      blocks.count);
  const Rows windows = windows_of(rows, std::max(longest_run, kLeastRefreshes * result.refresh));
  result.regressed = with_errors(
      [&](std::size_t without) { return regress(windows, kinds, all_but(without)); }, blocks.count);
  return result;
}

}  // namespace

VisitEstimate estimate(const VisitRecord& record) {
  const std::vector<Span> left_out = spans_left_out(record);
  std::set<InstructionKind> present;
  std::map<InstructionKind, std::vector<double>> times;
  double longest_run = 0;
  for (const Run& run : record.runs) {
    if (run.span.length() <= Seconds(0)) continue;
    present.insert(run.kind);
    longest_run = std::max(longest_run, run.span.length().value());
    if (!overlaps(left_out, run.span)) times[run.kind].push_back(run.time().value());
  }
  VisitEstimate result;
  for (const auto& [kind, samples] : times) {
    result.kinds[kind].runs = samples.size();
    result.kinds[kind].time = mean_of(samples);
  }
  const std::vector<InstructionKind> kinds(present.begin(), present.end());
  const std::size_t gpus = record.counters.size();
  Estimate interpolated_blocking;
  Estimate regressed_blocking;
  double waited = 0;
  bool has_waited = gpus > 0;
  result.ticks = gpus > 0 ? SIZE_MAX : 0;
  for (const auto& readings : record.counters) {
    const CounterEstimate one =
        estimate_from(refresh_rows(record, kinds, readings, left_out), kinds.size(), longest_run);
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
