#include "slackline/frontier/phillips_dessouky.h"

#include <algorithm>
#include <boost/graph/adjacency_list.hpp>
#include <boost/graph/boykov_kolmogorov_max_flow.hpp>
#include <cassert>
#include <limits>

namespace slackline {
namespace {

/// More than all finite capacities together (a curve's slope is at most 1e14), and added up without overflow.
constexpr Microwatts kUnlimited = std::numeric_limits<Microwatts>::max() / 4;

/// The arcs of a problem as a flow network, each with its reverse: built once, its capacities set each round.
class FlowNetwork {
 public:
  explicit FlowNetwork(const Problem& problem) : graph_(problem.events()), problem_(problem) {
    for (const Arc& arc : problem.arcs()) {
      const EdgeId forward = boost::add_edge(arc.tail, arc.head, graph_).first;
      const EdgeId backward = boost::add_edge(arc.head, arc.tail, graph_).first;
      graph_[forward].reverse = backward;
      graph_[backward].reverse = forward;
      forward_.push_back(forward);
    }
  }

  /// How much more, and how much less, may flow through an arc.
  void set_room(std::uint32_t arc, Microwatts more, Microwatts less) {
    graph_[forward_[arc]].capacity = more;
    graph_[graph_[forward_[arc]].reverse].capacity = less;
  }

  /// Adds to `flow` the largest that still fits from source to sink.
  void augment(std::vector<Microwatts>& flow) {
    boost::boykov_kolmogorov_max_flow(
        graph_, boost::get(&Edge::capacity, graph_), boost::get(&Edge::residual, graph_),
        boost::get(&Edge::reverse, graph_), boost::get(&Event::predecessor, graph_),
        boost::get(&Event::tree, graph_), boost::get(&Event::distance, graph_),
        boost::get(boost::vertex_index, graph_), problem_.source(), problem_.sink());
    for (std::uint32_t a = 0; a < forward_.size(); ++a) {
      const Edge& edge = graph_[forward_[a]];
      flow[a] += edge.capacity - edge.residual;
    }
  }

  /// Whether more could flow from the source to `event` after augment(): the source's side of the cut.
  [[nodiscard]] bool is_reached(std::uint32_t event) const {
    return graph_[event].tree == boost::black_color;
  }

 private:
  using EdgeId = boost::adjacency_list_traits<boost::vecS, boost::vecS, boost::directedS>::edge_descriptor;
  struct Edge {
    Microwatts capacity = 0;
    Microwatts residual = 0;
    EdgeId reverse;
  };
  struct Event {
    EdgeId predecessor;
    boost::default_color_type tree = boost::gray_color;
    long distance = 0;
  };
  using Graph = boost::adjacency_list<boost::vecS, boost::vecS, boost::directedS, Event, Edge>;

  Graph graph_;
  const Problem& problem_;
  std::vector<EdgeId> forward_;
};

/// Where the durations stand, and which arcs are critical at them.
class Position {
 public:
  explicit Position(const Problem& problem) : problem_(problem), out_(problem.events()) {
    for (std::uint32_t a = 0; a < problem.arcs().size(); ++a) out_[problem.arcs()[a].tail].push_back(a);
    for (std::uint32_t i = 0; i < problem.instructions(); ++i) {
      vertex_.push_back(problem.curve(i).last());
      durations_.push_back(problem.curve(i).times.back());
    }
    find_times();
  }

  [[nodiscard]] const std::vector<Ticks>& durations() const { return durations_; }
  [[nodiscard]] Ticks makespan() const { return earliest_[problem_.sink()]; }
  [[nodiscard]] std::size_t vertex(std::uint32_t instruction) const { return vertex_[instruction]; }
  [[nodiscard]] bool is_critical(std::uint32_t a) const {
    const Arc& arc = problem_.arcs()[a];
    return earliest_[arc.tail] + length(a) == latest_[arc.head];
  }

  void move(std::uint32_t instruction, std::size_t vertex) {
    vertex_[instruction] = vertex;
    durations_[instruction] = problem_.curve(instruction).times[vertex];
  }

  /// Longest paths to and from every event, after moves.
  void find_times() {
    const auto& order = problem_.event_order();
    earliest_.assign(problem_.events(), 0);
    for (const std::uint32_t event : order) {
      for (const std::uint32_t a : out_[event]) {
        Ticks& head = earliest_[problem_.arcs()[a].head];
        head = std::max(head, earliest_[event] + length(a));
      }
    }
    latest_.assign(problem_.events(), makespan());
    for (auto event = order.rbegin(); event != order.rend(); ++event) {
      for (const std::uint32_t a : out_[*event]) {
        latest_[*event] = std::min(latest_[*event], latest_[problem_.arcs()[a].head] - length(a));
      }
    }
  }

 private:
  [[nodiscard]] Ticks length(std::uint32_t a) const {
    return problem_.is_instruction(a) ? durations_[a] : problem_.arcs()[a].lag;
  }

  const Problem& problem_;
  std::vector<std::vector<std::uint32_t>> out_;
  std::vector<std::size_t> vertex_;
  std::vector<Ticks> durations_;
  std::vector<Ticks> earliest_;
  std::vector<Ticks> latest_;
};

Ticks fastest_makespan(const Problem& problem) {
  Position position(problem);
  for (std::uint32_t i = 0; i < problem.instructions(); ++i) position.move(i, 0);
  position.find_times();
  return position.makespan();
}

void set_room(FlowNetwork& network, const Problem& problem, const Position& position,
              const std::vector<Microwatts>& flow, std::uint32_t arc) {
  if (!position.is_critical(arc)) {
    assert(flow[arc] == 0 && "I3");
    network.set_room(arc, 0, 0);
    return;
  }
  Microwatts least = 0;
  Microwatts most = kUnlimited;
  if (problem.is_instruction(arc)) {
    const LinearCurve& curve = problem.curve(arc);
    const std::size_t vertex = position.vertex(arc);
    least = curve.slope(vertex + 1);
    if (vertex > 0) most = curve.slope(vertex);
  }
  assert(least <= flow[arc] && flow[arc] <= most && "I2");
  network.set_room(arc, most - flow[arc], flow[arc] - least);
}

/// Moves every instruction that crosses the cut by one vertex.
void move_across_cut(const FlowNetwork& network, const Problem& problem, Position& position) {
  for (std::uint32_t i = 0; i < problem.instructions(); ++i) {
    if (!position.is_critical(i)) continue;
    const Arc& arc = problem.arcs()[i];
    const bool from_source_side = network.is_reached(arc.tail);
    if (from_source_side == network.is_reached(arc.head)) continue;
    const std::size_t vertex = position.vertex(i);
    if (from_source_side) {
      assert(vertex > 0 && "a finite cut");
      position.move(i, vertex - 1);
    } else if (vertex < problem.curve(i).last()) {
      position.move(i, vertex + 1);
    }
  }
}

}  // namespace

void phillips_dessouky(const Problem& problem, const StepVisitor& visit, const ProgressObserver& observer) {
  const Ticks fastest = fastest_makespan(problem);
  Position position(problem);
  const Ticks slowest = position.makespan();
  FlowNetwork network(problem);
  std::vector<Microwatts> flow(problem.arcs().size(), 0);
  visit(slowest, position.durations());
  while (position.makespan() > fastest) {
    for (std::uint32_t a = 0; a < flow.size(); ++a) set_room(network, problem, position, flow, a);
    network.augment(flow);
    move_across_cut(network, problem, position);
    [[maybe_unused]] const Ticks before = position.makespan();
    position.find_times();
    assert(position.makespan() < before && "I1");
    visit(position.makespan(), position.durations());
    if (observer) {
      observer(static_cast<double>(slowest - position.makespan()) / static_cast<double>(slowest - fastest));
    }
  }
}

}  // namespace slackline
