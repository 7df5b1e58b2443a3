#include "slackline/schedule/clock_search.h"

#include <algorithm>
#include <cassert>
#include <queue>
#include <utility>

#include "rank_pairs.h"
#include "slackline/pipeline/event_times.h"

namespace slackline {
namespace {

/// Work that one search may spend on exchanges, in visits of an instruction. Bounds the time on large
/// pipelines without a clock, so that the same input gives the same bytes.
constexpr std::int64_t kExchangeVisits = 20'000;

/// Where the first start leads to a gap above this part of the bound, others are tried: now and then one lies
/// in a corner that exchanges do not leave.
constexpr double kSatisfyingGap = 0.0025;
constexpr std::size_t kMostFaster = 3;

/// An option for every instruction, with the event times kept current as options change.
class Assignment {
 public:
  Assignment(const Workload& workload, Ticks deadline, std::vector<std::size_t> choice)
      : workload_(&workload), dag_(&workload.dag()), deadline_(deadline), choice_(std::move(choice)) {
    duration_.resize(dag_->size());
    for (InstructionIndex i = 0; i < dag_->size(); ++i) duration_[i] = option(i).time;
    times_ = event_times(*dag_, duration_, deadline_);
    for (InstructionIndex i = 0; i < dag_->size(); ++i) cost_ += option(i).cost;
    rank_.resize(dag_->size());
    for (std::uint32_t r = 0; r < dag_->size(); ++r) rank_[dag_->topological_order()[r]] = r;
    queued_.assign(dag_->size(), 0);
  }

  [[nodiscard]] const CurveOption& option(InstructionIndex i) const {
    return workload_->curve(i).options[choice_[i]];
  }
  [[nodiscard]] std::size_t choice(InstructionIndex i) const { return choice_[i]; }
  [[nodiscard]] Joules cost() const { return cost_; }
  [[nodiscard]] bool meets_deadline() const { return times_.makespan <= deadline_; }
  [[nodiscard]] std::int64_t visits() const { return visits_; }
  [[nodiscard]] Ticks slack(InstructionIndex i) const { return times_.slack(i, duration_[i]); }

  /// What the instruction would save at the slowest option that fits its slack, and that option.
  [[nodiscard]] std::pair<Joules, std::size_t> best_saving(InstructionIndex i) const {
    const std::size_t slower =
        workload_->curve(i).slowest_within(duration_[i] + std::max<Ticks>(0, slack(i)));
    return {option(i).cost - workload_->curve(i).options[slower].cost, slower};
  }

  /// Changes one option and everything that depends on it. Instructions whose slack may have changed are
  /// appended to `touched`, if given.
  void choose(InstructionIndex i, std::size_t choice, std::vector<InstructionIndex>* touched = nullptr) {
    cost_ -= option(i).cost;
    choice_[i] = choice;
    cost_ += option(i).cost;
    duration_[i] = option(i).time;
    if (touched != nullptr) touched->push_back(i);
    propagate<true>(i, touched);
    propagate<false>(i, touched);
  }

 private:
  /// Recomputes earliest starts (or latest ends) behind `from` in topological order, as far as they change.
  template <bool kForward>
  void propagate(InstructionIndex from, std::vector<InstructionIndex>* touched) {
    const auto later = [&](InstructionIndex a, InstructionIndex b) {
      return kForward ? rank_[a] > rank_[b] : rank_[a] < rank_[b];
    };
    heap_.clear();
    const auto push_neighbours = [&](InstructionIndex i) {
      for (const auto& [next, lag] : kForward ? dag_->successors(i) : dag_->predecessors(i)) {
        if (queued_[next] != 0) continue;
        queued_[next] = 1;
        heap_.push_back(next);
        std::push_heap(heap_.begin(), heap_.end(), later);
      }
    };
    push_neighbours(from);
    while (!heap_.empty()) {
      std::pop_heap(heap_.begin(), heap_.end(), later);
      const InstructionIndex i = heap_.back();
      heap_.pop_back();
      queued_[i] = 0;
      ++visits_;
      Ticks& kept = kForward ? times_.earliest_start[i] : times_.latest_end[i];
      const Ticks fresh = kForward ? earliest_start(i) : latest_end(i);
      if (fresh == kept) continue;
      kept = fresh;
      if (touched != nullptr) touched->push_back(i);
      push_neighbours(i);
    }
  }

  [[nodiscard]] Ticks earliest_start(InstructionIndex i) const {
    Ticks start = 0;
    for (const auto& [before, lag] : dag_->predecessors(i)) {
      start = std::max(start, times_.earliest_start[before] + duration_[before] + lag);
    }
    return start;
  }
  [[nodiscard]] Ticks latest_end(InstructionIndex i) const {
    Ticks end = deadline_;
    for (const auto& [next, lag] : dag_->successors(i)) {
      end = std::min(end, times_.latest_end[next] - duration_[next] - lag);
    }
    return end;
  }

  const Workload* workload_;
  const Dag* dag_;
  Ticks deadline_;
  std::vector<std::size_t> choice_;
  std::vector<Ticks> duration_;
  EventTimes times_;
  Joules cost_;
  std::vector<std::uint32_t> rank_;
  std::vector<char> queued_;
  std::vector<InstructionIndex> heap_;
  std::int64_t visits_ = 0;
};

struct Change {
  InstructionIndex instruction;
  std::size_t choice_before;
};

/// Gives slack to whoever saves most with it, until nobody can use any. Only `candidates` are considered, and
/// those that a change touches. Returns what was changed, for undoing.
std::vector<Change> reclaim(Assignment& assignment, const std::vector<InstructionIndex>& candidates) {
  using Entry = std::pair<Joules, InstructionIndex>;
  const auto cheaper = [](const Entry& a, const Entry& b) {
    return a.first != b.first ? a.first < b.first : a.second > b.second;
  };
  std::priority_queue<Entry, std::vector<Entry>, decltype(cheaper)> queue(cheaper);
  const auto offer = [&](InstructionIndex i) {
    const Joules saving = assignment.best_saving(i).first;
    if (saving > Joules(0)) queue.emplace(saving, i);
  };
  for (const InstructionIndex i : candidates) offer(i);
  std::vector<Change> changes;
  while (!queue.empty()) {
    const auto [promised, i] = queue.top();
    queue.pop();
    const auto [saving, choice] = assignment.best_saving(i);
    if (saving <= Joules(0)) continue;
    if (saving < promised) {  // somebody else took the slack meanwhile
      queue.emplace(saving, i);
      continue;
    }
    // Slowing only takes slack away from others, so no one needs to be offered anew.
    changes.push_back({i, assignment.choice(i)});
    assignment.choose(i, choice);
  }
  return changes;
}

/// Tries to run each instruction one option faster and to give away the slack; keeps what lowers the cost.
void exchange(Assignment& assignment, std::size_t instructions) {
  const std::int64_t limit = assignment.visits() + kExchangeVisits;
  std::vector<InstructionIndex> touched;
  for (bool improved = true; improved;) {
    improved = false;
    for (InstructionIndex i = 0; i < instructions; ++i) {
      if (assignment.visits() > limit) return;
      if (assignment.choice(i) == 0) continue;
      const Joules before = assignment.cost();
      std::vector<Change> changes{{i, assignment.choice(i)}};
      touched.clear();
      assignment.choose(i, assignment.choice(i) - 1, &touched);
      std::erase(touched, i);
      std::sort(touched.begin(), touched.end());
      touched.erase(std::unique(touched.begin(), touched.end()), touched.end());
      const std::vector<Change> reclaimed = reclaim(assignment, touched);
      changes.insert(changes.end(), reclaimed.begin(), reclaimed.end());
      // A saving below a billionth is rounding, and could go round in circles.
      if (assignment.cost() < before - Joules(1e-9)) {
        improved = true;
        continue;
      }
      for (auto change = changes.rbegin(); change != changes.rend(); ++change) {
        assignment.choose(change->instruction, change->choice_before);
      }
    }
  }
}

/// Each window takes the slowest option that fits, or the one `faster` places before it.
Assignment find_assignment(const Workload& workload, const Problem& problem, const Optimum& optimum,
                           std::size_t faster) {
  std::vector<std::size_t> choice(workload.dag().size());
  std::vector<InstructionIndex> everything(workload.dag().size());
  for (InstructionIndex i = 0; i < everything.size(); ++i) {
    everything[i] = i;
    const std::size_t slowest = workload.curve(i).slowest_within(optimum.window(i));
    choice[i] = slowest - std::min(slowest, faster);
  }
  refit_rank_pairs(workload, problem, optimum, choice);
  Assignment assignment(workload, optimum.event_times[problem.sink()], std::move(choice));
  assert(assignment.meets_deadline() && "an option within each window cannot be late");
  reclaim(assignment, everything);
  exchange(assignment, everything.size());
  return assignment;
}

}  // namespace

Clocks search_clocks(const Workload& workload, const Problem& problem, const Optimum& optimum) {
  const Joules least = workload.cheapest_cost() + to_joules(primal_cost(problem, optimum));
  const Joules waiting = workload.blocking_power() * to_seconds(optimum.event_times[problem.sink()]);
  const Joules satisfying = least + kSatisfyingGap * (least + waiting);
  Assignment best = find_assignment(workload, problem, optimum, 0);
  for (std::size_t faster = 1; faster <= kMostFaster && best.cost() > satisfying; ++faster) {
    Assignment other = find_assignment(workload, problem, optimum, faster);
    if (other.cost() < best.cost()) best = std::move(other);
  }
  Clocks clocks(workload.dag().size());
  for (InstructionIndex i = 0; i < clocks.size(); ++i) clocks[i] = best.option(i).clock;
  return clocks;
}

}  // namespace slackline
