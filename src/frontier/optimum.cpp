#include "slackline/frontier/optimum.h"

#include <algorithm>

namespace slackline {
namespace {

std::string check_primal(const Problem& problem, const Optimum& optimum) {
  const auto& times = optimum.event_times;
  if (times.size() != problem.events()) return "there is not one time for each event";
  if (times[problem.source()] != 0) return "the source is not at time 0";
  for (const Ticks time : times) {
    if (time < 0 || time > kMaxTicks) return "an event time is out of range";
  }
  for (std::uint32_t a = 0; a < problem.arcs().size(); ++a) {
    const Ticks length = times[problem.arcs()[a].head] - times[problem.arcs()[a].tail];
    const Ticks least = problem.is_instruction(a) ? problem.curve(a).times.front() : problem.arcs()[a].lag;
    if (length < least) {
      return problem.is_instruction(a)
                 ? "instruction " + std::to_string(a) + " is faster than its fastest option"
                 : "precedence is violated on arc " + std::to_string(a);
    }
  }
  return {};
}

std::string check_dual(const Problem& problem, const std::vector<Microwatts>& flow) {
  if (flow.size() != problem.arcs().size()) return "there is not one flow for each arc";
  std::vector<Cost> excess(problem.events(), 0);
  for (std::uint32_t a = 0; a < flow.size(); ++a) {
    if (flow[a] < 0) return "the flow on arc " + std::to_string(a) + " is negative";
    excess[problem.arcs()[a].tail] -= flow[a];
    excess[problem.arcs()[a].head] += flow[a];
  }
  for (std::uint32_t event = 0; event < excess.size(); ++event) {
    if (event == problem.source() || event == problem.sink()) continue;
    if (excess[event] != 0) return "flow is not conserved at event " + std::to_string(event);
  }
  return {};
}

Cost flow_value(const Problem& problem, const std::vector<Microwatts>& flow) {
  Cost value = 0;
  for (std::uint32_t a = problem.instructions(); a < flow.size(); ++a) {
    if (problem.arcs()[a].tail == problem.source()) value += flow[a];
    if (problem.arcs()[a].head == problem.source()) value -= flow[a];
  }
  return value;
}

}  // namespace

Cost primal_cost(const Problem& problem, const Optimum& optimum) {
  Cost cost = 0;
  for (std::uint32_t i = 0; i < problem.instructions(); ++i) cost += problem.curve(i).cost(optimum.window(i));
  return cost;
}

Cost dual_bound(const Problem& problem, const std::vector<Microwatts>& flow, Ticks time) {
  // Pricing time on every arc by the flow, each instruction picks its cheapest duration on its own;
  // conservation turns the prices of all arcs into flow value * iteration time.
  Cost bound = -flow_value(problem, flow) * time;
  for (std::uint32_t i = 0; i < problem.instructions(); ++i) {
    const LinearCurve& curve = problem.curve(i);
    Cost least = curve.costs.front() + static_cast<Cost>(flow[i]) * curve.times.front();
    for (std::size_t j = 1; j < curve.times.size(); ++j) {
      least = std::min(least, curve.costs[j] + static_cast<Cost>(flow[i]) * curve.times[j]);
    }
    bound += least;
  }
  for (std::uint32_t a = problem.instructions(); a < flow.size(); ++a) {
    bound += static_cast<Cost>(flow[a]) * problem.arcs()[a].lag;
  }
  return bound;
}

std::string check_certificate(const Problem& problem, const Optimum& optimum) {
  if (std::string fault = check_primal(problem, optimum); !fault.empty()) return fault;
  if (std::string fault = check_dual(problem, optimum.flow); !fault.empty()) return fault;
  const Ticks time = optimum.event_times[problem.sink()];
  if (primal_cost(problem, optimum) != dual_bound(problem, optimum.flow, time)) {
    return "the cost of the durations is not the bound that the flow proves";
  }
  return {};
}

}  // namespace slackline
