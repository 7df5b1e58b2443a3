#include "slackline/pipeline/dag.h"

#include <algorithm>
#include <boost/graph/adjacency_list.hpp>
#include <boost/graph/depth_first_search.hpp>
#include <boost/graph/graphviz.hpp>
#include <boost/graph/topological_sort.hpp>
#include <sstream>

#include "precedence.h"

namespace slackline {
namespace {

using Graph = boost::adjacency_list<boost::vecS, boost::vecS, boost::directedS>;

Graph make_graph(const std::vector<PrecedenceEdge>& edges, std::size_t instructions) {
  Graph graph(instructions);
  for (const PrecedenceEdge& edge : edges) boost::add_edge(edge.tail, edge.head, graph);
  return graph;
}

/// Remembers the vertices on the current branch, so that a back edge yields its whole cycle.
class CycleFinder : public boost::default_dfs_visitor {
 public:
  explicit CycleFinder(std::vector<InstructionIndex>* branch, std::vector<InstructionIndex>* cycle)
      : branch_(branch), cycle_(cycle) {}
  void discover_vertex(Graph::vertex_descriptor v, const Graph&) {
    branch_->push_back(static_cast<InstructionIndex>(v));
  }
  void finish_vertex(Graph::vertex_descriptor, const Graph&) { branch_->pop_back(); }
  void back_edge(Graph::edge_descriptor edge, const Graph& graph) {
    if (!cycle_->empty()) return;
    const auto head = static_cast<InstructionIndex>(boost::target(edge, graph));
    cycle_->assign(std::find(branch_->begin(), branch_->end(), head), branch_->end());
  }

 private:
  std::vector<InstructionIndex>* branch_;
  std::vector<InstructionIndex>* cycle_;
};

[[noreturn]] void throw_deadlock(const Graph& graph, const OrderLayout& layout) {
  std::vector<InstructionIndex> branch;
  std::vector<InstructionIndex> cycle;
  boost::depth_first_search(graph, boost::visitor(CycleFinder(&branch, &cycle)));
  std::string walk;
  constexpr std::size_t kShown = 12;
  for (std::size_t i = 0; i < cycle.size() && i < kShown; ++i) {
    walk += short_name(layout.instructions()[cycle[i]]) + " -> ";
  }
  if (cycle.size() > kShown) walk += "... -> ";
  walk += short_name(layout.instructions()[cycle.front()]);
  layout.fail(cycle.front(), "the order can never run: " + walk);
}

std::vector<InstructionIndex> sort_topologically(const Graph& graph, const OrderLayout& layout) {
  std::vector<InstructionIndex> order;
  order.reserve(layout.instructions().size());
  try {
    boost::topological_sort(graph, std::back_inserter(order));
  } catch (const boost::not_a_dag&) {
    throw_deadlock(graph, layout);
  }
  std::reverse(order.begin(), order.end());
  return order;
}

const char* fill_colour(InstructionKind kind) {
  switch (kind) {
    case InstructionKind::kForward:
      return "#cfe3f7";
    case InstructionKind::kBackward:
    case InstructionKind::kBackwardInput:
    case InstructionKind::kForwardBackward:
      return "#f7dfc0";
    case InstructionKind::kBackwardWeight:
      return "#e2d4f0";
    case InstructionKind::kOverlapped:
      return "#cfe3f7:#f7dfc0";
    default:
      return "#e4e4e4";
  }
}

}  // namespace

Dag::Dag(const Order& order, const std::vector<Ticks>& transfer) {
  const OrderLayout layout(order);
  const Precedence found = precedence(layout, transfer);
  topological_order_ = sort_topologically(make_graph(found.edges, layout.instructions().size()), layout);
  stages_ = found.stages;
  microbatches_ = found.microbatches;
  instructions_ = layout.instructions();
  rank_begin_ = layout.rank_begin();

  const auto index_by = [&](auto from, auto to) {
    Adjacency adjacency;
    adjacency.begin.assign(size() + 1, 0);
    adjacency.items.resize(found.edges.size());
    for (const PrecedenceEdge& edge : found.edges) ++adjacency.begin[from(edge) + 1];
    for (std::size_t i = 0; i < size(); ++i) adjacency.begin[i + 1] += adjacency.begin[i];
    std::vector<std::uint32_t> next = adjacency.begin;
    for (const PrecedenceEdge& edge : found.edges) adjacency.items[next[from(edge)]++] = {to(edge), edge.lag};
    return adjacency;
  };
  const auto tail = [](const PrecedenceEdge& edge) { return edge.tail; };
  const auto head = [](const PrecedenceEdge& edge) { return edge.head; };
  successors_ = index_by(tail, head);
  predecessors_ = index_by(head, tail);
}

std::string Dag::graphviz(const std::function<std::string(InstructionIndex)>& label) const {
  std::vector<int> rank_of(size());
  for (int rank = 0; rank < ranks(); ++rank) {
    std::fill(rank_of.begin() + rank_begin(rank), rank_of.begin() + rank_begin(rank + 1), rank);
  }
  Graph graph(size());
  for (InstructionIndex i = 0; i < size(); ++i) {
    for (const Dependency& next : successors(i)) boost::add_edge(i, next.instruction, graph);
  }
  std::ostringstream text;
  boost::write_graphviz(
      text, graph,
      [&](std::ostream& out, std::size_t v) {
        const auto i = static_cast<InstructionIndex>(v);
        out << "[label=\"" << short_name(instructions_[i]) << (label ? "\\n" + label(i) : "")
            << "\", style=filled, fillcolor=\"" << fill_colour(instructions_[i].kind) << "\", group=\"rank"
            << rank_of[i] << "\"]";
      },
      boost::default_writer(), [](std::ostream& out) { out << "rankdir=LR;\nnode [shape=box];\n"; });
  return text.str();
}

}  // namespace slackline
