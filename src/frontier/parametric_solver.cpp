#include "slackline/frontier/parametric_solver.h"

#include <algorithm>
#include <array>
#include <cassert>
#include <limits>
#include <numeric>
#include <optional>

#include "event_graph.h"
#include "two_trees.h"

namespace slackline {
namespace {

/// Room that no flow uses up: what has more than half of it left has no limit.
constexpr Microwatts kUnlimited = std::numeric_limits<Microwatts>::max() / 2;
constexpr Ticks kNever = -1;

class ParametricSolver {
 public:
  ParametricSolver(const Problem& problem, const std::vector<Ticks>& targets,
                   const ProgressObserver& observer);
  ParametricResult run();

 private:
  [[nodiscard]] Ticks event_time(Event event) const { return pi_[event] + shift_[trees_.label(event)]; }
  [[nodiscard]] Ticks length(std::uint32_t arc) const {
    return event_time(arcs_[arc].head) - event_time(arcs_[arc].tail);
  }
  [[nodiscard]] Ticks time() const { return event_time(problem_.sink()); }
  [[nodiscard]] Microwatts flow(std::uint32_t arc) const;

  void start_at_the_cheapest();
  /// Events as early as they can be if instruction i takes `duration(curve of i)`.
  template <typename Duration>
  [[nodiscard]] std::vector<Ticks> earliest_times(const Duration& duration) const;
  [[nodiscard]] Microwatts room_without_flow(std::uint32_t arc);
  /// Records the optimum at every target above `limit`, all of which the coming move of the cut passes.
  void answer_targets_down_to(Ticks limit);

  /// From the source's tree to the sink's.
  [[nodiscard]] bool crosses(HalfArc half) const {
    return trees_.with_source(graph_.begin(half)) && !trees_.with_source(graph_.end(half));
  }
  [[nodiscard]] bool open(HalfArc half) const { return room_[half.index()] > 0; }

  /// Takes every open half-arc off the cut. False: a path is unlimited, so the time cannot fall further.
  bool close_cut();
  /// The event nearest to `event` on its way to the sink whose next half-arc is full, if any.
  [[nodiscard]] std::optional<Event> first_full(Event event) const;
  /// The bottleneck of the path from the source over `half` to the sink.
  [[nodiscard]] Microwatts bottleneck(HalfArc half) const;
  void augment(HalfArc half, Microwatts power);
  void push(HalfArc half, Microwatts power);
  void transfer(Event root, HalfArc to_parent);

  void move_cut();
  /// For a half-arc that crosses the cut from the coming move on: notes when it arrives, if it does.
  void schedule(HalfArc half);
  void set_due(HalfArc half, Ticks moved);
  /// Drops what crosses no more.
  [[nodiscard]] Ticks earliest_arrival();
  void arrive_all_due();
  /// A window shrinks to its next vertex, or grows to it, or a precedence arc becomes tight.
  void arrive(HalfArc half);
  void record_breakpoint();
  void report_progress() const;

  const Problem& problem_;
  const std::vector<Arc>& arcs_;
  const ProgressObserver& observer_;
  const EventGraph graph_;
  TwoTrees trees_;

  std::vector<Ticks> pi_;  // less the shift of the event's label: a move costs nothing an event
  std::array<Ticks, 2> shift_{};
  // Per instruction: the largest j with times[j] <= window; of a window about to shrink, as it is thereafter.
  std::vector<std::uint32_t> vertex_;
  std::vector<Microwatts> room_;  // per half-arc: by how much the flow may change in its direction
  Cost cost_ = 0;
  Microwatts price_ = 0;

  // Half-arcs that may cross the cut. Each that does is in `fresh_` if it did not at the last move or arrived
  // in it; otherwise, unless it never arrives, it is in `cut_`.
  std::vector<HalfArc> fresh_;
  std::vector<HalfArc> cut_;
  std::vector<Ticks> due_;  // per half-arc: the `moved_` at which it arrives; kNever if it is not in `cut_`
  Ticks moved_ = 0;         // sum of the steps

  const std::vector<Ticks>& targets_;
  std::vector<std::size_t> pending_;  // targets from the smallest to the largest; the next one is at the back
  Ticks slowest_ = 0;
  Ticks floor_ = 0;  // longest path of the fastest options
  ParametricResult result_;
};

ParametricSolver::ParametricSolver(const Problem& problem, const std::vector<Ticks>& targets,
                                   const ProgressObserver& observer)
    : problem_(problem),
      arcs_(problem.arcs()),
      observer_(observer),
      graph_(problem),
      trees_(graph_, problem.source(), problem.sink()),
      room_(graph_.half_arcs(), 0),
      due_(graph_.half_arcs(), kNever),
      targets_(targets),
      pending_(targets.size()) {
  std::iota(pending_.begin(), pending_.end(), std::size_t{0});
  std::stable_sort(pending_.begin(), pending_.end(),
                   [&](std::size_t a, std::size_t b) { return targets[a] < targets[b]; });
  result_.optima.resize(targets.size());
}

ParametricResult ParametricSolver::run() {
  start_at_the_cheapest();
  record_breakpoint();
  while (close_cut()) move_cut();
  record_breakpoint();
  answer_targets_down_to(std::numeric_limits<Ticks>::min());
  std::reverse(result_.breakpoints.begin(), result_.breakpoints.end());
  return std::move(result_);
}

void ParametricSolver::start_at_the_cheapest() {
  pi_ = earliest_times([](const LinearCurve& curve) { return curve.times.back(); });
  slowest_ = time();
  floor_ = earliest_times([](const LinearCurve& curve) { return curve.times.front(); })[problem_.sink()];
  vertex_.resize(problem_.instructions());
  for (std::uint32_t i = 0; i < problem_.instructions(); ++i) {
    vertex_[i] = static_cast<std::uint32_t>(problem_.curve(i).last());
  }
  // The tree of the longest paths from the source; every event but the source ends a tight arc.
  for (std::uint32_t a = 0; a < arcs_.size(); ++a) {
    const HalfArc forward(a, false);
    room_[forward.index()] = room_without_flow(a);
    if (arcs_[a].head == problem_.sink()) {
      fresh_.push_back(forward);
    } else if (open(forward)) {
      trees_.hang(arcs_[a].head, forward.twin());
    }
  }
}

template <typename Duration>
std::vector<Ticks> ParametricSolver::earliest_times(const Duration& duration) const {
  std::vector<Ticks> times(problem_.events(), 0);
  for (const Event event : problem_.event_order()) {
    for (const auto& [head, half] : graph_.links(event)) {
      if (half.backward()) continue;
      const std::uint32_t a = half.arc();
      const Ticks least = problem_.is_instruction(a) ? duration(problem_.curve(a)) : arcs_[a].lag;
      times[head] = std::max(times[head], times[event] + least);
    }
  }
  return times;
}

Microwatts ParametricSolver::room_without_flow(std::uint32_t arc) {
  if (!problem_.is_instruction(arc)) return length(arc) == arcs_[arc].lag ? kUnlimited : 0;
  const LinearCurve& curve = problem_.curve(arc);
  if (length(arc) > curve.times.back()) return 0;
  return curve.last() == 0 ? kUnlimited : curve.slope(curve.last());
}

Microwatts ParametricSolver::flow(std::uint32_t arc) const {
  const Microwatts above_least = room_[HalfArc(arc, true).index()];
  if (!problem_.is_instruction(arc)) return above_least;
  return above_least + problem_.curve(arc).slope(vertex_[arc] + 1);
}

void ParametricSolver::answer_targets_down_to(Ticks limit) {
  while (!pending_.empty() && targets_[pending_.back()] > limit) {
    Optimum& optimum = result_.optima[pending_.back()];
    optimum.flow.resize(arcs_.size());
    for (std::uint32_t a = 0; a < arcs_.size(); ++a) optimum.flow[a] = flow(a);
    optimum.event_times.resize(problem_.events());
    const bool is_last = limit == std::numeric_limits<Ticks>::min();
    const Ticks back = is_last ? 0 : std::max<Ticks>(0, time() - targets_[pending_.back()]);
    for (Event event = 0; event < problem_.events(); ++event) {
      optimum.event_times[event] = event_time(event) - (trees_.with_source(event) ? 0 : back);
    }
    pending_.pop_back();
  }
}

bool ParametricSolver::close_cut() {
  for (std::size_t k = 0; k < fresh_.size(); ++k) {  // a transfer appends to it
    const HalfArc half = fresh_[k];
    if (!open(half) || !crosses(half)) continue;
    if (const auto last = first_full(graph_.end(half))) {
      transfer(*last, half.twin());
      continue;
    }
    const Microwatts power = bottleneck(half);
    if (power > kUnlimited / 2) return false;
    augment(half, power);
  }
  return true;
}

std::optional<Event> ParametricSolver::first_full(Event event) const {
  for (; event != problem_.sink(); event = trees_.parent(event)) {
    if (!open(trees_.to_parent(event))) return event;
  }
  return std::nullopt;
}

Microwatts ParametricSolver::bottleneck(HalfArc half) const {
  Microwatts least = room_[half.index()];
  for (Event event = graph_.begin(half); event != problem_.source(); event = trees_.parent(event)) {
    least = std::min(least, room_[trees_.to_parent(event).twin().index()]);
  }
  for (Event event = graph_.end(half); event != problem_.sink(); event = trees_.parent(event)) {
    least = std::min(least, room_[trees_.to_parent(event).index()]);
  }
  return least;
}

void ParametricSolver::augment(HalfArc half, Microwatts power) {
  assert(power > 0);
  // The slope of the frontier changes only where it was at a standstill since the last corner.
  if (result_.breakpoints.back().time != time()) record_breakpoint();
  price_ += power;
  ++result_.stats.augmentations;

  std::optional<Event> nearest_to_source;
  for (Event event = graph_.begin(half); event != problem_.source(); event = trees_.parent(event)) {
    const HalfArc into = trees_.to_parent(event).twin();
    push(into, power);
    if (!open(into)) nearest_to_source = event;
  }
  push(half, power);
  for (Event event = graph_.end(half); event != problem_.sink(); event = trees_.parent(event)) {
    push(trees_.to_parent(event), power);
  }
  if (nearest_to_source) {
    transfer(*nearest_to_source, half);
  } else if (open(half)) {
    transfer(*first_full(graph_.end(half)), half.twin());
  }
}

void ParametricSolver::push(HalfArc half, Microwatts power) {
  room_[half.index()] -= power;
  room_[half.twin().index()] += power;
}

void ParametricSolver::transfer(Event root, HalfArc to_parent) {
  const auto relabelled = trees_.transfer(root, to_parent);
  for (const Event event : relabelled) {
    const std::uint8_t label = trees_.label(event);
    pi_[event] += shift_[1 - label] - shift_[label];
    for (const auto& [other, half] : graph_.links(event)) {
      if (trees_.label(other) == label) continue;
      fresh_.push_back(trees_.with_source(event) ? half : half.twin());
    }
  }
}

void ParametricSolver::move_cut() {
  for (const HalfArc half : fresh_) {
    if (crosses(half)) schedule(half);
  }
  fresh_.clear();
  const Ticks step = earliest_arrival() - moved_;
  assert(step > 0 && step <= time() && "the sink lies beyond the cut, at a positive distance");
  answer_targets_down_to(time() - step);
  moved_ += step;
  shift_[trees_.label(problem_.sink())] -= step;
  cost_ += static_cast<Cost>(price_) * step;
  ++result_.stats.moves;
  arrive_all_due();
  report_progress();
}

void ParametricSolver::schedule(HalfArc half) {
  const std::uint32_t a = half.arc();
  const Ticks y = length(a);
  // From now on the arc is between two vertices, or not tight.
  room_[half.index()] = room_[half.twin().index()] = 0;
  if (!problem_.is_instruction(a)) {
    if (!half.backward()) set_due(half, moved_ + y - arcs_[a].lag);
    return;
  }
  const LinearCurve& curve = problem_.curve(a);
  std::uint32_t& j = vertex_[a];
  if (half.backward()) {
    if (j < curve.last()) set_due(half, moved_ + curve.times[j + 1] - y);
  } else {
    if (y == curve.times[j]) --j;
    set_due(half, moved_ + y - curve.times[j]);
  }
}

void ParametricSolver::set_due(HalfArc half, Ticks moved) {
  Ticks& due = due_[half.index()];
  if (due == kNever) cut_.push_back(half);
  due = moved;
}

Ticks ParametricSolver::earliest_arrival() {
  Ticks earliest = std::numeric_limits<Ticks>::max();
  std::erase_if(cut_, [&](HalfArc half) {
    Ticks& due = due_[half.index()];
    if (!crosses(half)) due = kNever;
    if (due == kNever) return true;
    earliest = std::min(earliest, due);
    return false;
  });
  return earliest;
}

void ParametricSolver::arrive_all_due() {
  std::erase_if(cut_, [&](HalfArc half) {
    Ticks& due = due_[half.index()];
    if (due != moved_) return false;
    due = kNever;
    arrive(half);
    return true;
  });
}

void ParametricSolver::arrive(HalfArc half) {
  fresh_.push_back(half);
  if (!problem_.is_instruction(half.arc())) {
    room_[half.index()] = kUnlimited;
    return;
  }
  const LinearCurve& curve = problem_.curve(half.arc());
  std::uint32_t& j = vertex_[half.arc()];
  if (half.backward()) ++j;
  room_[half.index()] = j == 0 ? kUnlimited : curve.slope(j) - curve.slope(j + 1);
}

void ParametricSolver::record_breakpoint() {
  if (!result_.breakpoints.empty() && result_.breakpoints.back().time == time()) return;
  result_.breakpoints.push_back({time(), cost_});
}

void ParametricSolver::report_progress() const {
  if (!observer_ || slowest_ <= floor_ || result_.stats.moves % 64 != 0) return;
  observer_(static_cast<double>(slowest_ - time()) / static_cast<double>(slowest_ - floor_));
}

}  // namespace

ParametricResult solve_parametric(const Problem& problem, const std::vector<Ticks>& targets,
                                  const ProgressObserver& observer) {
  return ParametricSolver(problem, targets, observer).run();
}

}  // namespace slackline
