#include "slackline/schedule/extreme_point.h"

#include <limits>
#include <queue>
#include <utility>
#include <vector>

namespace slackline {
namespace {

constexpr Ticks kUnbounded = std::numeric_limits<Ticks>::max();

struct Range {
  Ticks low = 0;
  Ticks high = kUnbounded;
};

/// Lengths of an arc that are optimal together with its flow.
Range optimal_lengths(const Problem& problem, std::uint32_t arc, Microwatts flow) {
  if (!problem.is_instruction(arc)) {
    const Ticks lag = problem.arcs()[arc].lag;
    return {lag, flow > 0 ? lag : kUnbounded};
  }
  const LinearCurve& curve = problem.curve(arc);
  std::size_t low = 0;
  while (low < curve.last() && curve.slope(low + 1) > flow) ++low;
  std::size_t high = low;
  while (high < curve.last() && curve.slope(high + 1) >= flow) ++high;
  return {curve.times[low], flow == 0 ? kUnbounded : curve.times[high]};
}

struct Edge {
  std::uint32_t to;
  Ticks slack;
};

/// Slack of the constraints as a graph: how far `to` may move relative to its neighbour, towards the root.
std::vector<std::vector<Edge>> slack_graph(const Problem& problem, const Optimum& optimum,
                                           bool towards_source) {
  std::vector<std::vector<Edge>> graph(problem.events());
  for (std::uint32_t a = 0; a < problem.arcs().size(); ++a) {
    const auto& [tail, head, lag] = problem.arcs()[a];
    const Ticks length = optimum.event_times[head] - optimum.event_times[tail];
    const Range range = optimal_lengths(problem, a, optimum.flow[a]);
    const auto [near, far] = towards_source ? std::pair(tail, head) : std::pair(head, tail);
    graph[near].push_back({far, length - range.low});
    if (range.high != kUnbounded) graph[far].push_back({near, range.high - length});
  }
  return graph;
}

std::vector<Ticks> distances(const std::vector<std::vector<Edge>>& graph, std::uint32_t root) {
  std::vector<Ticks> distance(graph.size(), kUnbounded);
  using Entry = std::pair<Ticks, std::uint32_t>;
  std::priority_queue<Entry, std::vector<Entry>, std::greater<>> queue;
  distance[root] = 0;
  queue.emplace(0, root);
  while (!queue.empty()) {
    const auto [reached, event] = queue.top();
    queue.pop();
    if (reached > distance[event]) continue;
    for (const Edge& edge : graph[event]) {
      if (reached + edge.slack >= distance[edge.to]) continue;
      distance[edge.to] = reached + edge.slack;
      queue.emplace(distance[edge.to], edge.to);
    }
  }
  return distance;
}

}  // namespace

Optimum earliest_point(const Problem& problem, const Optimum& optimum) {
  auto graph = slack_graph(problem, optimum, true);
  graph[problem.source()].push_back({problem.sink(), 0});  // the time itself stays
  const std::vector<Ticks> earlier = distances(graph, problem.source());
  Optimum point = optimum;
  for (std::uint32_t event = 0; event < problem.events(); ++event) point.event_times[event] -= earlier[event];
  return point;
}

Optimum latest_point(const Problem& problem, const Optimum& optimum) {
  auto graph = slack_graph(problem, optimum, false);
  graph[problem.sink()].push_back({problem.source(), 0});
  const std::vector<Ticks> later = distances(graph, problem.sink());
  Optimum point = optimum;
  for (std::uint32_t event = 0; event < problem.events(); ++event) point.event_times[event] += later[event];
  return point;
}

}  // namespace slackline
