#include "rank_pairs.h"

#include <algorithm>
#include <array>
#include <cassert>
#include <limits>
#include <span>
#include <utility>

namespace slackline {
namespace {

/// How hard to look.
struct Effort {
  /// Partial solutions that are kept from one instruction to the next.
  std::size_t width;
  /// A partial solution that loses more than this against the best is dropped; as a part of what an
  /// instruction can save at most, on average.
  double band;
  /// Sweeps over all pairs are repeated while the gap is above this part of the bound.
  double tolerated_gap;
};
constexpr Effort kQuick{20, 0.02, 0.0025};
/// For iterations so short that it takes only milliseconds too.
constexpr Effort kThorough{64, 0.07, 0};
constexpr std::size_t kShortIteration = 256;
constexpr int kMostSweeps = 4;

/// An option is tried if at the price of its time it loses at most this against the best one; as a part like
/// band.
constexpr double kOptionBand = 0.07;
/// Cells of the grid along each of the two end times.
constexpr std::size_t kCells = 16;
/// How many decisions an instruction may look back for the end of another one. Farther arcs keep their place.
constexpr std::size_t kReach = 16;

/// Joules for each tick.
double price_of(Microwatts flow) {
  return static_cast<double>(flow) / kMicrowattsPerWatt / kTicksPerSecond;
}

struct Input {
  InstructionIndex from;
  Ticks lag;
  double price;
};

/// The precedence arcs into every instruction, with their prices.
class PricedInputs {
 public:
  PricedInputs(const Problem& problem, const Optimum& optimum) : begin_(problem.instructions() + 1, 0) {
    for_each_arc(problem, [&](std::uint32_t, InstructionIndex, InstructionIndex to) { ++begin_[to + 1]; });
    for (std::size_t i = 1; i < begin_.size(); ++i) begin_[i] += begin_[i - 1];
    items_.resize(begin_.back());
    std::vector<std::uint32_t> next = begin_;
    for_each_arc(problem, [&](std::uint32_t arc, InstructionIndex from, InstructionIndex to) {
      items_[next[to]++] = {from, problem.arcs()[arc].lag, price_of(optimum.flow[arc])};
    });
  }
  [[nodiscard]] std::span<const Input> of(InstructionIndex i) const {
    return {items_.data() + begin_[i], items_.data() + begin_[i + 1]};
  }

 private:
  template <typename Visit>
  static void for_each_arc(const Problem& problem, Visit&& visit) {
    for (std::uint32_t a = problem.instructions(); a < problem.arcs().size(); ++a) {
      const Arc& arc = problem.arcs()[a];
      if (arc.tail != problem.source() && arc.head != problem.sink()) visit(a, arc.tail / 2, arc.head / 2);
    }
  }
  std::vector<std::uint32_t> begin_;
  std::vector<Input> items_;
};

/// An arc between two instructions of the pair: how many decisions back its tail lies.
struct Link {
  std::size_t back;
  Ticks lag;
  double price;
};

/// One decision of the dynamic program.
struct Step {
  InstructionIndex instruction;
  Ticks release;
  Ticks due;
  /// Of all arcs to later steps.
  double price_after = 0;
  std::vector<Link> links;
  /// Decisions back to the last one on the other rank.
  std::size_t back_to_other = 0;
};

/// The end of a chain of decisions.
struct Partial {
  Ticks end;
  double value;
  std::uint32_t parent;
  std::uint32_t option;
};

/// Where a partial solution goes on.
struct Head {
  Ticks start;
  /// When it left the other rank.
  Ticks other_end;
  double value;
};

struct Candidate {
  Partial partial;
  Ticks other_end;
};

class PairRefit {
 public:
  PairRefit(const Workload& workload, const Problem& problem, const Optimum& optimum, const Effort& effort,
            std::vector<std::size_t>& choice)
      : workload_(workload),
        dag_(workload.dag()),
        optimum_(optimum),
        inputs_(problem, optimum),
        deadline_(optimum.event_times[problem.sink()]),
        width_(effort.width),
        choice_(choice),
        duration_(dag_.size()),
        start_(dag_.size()),
        by_time_(dag_.size()),
        step_of_(dag_.size()) {
    double saving = 0;
    for (InstructionIndex i = 0; i < dag_.size(); ++i) {
      const CostCurve& curve = workload.curve(i);
      duration_[i] = curve.options[choice[i]].time;
      saving += (curve.fastest().cost - curve.cheapest().cost).value();
      by_time_[i] = i;
    }
    band_ = effort.band * saving / static_cast<double>(dag_.size());
    option_band_ = kOptionBand * saving / static_cast<double>(dag_.size());
    std::sort(by_time_.begin(), by_time_.end(), [&](InstructionIndex a, InstructionIndex b) {
      const Ticks start_a = optimum.event_times[2 * a];
      const Ticks start_b = optimum.event_times[2 * b];
      return start_a != start_b ? start_a < start_b : a < b;
    });
  }

  /// Decides the ranks from `first` to before `last` anew.
  void refit(int first, int last) {
    place();
    list_steps(first, last);
    make_room();
    find_windows();
    partials_.assign(1, {0, 0, 0, 0});
    generation_ = 0;
    incumbent_ = 0;
    for (const Step& step : steps_) decide(step);
    adopt_best();
  }

  [[nodiscard]] Joules cost() const {
    Joules cost;
    for (InstructionIndex i = 0; i < dag_.size(); ++i) cost += workload_.curve(i).options[choice_[i]].cost;
    return cost;
  }

 private:
  static constexpr std::uint32_t kNotInPair = std::numeric_limits<std::uint32_t>::max();

  [[nodiscard]] bool in_pair(InstructionIndex i) const { return step_of_[i] != kNotInPair; }
  [[nodiscard]] bool linked(InstructionIndex from, InstructionIndex to) const {
    return in_pair(from) && in_pair(to) && step_of_[to] - step_of_[from] <= kReach;
  }
  [[nodiscard]] Ticks end(InstructionIndex i) const { return start_[i] + duration_[i]; }

  /// Start times of all instructions as near to the optimum's as the current options allow.
  void place() {
    const auto& order = dag_.topological_order();
    for (const InstructionIndex i : order)
      start_[i] = std::max(optimum_.event_times[2 * i], end_of_inputs(i));
    // Taking the earlier of two feasible solutions at each instruction is feasible too: latest starts cap
    // these.
    for (auto i = order.rbegin(); i != order.rend(); ++i) {
      start_[*i] = std::min(start_[*i], start_of_outputs(*i) - duration_[*i]);
    }
  }

  [[nodiscard]] Ticks end_of_inputs(InstructionIndex i) const {
    Ticks latest = 0;
    for (const auto& [before, lag] : dag_.predecessors(i)) latest = std::max(latest, end(before) + lag);
    return latest;
  }
  [[nodiscard]] Ticks start_of_outputs(InstructionIndex i) const {
    Ticks earliest = deadline_;
    for (const auto& [next, lag] : dag_.successors(i)) earliest = std::min(earliest, start_[next] - lag);
    return earliest;
  }

  void list_steps(int first, int last) {
    steps_.clear();
    std::fill(step_of_.begin(), step_of_.end(), kNotInPair);
    const InstructionIndex begin = dag_.rank_begin(first);
    for (const InstructionIndex i : by_time_) {
      if (i < begin || i >= dag_.rank_begin(last)) continue;
      step_of_[i] = static_cast<std::uint32_t>(steps_.size());
      steps_.push_back({i, 0, deadline_, 0, {}, 0});
    }
    std::size_t last_on[2] = {0, 0};
    for (std::size_t s = 0; s < steps_.size(); ++s) {
      const std::size_t rank = steps_[s].instruction < dag_.rank_begin(first + 1) ? 0 : 1;
      steps_[s].back_to_other = std::min(s - last_on[1 - rank], kReach);
      last_on[rank] = s + 1;
    }
  }

  /// Moves those who feed the pair to as early, those whom it feeds to as late as they can alone.
  void make_room() {
    for (const Step& step : steps_) {
      for (const auto& [before, lag] : dag_.predecessors(step.instruction)) {
        if (!in_pair(before)) start_[before] = end_of_inputs(before);
      }
    }
    for (const Step& step : steps_) {
      for (const auto& [next, lag] : dag_.successors(step.instruction)) {
        if (!in_pair(next)) start_[next] = start_of_outputs(next) - duration_[next];
      }
    }
  }

  void find_windows() {
    for (std::size_t s = steps_.size(); s-- > 0;) {
      Step& step = steps_[s];
      const InstructionIndex i = step.instruction;
      for (const Input& input : inputs_.of(i)) {
        if (linked(input.from, i)) {
          step.links.push_back({s - step_of_[input.from], input.lag, input.price});
          steps_[step_of_[input.from]].price_after += input.price;
        } else {
          step.release = std::max(step.release, end(input.from) + input.lag);
        }
      }
      for (const auto& [next, lag] : dag_.successors(i)) {
        // A linked successor must still be able to keep its own due time at its fastest.
        const Ticks limit = linked(i, next)
                                ? steps_[step_of_[next]].due - workload_.curve(next).fastest().time
                                : start_[next];
        step.due = std::min(step.due, limit - lag);
      }
    }
  }

  [[nodiscard]] Ticks end_before(std::uint32_t partial, std::size_t steps) const {
    for (; steps > 0; --steps) partial = partials_[partial].parent;
    return partials_[partial].end;
  }

  void decide(const Step& step) {
    shortlist(step);
    list_heads(step);
    const CurveOption& current = workload_.curve(step.instruction).options[choice_[step.instruction]];
    const Head& same = heads_[incumbent_ - generation_];
    const Partial kept{same.start + current.time, same.value + rate(step, current), incumbent_,
                       static_cast<std::uint32_t>(choice_[step.instruction])};
    assert(kept.end <= step.due && "I1");
    list_candidates(step, kept.value);
    keep_best();
    incumbent_ = static_cast<std::uint32_t>(partials_.size());
    partials_.push_back(kept);
  }

  /// From where each partial solution goes on.
  void list_heads(const Step& step) {
    heads_.clear();
    for (auto p = static_cast<std::uint32_t>(generation_); p < partials_.size(); ++p) {
      Ticks start = step.release;
      double value = partials_[p].value;
      for (const Link& link : step.links) {
        const Ticks before = end_before(p, link.back - 1);
        start = std::max(start, before + link.lag);
        value -= link.price * static_cast<double>(before);
      }
      value += step.price_after * static_cast<double>(start);
      heads_.push_back({start, end_before(p, step.back_to_other), value});
    }
  }

  /// Continues every partial solution by every option that is within the band of the best continuation.
  void list_candidates(const Step& step, double best_value) {
    for (const Head& head : heads_) {
      const auto fits = [&](const Rated& option) { return head.start + option.time <= step.due; };
      const auto best = std::find_if(shortlist_.begin(), shortlist_.end(), fits);
      if (best != shortlist_.end()) best_value = std::min(best_value, head.value + best->rating);
    }
    candidates_.clear();
    for (std::uint32_t h = 0; h < heads_.size(); ++h) {
      const Head& head = heads_[h];
      for (const auto& [rating, time, option] : shortlist_) {
        const double value = head.value + rating;
        if (value > best_value + band_) break;
        if (head.start + time > step.due) continue;
        const auto parent = static_cast<std::uint32_t>(generation_ + h);
        candidates_.push_back({{head.start + time, value, parent, option}, head.other_end});
      }
    }
  }

  /// What an option adds to the value of a partial solution.
  static double rate(const Step& step, const CurveOption& option) {
    return option.cost.value() + step.price_after * static_cast<double>(option.time);
  }

  /// Options worth trying, best first.
  void shortlist(const Step& step) {
    const auto& options = workload_.curve(step.instruction).options;
    const double price = price_of(optimum_.flow[step.instruction]);
    const auto loss = [&](const CurveOption& option) {
      return option.cost.value() + price * static_cast<double>(option.time);
    };
    double least = std::numeric_limits<double>::infinity();
    for (const CurveOption& option : options) least = std::min(least, loss(option));
    shortlist_.clear();
    for (std::uint32_t k = 0; k < options.size(); ++k) {
      if (loss(options[k]) > least + option_band_) continue;
      shortlist_.push_back({rate(step, options[k]), options[k].time, k});
    }
    std::sort(shortlist_.begin(), shortlist_.end(),
              [](const Rated& a, const Rated& b) { return a.rating < b.rating; });
  }

  /// Appends the next generation of partial solutions: the best candidate of each cell, the best cells only.
  void keep_best() {
    generation_ = partials_.size();
    if (candidates_.empty()) return;
    const Axis own(candidates_, [](const Candidate& c) { return c.partial.end; });
    const Axis other(candidates_, [](const Candidate& c) { return c.other_end; });
    cell_.fill(kEmpty);
    ranking_.clear();
    for (std::uint32_t c = 0; c < candidates_.size(); ++c) {
      std::uint32_t& best =
          cell_[own.cell(candidates_[c].partial.end) * kCells + other.cell(candidates_[c].other_end)];
      if (best == kEmpty) {
        best = static_cast<std::uint32_t>(ranking_.size());
        ranking_.push_back(c);
      } else if (candidates_[c].partial.value < candidates_[ranking_[best]].partial.value) {
        ranking_[best] = c;
      }
    }
    if (ranking_.size() > width_) {
      std::nth_element(ranking_.begin(), ranking_.begin() + static_cast<std::ptrdiff_t>(width_),
                       ranking_.end(), [&](std::uint32_t a, std::uint32_t b) {
                         return candidates_[a].partial.value < candidates_[b].partial.value;
                       });
      ranking_.resize(width_);
    }
    for (const std::uint32_t c : ranking_) partials_.push_back(candidates_[c].partial);
  }

  void adopt_best() {
    auto best = incumbent_;
    for (auto p = static_cast<std::uint32_t>(generation_); p < partials_.size(); ++p) {
      if (partials_[p].value < partials_[best].value) best = p;
    }
    for (auto step = steps_.rbegin(); step != steps_.rend(); ++step) {
      const InstructionIndex i = step->instruction;
      choice_[i] = partials_[best].option;
      duration_[i] = workload_.curve(i).options[choice_[i]].time;
      best = partials_[best].parent;
    }
  }

  struct Rated {
    double rating;
    Ticks time;
    std::uint32_t option;
  };

  /// Divides the range of a time among candidates into cells.
  class Axis {
   public:
    template <typename Time>
    Axis(const std::vector<Candidate>& candidates, Time&& time) {
      Ticks high = 0;
      for (const Candidate& c : candidates) {
        low_ = std::min(low_, time(c));
        high = std::max(high, time(c));
      }
      scale_ = static_cast<double>(kCells) / (static_cast<double>(high - low_) + 1);
    }
    [[nodiscard]] std::size_t cell(Ticks time) const {
      return std::min(kCells - 1, static_cast<std::size_t>(static_cast<double>(time - low_) * scale_));
    }

   private:
    Ticks low_ = std::numeric_limits<Ticks>::max();
    double scale_ = 0;
  };

  static constexpr std::uint32_t kEmpty = std::numeric_limits<std::uint32_t>::max();

  const Workload& workload_;
  const Dag& dag_;
  const Optimum& optimum_;
  PricedInputs inputs_;
  Ticks deadline_;
  std::size_t width_;
  std::vector<std::size_t>& choice_;
  std::vector<Ticks> duration_;
  std::vector<Ticks> start_;
  std::vector<InstructionIndex> by_time_;
  /// Position in steps_, or kNotInPair.
  std::vector<std::uint32_t> step_of_;
  std::vector<Step> steps_;
  double band_ = 0;
  double option_band_ = 0;

  std::vector<Partial> partials_;
  /// First of the partial solutions that decide the latest step.
  std::size_t generation_ = 0;
  /// The one that keeps all current options.
  std::uint32_t incumbent_ = 0;
  std::vector<Head> heads_;
  std::vector<Rated> shortlist_;
  std::vector<Candidate> candidates_;
  std::array<std::uint32_t, kCells * kCells> cell_{};
  std::vector<std::uint32_t> ranking_;
};

}  // namespace

void refit_rank_pairs(const Workload& workload, const Problem& problem, const Optimum& optimum,
                      std::vector<std::size_t>& choice) {
  const Effort& effort = choice.size() <= kShortIteration ? kThorough : kQuick;
  const Joules bound = workload.cheapest_cost() + to_joules(primal_cost(problem, optimum));
  const Seconds time = to_seconds(optimum.event_times[problem.sink()]);
  const Joules tolerated = effort.tolerated_gap * (bound + workload.blocking_power() * time);
  const int ranks = workload.dag().ranks();
  PairRefit refit(workload, problem, optimum, effort, choice);
  Joules cost = refit.cost();
  for (int sweep = 0; sweep < kMostSweeps; ++sweep) {
    for (int last = std::min(2, ranks); last <= ranks; ++last) refit.refit(std::max(0, last - 2), last);
    const Joules before = std::exchange(cost, refit.cost());
    if (cost - bound <= tolerated || cost >= before) return;
  }
}

}  // namespace slackline
