#include "slackline/frontier/parametric_solver.h"

#include <algorithm>
#include <cassert>
#include <limits>
#include <numeric>

namespace slackline {
namespace {

constexpr Microwatts kUnlimited = std::numeric_limits<Microwatts>::max() / 4;

/// An arc as seen from one of its ends: bit 0 tells whether it is walked against its direction.
class HalfArc {
 public:
  HalfArc() = default;
  HalfArc(std::uint32_t arc, bool backward) : code_(2 * arc + (backward ? 1 : 0)) {}
  [[nodiscard]] std::uint32_t arc() const { return code_ >> 1; }
  [[nodiscard]] bool backward() const { return (code_ & 1) != 0; }

 private:
  std::uint32_t code_ = 0;
};

class ParametricSolver {
 public:
  ParametricSolver(const Problem& problem, const std::vector<Ticks>& targets,
                   const ProgressObserver& observer);
  ParametricResult run();

 private:
  [[nodiscard]] Ticks event_time(std::uint32_t event) const { return pi_[event] - (found(event) ? 0 : lag_); }
  [[nodiscard]] Ticks length(std::uint32_t arc) const {
    return event_time(arcs_[arc].head) - event_time(arcs_[arc].tail);
  }
  [[nodiscard]] Ticks time() const { return event_time(problem_.sink()); }

  void start_at_the_cheapest();
  /// Records the optimum at every target above `limit`, all of which the coming move of the cut passes.
  void answer_targets_down_to(Ticks limit);

  /// Largest vertex at or below the window moves with the window.
  void follow_window(std::uint32_t instruction);
  [[nodiscard]] Microwatts room(HalfArc half) const;
  [[nodiscard]] Microwatts room_up(std::uint32_t arc) const;
  [[nodiscard]] Microwatts room_down(std::uint32_t arc) const;

  void restart_search();
  void find(std::uint32_t event, HalfArc from);
  [[nodiscard]] bool found(std::uint32_t event) const { return found_[event] != 0; }
  /// Breadth first until the sink or the end.
  bool search_reaches_sink();
  /// False: the bottleneck is unlimited, so the time cannot fall further.
  bool augment();
  void move_cut();
  /// Drops arcs whose ends have both been found.
  void prune_crossing();
  [[nodiscard]] Ticks largest_step() const;
  void record_breakpoint();

  const Problem& problem_;
  const std::vector<Arc>& arcs_;
  const ProgressObserver& observer_;
  std::vector<std::uint32_t> half_begin_;  // per event, into halves_
  std::vector<HalfArc> halves_;

  std::vector<Ticks> pi_;  // of events not found yet, `lag_` later than they are
  Ticks lag_ = 0;          // sum of the steps since the search began: a move costs nothing an event
  std::vector<Microwatts> flow_;
  std::vector<std::uint32_t> vertex_;  // per instruction: largest j with times[j] <= window
  Cost cost_ = 0;
  Microwatts price_ = 0;

  std::vector<char> found_;
  std::vector<HalfArc> found_by_;
  std::vector<std::uint32_t> queue_;
  std::size_t queue_next_ = 0;
  std::vector<HalfArc>
      crossing_;  // from found events; holds every arc of the cut once the search is exhausted

  const std::vector<Ticks>& targets_;
  std::vector<std::size_t> pending_;  // targets from the smallest to the largest; the next one is at the back
  Ticks slowest_ = 0;
  Ticks floor_ = 0;  // longest path of the fastest options
  ParametricResult result_;
};

ParametricSolver::ParametricSolver(const Problem& problem, const std::vector<Ticks>& targets,
                                   const ProgressObserver& observer)
    : problem_(problem), arcs_(problem.arcs()), observer_(observer), targets_(targets) {
  half_begin_.assign(problem.events() + 1, 0);
  for (const Arc& arc : arcs_) ++half_begin_[arc.tail + 1], ++half_begin_[arc.head + 1];
  std::partial_sum(half_begin_.begin(), half_begin_.end(), half_begin_.begin());
  halves_.resize(2 * arcs_.size());
  std::vector<std::uint32_t> next = half_begin_;
  for (std::uint32_t a = 0; a < arcs_.size(); ++a) {
    halves_[next[arcs_[a].tail]++] = HalfArc(a, false);
    halves_[next[arcs_[a].head]++] = HalfArc(a, true);
  }
  pending_.resize(targets.size());
  std::iota(pending_.begin(), pending_.end(), std::size_t{0});
  std::stable_sort(pending_.begin(), pending_.end(),
                   [&](std::size_t a, std::size_t b) { return targets[a] < targets[b]; });
  result_.optima.resize(targets.size());
}

ParametricResult ParametricSolver::run() {
  start_at_the_cheapest();
  record_breakpoint();
  restart_search();
  while (true) {
    if (search_reaches_sink()) {
      if (!augment()) break;
      restart_search();
    } else {
      move_cut();
    }
  }
  record_breakpoint();
  answer_targets_down_to(std::numeric_limits<Ticks>::min());
  std::reverse(result_.breakpoints.begin(), result_.breakpoints.end());
  return std::move(result_);
}

void ParametricSolver::start_at_the_cheapest() {
  pi_.assign(problem_.events(), 0);
  found_.resize(problem_.events());
  found_by_.resize(problem_.events());
  std::vector<Ticks> fastest(problem_.events(), 0);
  for (const std::uint32_t event : problem_.event_order()) {
    for (std::uint32_t h = half_begin_[event]; h < half_begin_[event + 1]; ++h) {
      if (halves_[h].backward()) continue;
      const std::uint32_t a = halves_[h].arc();
      const std::uint32_t head = arcs_[a].head;
      const bool runs = problem_.is_instruction(a);
      const Ticks lag = arcs_[a].lag;
      pi_[head] = std::max(pi_[head], pi_[event] + (runs ? problem_.curve(a).times.back() : lag));
      fastest[head] =
          std::max(fastest[head], fastest[event] + (runs ? problem_.curve(a).times.front() : lag));
    }
  }
  slowest_ = time();
  floor_ = fastest[problem_.sink()];
  flow_.assign(arcs_.size(), 0);
  vertex_.resize(problem_.instructions());
  for (std::uint32_t i = 0; i < problem_.instructions(); ++i) {
    vertex_[i] = static_cast<std::uint32_t>(problem_.curve(i).last());
  }
}

void ParametricSolver::answer_targets_down_to(Ticks limit) {
  while (!pending_.empty() && targets_[pending_.back()] > limit) {
    Optimum& optimum = result_.optima[pending_.back()];
    optimum.flow = flow_;
    optimum.event_times.resize(problem_.events());
    const bool is_last = limit == std::numeric_limits<Ticks>::min();
    const Ticks back = is_last ? 0 : std::max<Ticks>(0, time() - targets_[pending_.back()]);
    for (std::uint32_t event = 0; event < problem_.events(); ++event) {
      optimum.event_times[event] = event_time(event) - (found(event) ? 0 : back);
    }
    pending_.pop_back();
  }
}

void ParametricSolver::follow_window(std::uint32_t instruction) {
  const LinearCurve& curve = problem_.curve(instruction);
  const Ticks window = length(instruction);
  std::uint32_t& j = vertex_[instruction];
  while (j > 0 && curve.times[j] > window) --j;
  while (j < curve.last() && curve.times[j + 1] <= window) ++j;
}

Microwatts ParametricSolver::room_up(std::uint32_t arc) const {
  const Ticks y = length(arc);
  if (!problem_.is_instruction(arc)) return y == arcs_[arc].lag ? kUnlimited : 0;
  const LinearCurve& curve = problem_.curve(arc);
  const std::uint32_t j = vertex_[arc];
  if (curve.times[j] != y) return 0;
  return j == 0 ? kUnlimited : curve.slope(j) - flow_[arc];
}

Microwatts ParametricSolver::room_down(std::uint32_t arc) const {
  const Ticks y = length(arc);
  if (!problem_.is_instruction(arc)) return y == arcs_[arc].lag ? flow_[arc] : 0;
  const LinearCurve& curve = problem_.curve(arc);
  const std::uint32_t j = vertex_[arc];
  return curve.times[j] == y ? flow_[arc] - curve.slope(j + 1) : 0;
}

Microwatts ParametricSolver::room(HalfArc half) const {
  return half.backward() ? room_down(half.arc()) : room_up(half.arc());
}

void ParametricSolver::restart_search() {
  if (lag_ != 0) {
    for (std::uint32_t event = 0; event < problem_.events(); ++event) pi_[event] = event_time(event);
    lag_ = 0;
  }
  std::fill(found_.begin(), found_.end(), 0);
  queue_.clear();
  queue_next_ = 0;
  crossing_.clear();
  found_[problem_.source()] = 1;
  queue_.push_back(problem_.source());
}

void ParametricSolver::find(std::uint32_t event, HalfArc from) {
  pi_[event] = event_time(event);
  found_[event] = 1;
  found_by_[event] = from;
  queue_.push_back(event);
}

bool ParametricSolver::search_reaches_sink() {
  while (queue_next_ < queue_.size()) {
    if (found(problem_.sink())) return true;
    const std::uint32_t event = queue_[queue_next_++];
    for (std::uint32_t h = half_begin_[event]; h < half_begin_[event + 1]; ++h) {
      const HalfArc half = halves_[h];
      const std::uint32_t other = half.backward() ? arcs_[half.arc()].tail : arcs_[half.arc()].head;
      if (found(other)) continue;
      if (room(half) > 0) {
        find(other, half);
      } else {
        crossing_.push_back(half);
      }
    }
  }
  return found(problem_.sink());
}

bool ParametricSolver::augment() {
  Microwatts bottleneck = kUnlimited;
  const auto walk_back = [&](auto visit) {
    for (std::uint32_t event = problem_.sink(); event != problem_.source();) {
      const HalfArc half = found_by_[event];
      visit(half);
      event = half.backward() ? arcs_[half.arc()].head : arcs_[half.arc()].tail;
    }
  };
  walk_back([&](HalfArc half) { bottleneck = std::min(bottleneck, room(half)); });
  if (bottleneck >= kUnlimited) return false;
  assert(bottleneck > 0);
  walk_back([&](HalfArc half) { flow_[half.arc()] += half.backward() ? -bottleneck : bottleneck; });
  // The slope of the frontier changes only where it was at a standstill since the last corner.
  if (result_.breakpoints.back().time != time()) record_breakpoint();
  price_ += bottleneck;
  ++result_.stats.augmentations;
  return true;
}

void ParametricSolver::prune_crossing() {
  std::erase_if(crossing_, [&](HalfArc half) {
    const Arc& arc = arcs_[half.arc()];
    return found(arc.tail) && found(arc.head);
  });
}

Ticks ParametricSolver::largest_step() const {
  Ticks step = std::numeric_limits<Ticks>::max();
  for (const HalfArc half : crossing_) {
    const std::uint32_t a = half.arc();
    const Ticks y = length(a);
    if (!problem_.is_instruction(a)) {
      if (!half.backward()) step = std::min(step, y - arcs_[a].lag);
      continue;
    }
    const LinearCurve& curve = problem_.curve(a);
    const std::uint32_t j = vertex_[a];
    if (!half.backward()) {  // shrinks
      const Ticks below = y > curve.times[j] ? curve.times[j] : curve.times[j - 1];
      step = std::min(step, y - below);
    } else if (j < curve.last()) {  // grows
      step = std::min(step, curve.times[j + 1] - y);
    }
  }
  return step;
}

void ParametricSolver::move_cut() {
  prune_crossing();
  const Ticks step = largest_step();
  assert(step > 0 && step <= time() && "the sink lies beyond the cut, at a positive distance");
  answer_targets_down_to(time() - step);
  lag_ += step;
  cost_ += static_cast<Cost>(price_) * step;
  ++result_.stats.moves;
  for (const HalfArc half : crossing_) {
    if (problem_.is_instruction(half.arc())) follow_window(half.arc());
  }
  // I4: what was found stays found; only arcs over the cut can have opened.
  for (const HalfArc half : crossing_) {
    const std::uint32_t other = half.backward() ? arcs_[half.arc()].tail : arcs_[half.arc()].head;
    if (!found(other) && room(half) > 0) find(other, half);
  }
  if (observer_ && slowest_ > floor_ && result_.stats.moves % 64 == 0) {
    observer_(static_cast<double>(slowest_ - time()) / static_cast<double>(slowest_ - floor_));
  }
}

void ParametricSolver::record_breakpoint() {
  if (!result_.breakpoints.empty() && result_.breakpoints.back().time == time()) return;
  result_.breakpoints.push_back({time(), cost_});
}

}  // namespace

ParametricResult solve_parametric(const Problem& problem, const std::vector<Ticks>& targets,
                                  const ProgressObserver& observer) {
  return ParametricSolver(problem, targets, observer).run();
}

}  // namespace slackline
