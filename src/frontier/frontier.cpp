#include "slackline/frontier/frontier.h"

#include <algorithm>
#include <cassert>
#include <utility>

namespace slackline {

Frontier::Frontier(std::vector<Breakpoint> breakpoints, Joules cheapest_cost, Watts blocking)
    : breakpoints_(std::move(breakpoints)), cheapest_cost_(cheapest_cost), blocking_(blocking) {
  assert(!breakpoints_.empty());
}

Ticks Frontier::least_energy_time() const {
  return std::min_element(
             breakpoints_.begin(), breakpoints_.end(),
             [&](const Breakpoint& a, const Breakpoint& b) { return energy(a.time) < energy(b.time); })
      ->time;
}

double Frontier::holding_loss(Ticks run, Ticks until) const {
  const Joules held = energy(run) + blocking_ * to_seconds(until - run);
  return held / energy(until) - 1;
}

Ticks Frontier::least_power_time() const {
  const auto power = [&](const Breakpoint& point) { return energy(point.time) / to_seconds(point.time); };
  return std::min_element(breakpoints_.begin(), breakpoints_.end(),
                          [&](const Breakpoint& a, const Breakpoint& b) { return power(a) < power(b); })
      ->time;
}

std::optional<Ticks> Frontier::fastest_within(Watts power) const {
  // Energy is convex in time, so that the average power falls up to its least and rises from there on.
  const auto is_within = [&](Ticks time) { return energy(time) <= power * to_seconds(time); };
  Ticks above = fastest();
  Ticks within = least_power_time();
  if (!is_within(within)) return std::nullopt;
  if (is_within(above)) return above;
  while (within - above > 1) {
    const Ticks middle = above + (within - above) / 2;
    (is_within(middle) ? within : above) = middle;
  }
  return within;
}

Joules Frontier::energy(Ticks time) const {
  const auto after = std::lower_bound(breakpoints_.begin(), breakpoints_.end(), time,
                                      [](const Breakpoint& point, Ticks t) { return point.time < t; });
  Cost cost = 0;
  if (after == breakpoints_.begin()) {
    cost = after->cost;
  } else if (after != breakpoints_.end()) {
    const Breakpoint& before = *(after - 1);
    const double part =
        static_cast<double>(time - before.time) / static_cast<double>(after->time - before.time);
    cost = before.cost - static_cast<Cost>(part * static_cast<double>(before.cost - after->cost));
  }
  return cheapest_cost_ + to_joules(cost) + blocking_ * to_seconds(time);
}

}  // namespace slackline
