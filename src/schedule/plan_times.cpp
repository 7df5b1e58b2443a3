#include "slackline/schedule/plan_times.h"

#include <algorithm>

namespace slackline {
namespace {

/// Both ends and `kept`, those within the frontier, each once.
std::vector<Ticks> corners(const Frontier& frontier, const std::vector<Ticks>& kept) {
  std::vector<Ticks> times{frontier.fastest(), frontier.slowest()};
  for (const Ticks time : kept) times.push_back(std::clamp(time, frontier.fastest(), frontier.slowest()));
  std::sort(times.begin(), times.end());
  times.erase(std::unique(times.begin(), times.end()), times.end());
  return times;
}

/// The last time until which running at `run` and waiting loses at most `loss`; `end` if it is that far.
Ticks hold_until(const Frontier& frontier, Ticks run, Ticks end, double loss) {
  const auto loses_too_much = [&](Ticks until) { return frontier.holding_loss(run, until) > loss; };
  if (!loses_too_much(end)) return end;
  Ticks low = run;
  Ticks high = end;
  const auto& points = frontier.breakpoints();
  auto point = std::upper_bound(points.begin(), points.end(), run,
                                [](Ticks time, const Breakpoint& p) { return time < p.time; });
  for (; point != points.end() && point->time < end; ++point) {
    if (loses_too_much(point->time)) {
      high = point->time;
      break;
    }
    low = point->time;
  }
  while (high - low > 1) {
    const Ticks middle = low + (high - low) / 2;
    (loses_too_much(middle) ? high : low) = middle;
  }
  return std::max(low, run + 1);
}

}  // namespace

std::vector<Ticks> times_within(const Frontier& frontier, const std::vector<Ticks>& kept, double loss) {
  std::vector<Ticks> times;
  Ticks run = frontier.fastest();
  for (const Ticks corner : corners(frontier, kept)) {
    while (run < corner) {
      run = hold_until(frontier, run, corner, loss);
      if (run < corner) times.push_back(run);
    }
    times.push_back(corner);
  }
  return times;
}

std::vector<Ticks> spread_times(const Frontier& frontier, const std::vector<Ticks>& kept, std::size_t count) {
  const std::size_t most = std::max(count, corners(frontier, kept).size());
  double too_small = 0;
  double enough = frontier.holding_loss(frontier.fastest(), frontier.slowest());
  std::vector<Ticks> best = times_within(frontier, kept, enough);
  constexpr int kHalvings = 30;
  for (int i = 0; i < kHalvings; ++i) {
    const double loss = (too_small + enough) / 2;
    std::vector<Ticks> times = times_within(frontier, kept, loss);
    if (times.size() <= most) {
      enough = loss;
      best = std::move(times);
    } else {
      too_small = loss;
    }
  }
  return best;
}

}  // namespace slackline
