#pragma once
#include <array>
#include <cstdint>
#include <span>
#include <utility>
#include <vector>

#include "event_graph.h"

namespace slackline {

// Every event of a graph in one of two rooted trees, that of the source and that of the sink.
//
// What this is for: to move a subtree from one tree to the other at the price of the smaller of the subtree
// and all the rest. An event knows its parent, so that moving a subtree turns round only the path from its
// new joint up to its old root. And an event knows not its tree but one of two labels, of which one means
// "as the source" and the other "as the sink". When a subtree of nearly everything changes trees, it keeps
// its label and the few others exchange theirs. Which of the two is smaller we learn by listing both in
// turns.
class TwoTrees {
 public:
  /// At first the sink is alone.
  TwoTrees(const EventGraph& graph, Event source, Event sink)
      : graph_(graph), source_(source), sink_(sink), above_(graph.events()), label_(graph.events(), 0) {
    label_[sink] = 1;
    for (auto& list : listed_) list.resize(graph.events() + 1);
  }

  [[nodiscard]] Event source() const { return source_; }
  [[nodiscard]] Event sink() const { return sink_; }
  /// Of an event that is no root.
  [[nodiscard]] Event parent(Event event) const { return above_[event].end; }
  [[nodiscard]] HalfArc to_parent(Event event) const { return above_[event].half; }

  [[nodiscard]] std::uint8_t label(Event event) const { return label_[event]; }
  [[nodiscard]] bool with_source(Event event) const { return label_[event] == label_[source_]; }

  /// Gives an event its first parent.
  void hang(Event event, HalfArc to_parent) { above_[event] = {graph_.end(to_parent), to_parent}; }

  /// Moves the subtree of `root` to the other tree, where `to_parent` joins it. Returns the events that
  /// exchanged their labels: any arc that now runs from tree to tree and did not before ends at one of them.
  std::span<const Event> transfer(Event root, HalfArc to_parent) {
    const EventGraph::Link old = std::exchange(above_[root], {});
    const std::span<const Event> changed = smaller_part(root);
    above_[root] = old;
    turn_round(root, to_parent);
    for (const Event event : changed) label_[event] ^= 1;
    return changed;
  }

 private:
  /// The subtree of `root`, which hangs on nothing, or else all events that are not in it.
  std::span<const Event> smaller_part(Event root) {
    auto& [inside, outside] = listed_;
    inside[0] = root;
    outside[0] = source_;
    outside[1] = sink_;
    std::size_t inside_size = 1;
    std::size_t outside_size = 2;
    for (std::size_t k = 0;; ++k) {
      if (k == inside_size) return {inside.data(), inside_size};
      if (k == outside_size) return {outside.data(), outside_size};
      inside_size = list_children(inside, k, inside_size);
      outside_size = list_children(outside, k, outside_size);
    }
  }

  /// Appends the children of the event at `position` to a list of `size` events; returns its new size.
  std::size_t list_children(std::vector<Event>& list, std::size_t position, std::size_t size) const {
    for (const auto& [other, half] : graph_.links(list[position])) {
      list[size] = other;  // without a branch that no processor foresees
      size += above_[other].half == half.twin() ? 1 : 0;
    }
    return size;
  }

  /// Makes the event where `to_parent` begins the root of what was the subtree of `root`, and hangs it there.
  void turn_round(Event root, HalfArc to_parent) {
    for (Event event = graph_.begin(to_parent);;) {
      const EventGraph::Link old = std::exchange(above_[event], {graph_.end(to_parent), to_parent});
      if (event == root) return;
      event = old.end;
      to_parent = old.half.twin();
    }
  }

  const EventGraph& graph_;
  const Event source_;
  const Event sink_;
  std::vector<EventGraph::Link> above_;  // to the parent; of no arc at the two roots
  std::vector<std::uint8_t> label_;
  std::array<std::vector<Event>, 2> listed_;
};

}  // namespace slackline
