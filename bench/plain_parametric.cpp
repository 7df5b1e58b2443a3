#include "plain_parametric.h"

#include <algorithm>
#include <limits>

namespace slackline {
namespace {

/// Room that no flow uses up: what has more than half of it left has no limit.
constexpr Microwatts kUnlimited = std::numeric_limits<Microwatts>::max() / 2;

/// A direction of an arc, in which its flow can rise (forward) or fall (backward).
struct Direction {
  std::uint32_t arc = 0;
  bool forward = true;
};

class PlainSolver {
 public:
  explicit PlainSolver(const Problem& problem);
  std::vector<Breakpoint> run();

 private:
  [[nodiscard]] Ticks length(std::uint32_t arc) const { return pi_[arcs_[arc].head] - pi_[arcs_[arc].tail]; }
  [[nodiscard]] Ticks time() const { return pi_[problem_.sink()]; }
  [[nodiscard]] std::uint32_t begin(Direction d) const {
    return d.forward ? arcs_[d.arc].tail : arcs_[d.arc].head;
  }
  [[nodiscard]] std::uint32_t end(Direction d) const {
    return d.forward ? arcs_[d.arc].head : arcs_[d.arc].tail;
  }
  [[nodiscard]] bool sink_reached() const { return is_reached_[problem_.sink()]; }

  void start_at_the_cheapest();
  /// By how much the flow can change inside its interval.
  [[nodiscard]] Microwatts room(Direction d) const;
  void forget_search();
  void search();
  /// Of the path by which the sink was reached.
  [[nodiscard]] Microwatts bottleneck() const;
  void augment(Microwatts power);
  void move_cut();
  /// How far the cut can move before the arc is at an end of its interval.
  [[nodiscard]] Ticks distance(std::uint32_t arc) const;
  void record_breakpoint();

  const Problem& problem_;
  const std::vector<Arc>& arcs_;
  std::vector<std::vector<Direction>> directions_;  // per event, those that begin there

  std::vector<Ticks> pi_;              // per event
  std::vector<Microwatts> flow_;       // per arc
  std::vector<std::uint32_t> vertex_;  // per instruction: the largest j with times[j] <= window
  Microwatts price_ = 0;
  Cost cost_ = 0;

  std::vector<std::uint32_t> reached_;  // events, in the order in which they were
  std::vector<char> is_reached_;
  std::vector<Direction> reached_by_;
  std::vector<Breakpoint> breakpoints_;
};

PlainSolver::PlainSolver(const Problem& problem)
    : problem_(problem),
      arcs_(problem.arcs()),
      directions_(problem.events()),
      pi_(problem.events(), 0),
      flow_(arcs_.size(), 0),
      reached_by_(problem.events()) {
  for (std::uint32_t a = 0; a < arcs_.size(); ++a) {
    directions_[arcs_[a].tail].push_back({a, true});
    directions_[arcs_[a].head].push_back({a, false});
  }
}

std::vector<Breakpoint> PlainSolver::run() {
  start_at_the_cheapest();
  record_breakpoint();
  while (true) {
    forget_search();
    for (search(); !sink_reached(); search()) move_cut();
    record_breakpoint();
    const Microwatts power = bottleneck();
    if (power > kUnlimited / 2) break;
    augment(power);
  }
  std::reverse(breakpoints_.begin(), breakpoints_.end());
  return std::move(breakpoints_);
}

void PlainSolver::start_at_the_cheapest() {
  for (const std::uint32_t event : problem_.event_order()) {
    for (const Direction d : directions_[event]) {
      if (!d.forward) continue;
      const bool runs = problem_.is_instruction(d.arc);
      const Ticks least = runs ? problem_.curve(d.arc).times.back() : arcs_[d.arc].lag;
      pi_[end(d)] = std::max(pi_[end(d)], pi_[event] + least);
    }
  }
  for (std::uint32_t i = 0; i < problem_.instructions(); ++i) {
    vertex_.push_back(static_cast<std::uint32_t>(problem_.curve(i).last()));
  }
}

Microwatts PlainSolver::room(Direction d) const {
  const Microwatts flow = flow_[d.arc];
  if (!problem_.is_instruction(d.arc)) {
    if (!d.forward) return flow;
    return length(d.arc) == arcs_[d.arc].lag ? kUnlimited : 0;
  }
  const LinearCurve& curve = problem_.curve(d.arc);
  const std::uint32_t j = vertex_[d.arc];
  if (length(d.arc) != curve.times[j]) return 0;
  if (!d.forward) return flow - curve.slope(j + 1);
  return j == 0 ? kUnlimited : curve.slope(j) - flow;
}

void PlainSolver::forget_search() {
  reached_.assign(1, problem_.source());
  is_reached_.assign(problem_.events(), false);
  is_reached_[problem_.source()] = true;
}

/// What was reached before a move still is, but more may open from any of it.
void PlainSolver::search() {
  for (std::size_t k = 0; k < reached_.size() && !sink_reached(); ++k) {
    for (const Direction d : directions_[reached_[k]]) {
      const std::uint32_t event = end(d);
      if (is_reached_[event] || room(d) == 0) continue;
      is_reached_[event] = true;
      reached_by_[event] = d;
      reached_.push_back(event);
    }
  }
}

Microwatts PlainSolver::bottleneck() const {
  Microwatts least = kUnlimited;
  for (std::uint32_t event = problem_.sink(); event != problem_.source(); event = begin(reached_by_[event])) {
    least = std::min(least, room(reached_by_[event]));
  }
  return least;
}

void PlainSolver::augment(Microwatts power) {
  for (std::uint32_t event = problem_.sink(); event != problem_.source(); event = begin(reached_by_[event])) {
    const Direction d = reached_by_[event];
    flow_[d.arc] += d.forward ? power : -power;
  }
  price_ += power;
}

void PlainSolver::move_cut() {
  Ticks step = std::numeric_limits<Ticks>::max();
  for (std::uint32_t a = 0; a < arcs_.size(); ++a) step = std::min(step, distance(a));
  for (std::uint32_t event = 0; event < problem_.events(); ++event) {
    if (!is_reached_[event]) pi_[event] -= step;
  }
  for (std::uint32_t i = 0; i < problem_.instructions(); ++i) {
    const LinearCurve& curve = problem_.curve(i);
    std::uint32_t& j = vertex_[i];
    if (length(i) < curve.times[j]) {
      --j;
    } else if (j < curve.last() && length(i) == curve.times[j + 1]) {
      ++j;
    }
  }
  cost_ += static_cast<Cost>(price_) * step;
}

Ticks PlainSolver::distance(std::uint32_t arc) const {
  constexpr Ticks kEndless = std::numeric_limits<Ticks>::max();
  const bool shrinks = is_reached_[arcs_[arc].tail];
  if (shrinks == static_cast<bool>(is_reached_[arcs_[arc].head])) return kEndless;
  if (!problem_.is_instruction(arc)) return shrinks ? length(arc) - arcs_[arc].lag : kEndless;
  const LinearCurve& curve = problem_.curve(arc);
  const std::uint32_t j = vertex_[arc];
  if (!shrinks) return j < curve.last() ? curve.times[j + 1] - length(arc) : kEndless;
  return length(arc) - curve.times[length(arc) == curve.times[j] ? j - 1 : j];
}

/// Where the price of time is about to rise.
void PlainSolver::record_breakpoint() {
  if (!breakpoints_.empty() && breakpoints_.back().time == time()) return;
  breakpoints_.push_back({time(), cost_});
}

}  // namespace

std::vector<Breakpoint> plain_parametric(const Problem& problem) {
  return PlainSolver(problem).run();
}

}  // namespace slackline
