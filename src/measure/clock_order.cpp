#include "slackline/measure/clock_order.h"

#include <algorithm>
#include <map>
#include <random>

namespace slackline {
namespace {

const Visit* visit_of(const StageRecording& stage, int round) {
  const auto found = std::ranges::find_if(
      stage.visits, [round](const Visit& visit) { return visit.round == round && !visit.is_wait; });
  return found == stage.visits.end() ? nullptr : &*found;
}

/// Rounds of the first pass that are in the recording: until a stage is at a clock for the second time.
int first_pass(const Recording& so_far) {
  const int done = rounds_done(so_far);
  for (int round = 1; round < done; ++round) {
    for (const StageRecording& stage : so_far.stages) {
      const Visit* const now = visit_of(stage, round);
      const Visit* const before = visit_of(stage, round - 1);
      if (now != nullptr && before != nullptr && now->clock == before->clock) return round;
    }
  }
  return done;
}

std::optional<double> blocking_watts(const StageRecording& stage) {
  double energy = 0;
  double time = 0;
  for (const Visit& visit : stage.visits) {
    if (!visit.estimate.interpolated_blocking) continue;
    time += visit.estimate.waited.value();
    energy += visit.estimate.interpolated_blocking->value * visit.estimate.waited.value();
  }
  return time > 0 ? std::optional(energy / time) : std::nullopt;
}

/// All instructions of the stage have become slower and dearer, clock after clock, for `rises` clocks.
bool has_risen(const StageRecording& stage, int rounds, int rises) {
  const double blocking = blocking_watts(stage).value_or(0);
  std::map<Task, int> in_a_row;
  const Visit* previous = nullptr;
  for (int round = 0; round < rounds; ++round) {
    const Visit* const visit = visit_of(stage, round);
    if (visit == nullptr) continue;
    for (const auto& [task, now] : visit->estimate.kinds) {
      if (is_fixed_time(task.kind)) continue;
      int& count = in_a_row[task];
      if (previous == nullptr || !previous->estimate.kinds.contains(task)) continue;
      const KindEstimate& before = previous->estimate.kinds.at(task);
      const auto cost = [&](const KindEstimate& k) { return k.interpolated.value - blocking * k.time.value; };
      const bool rose = now.time.value > before.time.value && cost(now) > cost(before);
      count = rose ? count + 1 : 0;
    }
    previous = visit;
  }
  return !in_a_row.empty() &&
         std::ranges::all_of(in_a_row, [rises](const auto& entry) { return entry.second >= rises; });
}

bool any_measured(const RoundClocks& clocks) {
  return std::ranges::any_of(clocks, [](Megahertz clock) { return clock != Megahertz(0); });
}

/// The next round of a first pass through all clocks.
RoundClocks next_of_all(const Recording& so_far, const ClockOrderOptions& options, int round) {
  RoundClocks clocks;
  for (const StageRecording& stage : so_far.stages) {
    const auto index = static_cast<std::size_t>(round);
    Megahertz clock;
    if (index < stage.clocks.size()) {
      std::vector<Megahertz> order = stage.clocks;
      if (options.is_random) {
        // Drawn by hand: what the standard's shuffle does is not the same everywhere.
        std::mt19937_64 dice(options.seed);
        for (std::size_t i = order.size(); i > 1; --i) std::swap(order[i - 1], order[dice() % i]);
      }
      const bool ends_early =
          !options.is_random && options.rises > 0 && has_risen(stage, round, options.rises);
      if (!ends_early) clock = order[index];
    }
    clocks.push_back(clock);
  }
  return clocks;
}

}  // namespace

int rounds_done(const Recording& so_far) {
  int done = 0;
  for (const StageRecording& stage : so_far.stages) {
    for (const Visit& visit : stage.visits) {
      if (!visit.is_wait) done = std::max(done, visit.round + 1);
    }
  }
  return done;
}

int most_rounds(const Recording& so_far, const ClockOrderOptions& options) {
  const int first = first_pass(so_far);
  if (first < rounds_done(so_far)) return 2 * first;
  std::size_t most = 0;
  for (const StageRecording& stage : so_far.stages) most = std::max(most, stage.clocks.size());
  if (options.budget) most = std::min(most, static_cast<std::size_t>(*options.budget));
  return static_cast<int>(most) * (options.revisits ? 2 : 1);
}

std::optional<RoundClocks> next_round(const Recording& so_far, const ClockOrderOptions& options) {
  const int done = rounds_done(so_far);
  const int first = first_pass(so_far);
  if (first == done) {
    const int most = most_rounds(so_far, options) / (options.revisits ? 2 : 1);
    std::optional<RoundClocks> next;
    if (done < most) next = options.budget ? options.choose(so_far) : next_of_all(so_far, options, done);
    if (next && any_measured(*next)) return next;
  }
  const int mirrored = 2 * first - 1 - done;
  if (!options.revisits || mirrored < 0) return std::nullopt;
  RoundClocks clocks;
  for (const StageRecording& stage : so_far.stages) {
    const Visit* const visit = visit_of(stage, mirrored);
    clocks.push_back(visit == nullptr ? Megahertz(0) : visit->clock);
  }
  return clocks;
}

}  // namespace slackline
