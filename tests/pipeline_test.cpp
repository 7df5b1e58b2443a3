#include <algorithm>
#include <map>
#include <optional>
#include <set>

#include "catch.h"
#include "dice.h"
#include "pipeline_rules.h"
#include "slackline/base/error.h"
#include "slackline/pipeline/dag.h"
#include "slackline/pipeline/event_times.h"
#include "slackline/pipeline/order.h"

namespace slackline {
namespace {

std::string dag_error(const Order& order) {
  try {
    const Dag dag(order);
  } catch (const InputError& error) {
    return error.what();
  }
  return "accepted";
}

TEST_CASE("dag: an order that deadlocks is refused with a walk round the cycle", "[pipeline]") {
  // Stage 1 wants both forwards first; stage 0 wants the first backward before the second forward.
  const Order order{{forward(0, 0), backward(0, 0), forward(0, 1), backward(0, 1)},
                    {forward(1, 0), forward(1, 1), backward(1, 0), backward(1, 1)}};
  CHECK_FALSE(runs_to_the_end(order, static_cast<int>(order.size())));
  const std::string error = dag_error(order);
  CAPTURE(error);
  const std::string start = "order: the order can never run: ";
  REQUIRE(error.substr(0, start.size()) == start);
  std::vector<std::string> walk;
  for (std::size_t at = start.size(); at < error.size();) {
    const std::size_t arrow = std::min(error.find(" -> ", at), error.size());
    walk.push_back(error.substr(at, arrow - at));
    at = arrow + 4;
  }
  REQUIRE(walk.size() >= 3);
  CHECK(walk.front() == walk.back());
  CHECK(std::set<std::string>(walk.begin(), walk.end()).size() == walk.size() - 1);
  // Each step of the walk is a reason to wait.
  std::map<std::string, Instruction> by_name;
  for (const auto& stage : order) {
    for (const Instruction& i : stage) by_name[short_name(i)] = i;
  }
  for (std::size_t k = 1; k < walk.size(); ++k) {
    const Instruction& before = by_name.at(walk[k - 1]);
    const Instruction& after = by_name.at(walk[k]);
    const Needs needs = needs_of(after, 2);
    const bool is_input = std::any_of(needs.begin(), needs.end(), [&](const auto& need) {
      return std::find(need.begin(), need.end(), before) != need.end();
    });
    const auto& stage = order[after.stage.index()];
    const auto position = std::find(stage.begin(), stage.end(), after);
    const bool is_previous = position != stage.begin() && *(position - 1) == before;
    CHECK((is_input || is_previous));
  }
}

TEST_CASE("dag: random orders are refused exactly when a job that runs them would hang", "[pipeline]") {
  Dice dice(11);
  int refused = 0;
  for (int round = 0; round < 300; ++round) {
    Order order = make_order({"gpipe", dice.number(1, 4)}, dice.number(1, 3));
    for (auto& stage : order) {
      for (int swaps = dice.number(0, 3); swaps > 0; --swaps) {
        const int last = static_cast<int>(stage.size()) - 1;
        std::swap(stage[static_cast<std::size_t>(dice.number(0, last))],
                  stage[static_cast<std::size_t>(dice.number(0, last))]);
      }
    }
    const std::string error = dag_error(order);
    CHECK((error == "accepted") == runs_to_the_end(order, static_cast<int>(order.size())));
    if (error != "accepted") ++refused;
  }
  CHECK(refused > 30);
  CHECK(refused < 270);
}

TEST_CASE("dag: a long cycle is cut short in the message", "[pipeline]") {
  Order order = make_order({"gpipe", 8}, 8);
  std::reverse(order[7].begin(), order[7].end());
  const std::string error = dag_error(order);
  CHECK(error.find("can never run") != std::string::npos);
  CHECK(error.size() < 300);
}

TEST_CASE("dag: a missing or doubled instruction is refused by its name", "[pipeline]") {
  Order missing = make_order({"1f1b", 2}, 2);
  missing[1].pop_back();  // B1@1, which B1@0 waits for
  CHECK(dag_error(missing) == "order: B1@1 is missing");
  Order doubled = make_order({"1f1b", 2}, 2);
  doubled[0].push_back(forward(0, 1));
  CHECK(dag_error(doubled) == "order: F1@0 comes twice");
}

/// The longest of the lags (by stage; empty: 0) with which `producer` meets `needs`; nothing if it meets
/// none.
std::optional<Ticks> longest_lag(const Instruction& producer, const Needs& needs,
                                 const std::vector<Ticks>& lags) {
  std::vector<Instruction> results{producer};
  if (producer.kind == InstructionKind::kOverlapped)
    results = {forward_part(producer), backward_part(producer)};
  std::optional<Ticks> longest;
  for (const auto& need : needs) {
    for (const Instruction& result : results) {
      if (std::find(need.begin(), need.end(), result) == need.end()) continue;
      longest = std::max(longest.value_or(0), lags.empty() ? 0 : lags[result.stage.index()]);
    }
  }
  return longest;
}

/// Predecessors by the rules, without the Dag: the one before on the rank, and what it needs of other ranks.
std::vector<std::vector<std::size_t>> rule_predecessors(const Order& order) {
  std::vector<Instruction> all;
  std::vector<std::size_t> rank_of;
  for (std::size_t rank = 0; rank < order.size(); ++rank) {
    all.insert(all.end(), order[rank].begin(), order[rank].end());
    rank_of.resize(all.size(), rank);
  }
  std::vector<std::vector<std::size_t>> predecessors(all.size());
  for (std::size_t i = 0; i < all.size(); ++i) {
    const Needs needs = needs_of(all[i], stage_count(order));
    for (std::size_t j = 0; j < all.size(); ++j) {
      const bool is_previous = j + 1 == i && rank_of[j] == rank_of[i];
      const bool is_needed = rank_of[j] != rank_of[i] && longest_lag(all[j], needs, {}).has_value();
      if (is_previous || is_needed) predecessors[i].push_back(j);
    }
  }
  return predecessors;
}

bool is_same_rank(const Dag& dag, std::size_t a, std::size_t b) {
  for (int rank = 0; rank < dag.ranks(); ++rank) {
    const std::size_t end = dag.rank_begin(rank + 1);
    if (a < end || b < end) return a < end && b < end;
  }
  return false;
}

/// A legal order of any name.
Order random_order(Dice& dice, int most_ranks, int most_microbatches) {
  while (true) {
    const auto& names = order_names();
    const std::string& name =
        names[static_cast<std::size_t>(dice.number(0, static_cast<int>(names.size()) - 1))];
    const int ranks = dice.number(1, most_ranks);
    try {
      return make_order({name, dice.number(1, most_microbatches)}, ranks * default_chunks(name));
    } catch (const InputError&) {  // not with these numbers
    }
  }
}

/// One lag a stage; the same order has the same.
std::vector<Ticks> some_lags(Dice& dice, const Order& order) {
  std::vector<Ticks> lags;
  for (int s = 0; s < stage_count(order); ++s) lags.push_back(dice.number(0, 30));
  return lags;
}

TEST_CASE("dag: its edges are the order along each rank and what comes from others, once each",
          "[pipeline]") {
  Dice dice(10);
  for (int round = 0; round < 150; ++round) {
    const Order order = random_order(dice, 5, 12);
    const std::vector<Ticks> lags = some_lags(dice, order);
    const Dag dag(order, lags);
    const auto expected = rule_predecessors(order);
    REQUIRE(dag.size() == expected.size());
    CHECK(dag.stages() == stage_count(order));
    CHECK(dag.ranks() == static_cast<int>(order.size()));
    std::size_t edges = 0;
    std::size_t forward_edges = 0;
    for (InstructionIndex i = 0; i < dag.size(); ++i) {
      std::vector<std::size_t> found;
      for (const auto& [before, lag] : dag.predecessors(i)) {
        found.push_back(before);
        const Needs needs = needs_of(dag.instructions()[i], dag.stages());
        CHECK(lag ==
              (is_same_rank(dag, i, before) ? 0 : longest_lag(dag.instructions()[before], needs, lags)));
      }
      CHECK(found == expected[i]);
      edges += expected[i].size();
      for (const auto& [next, lag] : dag.successors(i)) {
        CHECK(std::find(expected[next].begin(), expected[next].end(), i) != expected[next].end());
        ++forward_edges;
      }
    }
    CHECK(forward_edges == edges);
  }
}

TEST_CASE("dag: ranks begin where they should and the topological order respects every edge", "[pipeline]") {
  Dice dice(15);
  for (int round = 0; round < 150; ++round) {
    const Order order = random_order(dice, 6, 16);
    const Dag dag(order);
    InstructionIndex begin = 0;
    for (std::size_t r = 0; r < order.size(); ++r) {
      CHECK(dag.rank_begin(static_cast<int>(r)) == begin);
      begin += static_cast<InstructionIndex>(order[r].size());
    }
    std::vector<std::size_t> position(dag.size(), dag.size());
    for (std::size_t k = 0; k < dag.size(); ++k) position[dag.topological_order()[k]] = k;
    bool respected = true;
    for (InstructionIndex i = 0; i < dag.size(); ++i) {
      for (const auto& [next, lag] : dag.successors(i)) respected = respected && position[i] < position[next];
    }
    CHECK(respected);
  }
}

TEST_CASE("dag: the Graphviz text has every instruction, its label and every edge", "[pipeline]") {
  const Dag dag(make_order({"1f1b", 4}, 3));
  const std::string text = dag.graphviz([](InstructionIndex i) { return "label" + std::to_string(i) + "."; });
  std::size_t edges = 0;
  for (InstructionIndex i = 0; i < dag.size(); ++i) {
    CHECK(text.find("label=\"" + short_name(dag.instructions()[i]) + "\\nlabel" + std::to_string(i) +
                    ".\"") != std::string::npos);
    for (const auto& [next, lag] : dag.successors(i)) {
      CHECK(text.find(std::to_string(i) + "->" + std::to_string(next)) != std::string::npos);
      ++edges;
    }
  }
  std::size_t arrows = 0;
  for (std::size_t at = text.find("->"); at != std::string::npos; at = text.find("->", at + 1)) ++arrows;
  CHECK(arrows == edges);
  CHECK(dag.graphviz().find("label=\"F0@0\"") != std::string::npos);
}

struct Case {
  Order order;
  std::vector<Ticks> lags;
  Dag dag;
  std::vector<Ticks> durations;
};

Case random_case(Dice& dice) {
  Order order = random_order(dice, 5, 8);
  std::vector<Ticks> lags = some_lags(dice, order);
  Dag dag(order, lags);
  std::vector<Ticks> durations;
  for (std::size_t i = 0; i < dag.size(); ++i) durations.push_back(dice.number(1, 50));
  return {std::move(order), std::move(lags), std::move(dag), std::move(durations)};
}

TEST_CASE("event_times: earliest and latest times are longest paths", "[pipeline]") {
  // By relaxing all pairs until nothing changes; shares nothing with the Dag.
  Dice dice(12);
  for (int round = 0; round < 60; ++round) {
    const Case c = random_case(dice);
    const auto predecessors = rule_predecessors(c.order);
    const std::size_t n = predecessors.size();
    std::vector<Ticks> start(n, 0);
    std::vector<Ticks> tail(n, 0);  // longest path behind the instruction
    for (bool changed = true; changed;) {
      changed = false;
      for (std::size_t i = 0; i < n; ++i) {
        for (const std::size_t j : predecessors[i]) {
          const Needs needs = needs_of(c.dag.instructions()[i], c.dag.stages());
          const Ticks lag =
              is_same_rank(c.dag, i, j) ? 0 : *longest_lag(c.dag.instructions()[j], needs, c.lags);
          const Ticks after = start[j] + c.durations[j] + lag;
          const Ticks behind = lag + c.durations[i] + tail[i];
          changed = changed || after > start[i] || behind > tail[j];
          start[i] = std::max(start[i], after);
          tail[j] = std::max(tail[j], behind);
        }
      }
    }
    Ticks makespan = 0;
    for (std::size_t i = 0; i < n; ++i) makespan = std::max(makespan, start[i] + c.durations[i]);

    const EventTimes times = event_times(c.dag, c.durations);
    const Ticks limit = makespan + dice.number(0, 100);
    const EventTimes relaxed = event_times(c.dag, c.durations, limit);
    CHECK(times.makespan == makespan);
    CHECK(relaxed.makespan == makespan);
    for (std::size_t i = 0; i < n; ++i) {
      CHECK(times.earliest_start[i] == start[i]);
      CHECK(times.latest_end[i] == makespan - tail[i]);
      CHECK(relaxed.latest_end[i] == limit - tail[i]);
    }
  }
}

TEST_CASE("event_times: slack is exactly how much longer one instruction may take", "[pipeline]") {
  Dice dice(13);
  for (int round = 0; round < 30; ++round) {
    Case c = random_case(dice);
    const EventTimes times = event_times(c.dag, c.durations);
    const auto i = static_cast<InstructionIndex>(dice.number(0, static_cast<int>(c.dag.size()) - 1));
    const Ticks slack = times.slack(i, c.durations[i]);
    CHECK(slack >= 0);
    c.durations[i] += slack;
    CHECK(event_times(c.dag, c.durations).makespan == times.makespan);
    c.durations[i] += 1;
    CHECK(event_times(c.dag, c.durations).makespan == times.makespan + 1);
  }
}

TEST_CASE("event_times: the critical path is a path, and as long as the iteration", "[pipeline]") {
  Dice dice(14);
  for (int round = 0; round < 200; ++round) {
    const Case c = random_case(dice);
    const std::vector<InstructionIndex> path = critical_path(c.dag, c.durations);
    REQUIRE_FALSE(path.empty());
    Ticks length = 0;
    for (std::size_t k = 0; k < path.size(); ++k) {
      length += c.durations[path[k]];
      if (k == 0) continue;
      const auto next = c.dag.successors(path[k - 1]);
      const auto step = std::find_if(next.begin(), next.end(),
                                     [&](const Dependency& d) { return d.instruction == path[k]; });
      REQUIRE(step != next.end());
      length += step->lag;
    }
    CHECK(length == event_times(c.dag, c.durations).makespan);
  }
}

TEST_CASE("dag: short names say kind, microbatch and stage", "[pipeline]") {
  CHECK(short_name(forward(1, 3)) == "F3@1");
  CHECK(short_name(backward(0, 12)) == "B12@0");
  CHECK(short_name({InstructionKind::kOverlapped, StageId(0), MicrobatchId(7), StageId(5),
                    MicrobatchId(2)}) == "F7@0&B2@5");
}

}  // namespace
}  // namespace slackline
