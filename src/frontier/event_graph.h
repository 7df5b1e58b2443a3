#pragma once
#include <cstdint>
#include <numeric>
#include <span>
#include <vector>

#include "slackline/frontier/problem.h"

namespace slackline {

using Event = std::uint32_t;

/// An arc as seen from one of its ends: forward from the tail, backward from the head.
class HalfArc {
 public:
  HalfArc() = default;
  HalfArc(std::uint32_t arc, bool backward) : code_(2 * arc + (backward ? 1 : 0)) {}

  [[nodiscard]] std::uint32_t arc() const { return code_ >> 1; }
  [[nodiscard]] bool backward() const { return (code_ & 1) != 0; }
  /// The same arc as seen from its other end.
  [[nodiscard]] HalfArc twin() const { return HalfArc(code_ ^ 1); }
  /// From 0 to twice the number of arcs; that of the twin is beside it.
  [[nodiscard]] std::size_t index() const { return code_; }

  friend bool operator==(HalfArc, HalfArc) = default;

 private:
  explicit HalfArc(std::uint32_t code) : code_(code) {}

  std::uint32_t code_ = ~std::uint32_t{0};  // of no arc
};

/// The arcs of a problem by the events they touch.
class EventGraph {
 public:
  /// A way out of an event.
  struct Link {
    Event end = 0;
    HalfArc half;
  };

  explicit EventGraph(const Problem& problem)
      : links_(2 * problem.arcs().size()), first_(problem.events() + 1, 0), end_(links_.size()) {
    const std::vector<Arc>& arcs = problem.arcs();
    for (const Arc& arc : arcs) ++first_[arc.tail + 1], ++first_[arc.head + 1];
    std::partial_sum(first_.begin(), first_.end(), first_.begin());
    std::vector<std::uint32_t> next = first_;
    for (std::uint32_t a = 0; a < arcs.size(); ++a) {
      const HalfArc forward(a, false);
      links_[next[arcs[a].tail]++] = {arcs[a].head, forward};
      links_[next[arcs[a].head]++] = {arcs[a].tail, forward.twin()};
      end_[forward.index()] = arcs[a].head;
      end_[forward.twin().index()] = arcs[a].tail;
    }
  }

  [[nodiscard]] std::span<const Link> links(Event event) const {
    return {links_.data() + first_[event], links_.data() + first_[event + 1]};
  }
  [[nodiscard]] Event begin(HalfArc half) const { return end_[half.twin().index()]; }
  [[nodiscard]] Event end(HalfArc half) const { return end_[half.index()]; }
  [[nodiscard]] std::size_t events() const { return first_.size() - 1; }
  [[nodiscard]] std::size_t half_arcs() const { return links_.size(); }

 private:
  std::vector<Link> links_;
  std::vector<std::uint32_t> first_;  // per event, into links_
  std::vector<Event> end_;            // per half-arc
};

}  // namespace slackline
