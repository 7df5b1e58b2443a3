#pragma once
#include <algorithm>
#include <cassert>
#include <functional>
#include <vector>

#include "event_graph.h"

namespace slackline {

/// When each half-arc over the cut is due, the earliest first. A date is in ticks the cut has moved in all;
/// it is void once another is made for the half-arc, or once the half-arc crosses the cut no more, which the
/// caller's `crosses` tells. Void entries stay until they come up or outnumber the half-arcs.
class Agenda {
 public:
  explicit Agenda(std::size_t half_arcs) : due_(half_arcs, kNever) {}

  void set(HalfArc half, Ticks date) {
    if (due_[half.index()] == date) return;
    due_[half.index()] = date;
    if (entries_.size() > 2 * due_.size()) return rebuild();
    entries_.push_back({date, half});
    std::push_heap(entries_.begin(), entries_.end(), Later());
  }

  /// The earliest date of a half-arc that `crosses`.
  template <typename Predicate>
  [[nodiscard]] Ticks earliest(const Predicate& crosses) {
    while (!holds(entries_.front(), crosses)) pop();
    return entries_.front().date;
  }

  /// Takes out all that is due on `date`, the earliest, and visits what `crosses`.
  template <typename Predicate, typename Visitor>
  void take(Ticks date, const Predicate& crosses, const Visitor& visit) {
    while (!entries_.empty() && entries_.front().date == date) {
      const HalfArc half = entries_.front().half;
      const bool due = holds(entries_.front(), crosses);
      pop();
      if (due) visit(half);
    }
  }

 private:
  struct Entry {
    Ticks date;
    HalfArc half;
  };
  struct Later {
    bool operator()(const Entry& a, const Entry& b) const {
      return a.date != b.date ? a.date > b.date : a.half.index() > b.half.index();
    }
  };
  static constexpr Ticks kNever = -1;

  template <typename Predicate>
  [[nodiscard]] bool holds(const Entry& entry, const Predicate& crosses) const {
    return due_[entry.half.index()] == entry.date && crosses(entry.half);
  }

  void pop() {
    assert(!entries_.empty());
    Ticks& due = due_[entries_.front().half.index()];
    if (due == entries_.front().date) due = kNever;
    std::pop_heap(entries_.begin(), entries_.end(), Later());
    entries_.pop_back();
  }

  void rebuild() {
    entries_.clear();
    for (std::uint32_t arc = 0; 2 * arc < due_.size(); ++arc) {
      for (const HalfArc half : {HalfArc(arc, false), HalfArc(arc, true)}) {
        if (due_[half.index()] != kNever) entries_.push_back({due_[half.index()], half});
      }
    }
    std::make_heap(entries_.begin(), entries_.end(), Later());
  }

  std::vector<Ticks> due_;  // per half-arc; of every date but kNever there is an entry
  std::vector<Entry> entries_;
};

}  // namespace slackline
