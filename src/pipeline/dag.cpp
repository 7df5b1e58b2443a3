#include "slackline/pipeline/dag.h"

#include <algorithm>
#include <boost/graph/adjacency_list.hpp>
#include <boost/graph/depth_first_search.hpp>
#include <boost/graph/graphviz.hpp>
#include <boost/graph/topological_sort.hpp>
#include <map>
#include <sstream>
#include <tuple>

#include "slackline/base/error.h"

namespace slackline {
namespace {

using Graph = boost::adjacency_list<boost::vecS, boost::vecS, boost::directedS>;

/// Finds instructions by what they are.
class Directory {
 public:
  explicit Directory(const std::vector<Instruction>& instructions) {
    for (InstructionIndex i = 0; i < instructions.size(); ++i) {
      if (!index_.emplace(key(instructions[i]), i).second) {
        throw InputError("", 0, "order", short_name(instructions[i]) + " comes twice");
      }
    }
  }

  [[nodiscard]] InstructionIndex at(Instruction instruction) const {
    const auto found = index_.find(key(instruction));
    if (found == index_.end()) throw InputError("", 0, "order", short_name(instruction) + " is missing");
    return found->second;
  }

 private:
  using Key = std::tuple<StageId, InstructionKind, MicrobatchId>;
  static Key key(const Instruction& i) { return {i.stage, i.kind, i.microbatch}; }
  std::map<Key, InstructionIndex> index_;
};

using Edge = std::pair<InstructionIndex, InstructionIndex>;

/// What must run directly before `instruction` because it makes its input.
std::vector<InstructionIndex> inputs_of(const Instruction& instruction, int stages,
                                        const Directory& directory) {
  const int stage = instruction.stage.value();
  const auto counterpart = [&](InstructionKind kind, int on_stage) {
    return directory.at({kind, StageId(on_stage), instruction.microbatch});
  };
  if (instruction.kind == InstructionKind::kForward) {
    if (stage == 0) return {};
    return {counterpart(InstructionKind::kForward, stage - 1)};
  }
  if (stage + 1 < stages) return {counterpart(InstructionKind::kBackward, stage + 1)};
  return {counterpart(InstructionKind::kForward, stage)};
}

std::vector<Edge> precedence(const std::vector<Instruction>& instructions, int stages) {
  const Directory directory(instructions);
  std::vector<Edge> edges;
  for (InstructionIndex i = 0; i < instructions.size(); ++i) {
    if (i > 0 && instructions[i - 1].stage == instructions[i].stage) edges.emplace_back(i - 1, i);
    for (const InstructionIndex input : inputs_of(instructions[i], stages, directory))
      edges.emplace_back(input, i);
  }
  std::sort(edges.begin(), edges.end());
  edges.erase(std::unique(edges.begin(), edges.end()), edges.end());
  return edges;
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

[[noreturn]] void throw_deadlock(const Graph& graph, const std::vector<Instruction>& instructions) {
  std::vector<InstructionIndex> branch;
  std::vector<InstructionIndex> cycle;
  boost::depth_first_search(graph, boost::visitor(CycleFinder(&branch, &cycle)));
  std::string walk;
  constexpr std::size_t kShown = 12;
  for (std::size_t i = 0; i < cycle.size() && i < kShown; ++i)
    walk += short_name(instructions[cycle[i]]) + " -> ";
  if (cycle.size() > kShown) walk += "... -> ";
  walk += short_name(instructions[cycle.front()]);
  throw InputError("", 0, "order", "the order can never run: " + walk);
}

std::vector<InstructionIndex> sort_topologically(const Graph& graph,
                                                 const std::vector<Instruction>& instructions) {
  std::vector<InstructionIndex> order;
  order.reserve(instructions.size());
  try {
    boost::topological_sort(graph, std::back_inserter(order));
  } catch (const boost::not_a_dag&) {
    throw_deadlock(graph, instructions);
  }
  std::reverse(order.begin(), order.end());
  return order;
}

}  // namespace

Dag::Dag(const Order& order) {
  stage_begin_.push_back(0);
  for (const auto& stage : order) {
    instructions_.insert(instructions_.end(), stage.begin(), stage.end());
    stage_begin_.push_back(static_cast<InstructionIndex>(instructions_.size()));
  }
  const std::vector<Edge> edges = precedence(instructions_, stages());
  const Graph graph(edges.begin(), edges.end(), instructions_.size());
  topological_order_ = sort_topologically(graph, instructions_);

  const auto index_by = [&](auto from, auto to) {
    Adjacency adjacency;
    adjacency.begin.assign(size() + 1, 0);
    adjacency.items.resize(edges.size());
    for (const Edge& edge : edges) ++adjacency.begin[from(edge) + 1];
    for (std::size_t i = 0; i < size(); ++i) adjacency.begin[i + 1] += adjacency.begin[i];
    std::vector<std::uint32_t> next = adjacency.begin;
    for (const Edge& edge : edges) adjacency.items[next[from(edge)]++] = to(edge);
    return adjacency;
  };
  const auto tail = [](const Edge& edge) { return edge.first; };
  const auto head = [](const Edge& edge) { return edge.second; };
  successors_ = index_by(tail, head);
  predecessors_ = index_by(head, tail);
}

std::span<const InstructionIndex> Dag::successors(InstructionIndex i) const {
  return {successors_.items.data() + successors_.begin[i],
          successors_.items.data() + successors_.begin[i + 1]};
}

std::span<const InstructionIndex> Dag::predecessors(InstructionIndex i) const {
  return {predecessors_.items.data() + predecessors_.begin[i],
          predecessors_.items.data() + predecessors_.begin[i + 1]};
}

std::string Dag::graphviz(const std::function<std::string(InstructionIndex)>& label) const {
  Graph graph(size());
  for (InstructionIndex i = 0; i < size(); ++i) {
    for (const InstructionIndex next : successors(i)) boost::add_edge(i, next, graph);
  }
  std::ostringstream text;
  boost::write_graphviz(
      text, graph,
      [&](std::ostream& out, std::size_t v) {
        const auto i = static_cast<InstructionIndex>(v);
        const bool is_forward = instructions_[i].kind == InstructionKind::kForward;
        out << "[label=\"" << short_name(instructions_[i]) << (label ? "\\n" + label(i) : "")
            << "\", style=filled, fillcolor=\"" << (is_forward ? "#cfe3f7" : "#f7dfc0") << "\", group=\"stage"
            << instructions_[i].stage.value() << "\"]";
      },
      boost::default_writer(), [](std::ostream& out) { out << "rankdir=LR;\nnode [shape=box];\n"; });
  return text.str();
}

std::string short_name(const Instruction& instruction) {
  const char letter = instruction.kind == InstructionKind::kForward ? 'F' : 'B';
  return letter + std::to_string(instruction.microbatch.value()) + "@" +
         std::to_string(instruction.stage.value());
}

}  // namespace slackline
