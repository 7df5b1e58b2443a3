#include <algorithm>
#include <map>
#include <set>

#include "catch.h"
#include "dice.h"
#include "slackline/base/error.h"
#include "slackline/pipeline/dag.h"
#include "slackline/pipeline/event_times.h"
#include "slackline/pipeline/order.h"

namespace slackline {
namespace {

constexpr auto kForward = InstructionKind::kForward;
constexpr auto kBackward = InstructionKind::kBackward;

Instruction forward(int stage, int microbatch) {
  return {kForward, StageId(stage), MicrobatchId(microbatch)};
}
Instruction backward(int stage, int microbatch) {
  return {kBackward, StageId(stage), MicrobatchId(microbatch)};
}

/// What makes the input of `instruction`, written down anew from the rules of a pipeline.
std::vector<Instruction> inputs_of(const Instruction& instruction, int stages) {
  const int stage = instruction.stage.value();
  const int microbatch = instruction.microbatch.value();
  if (instruction.kind == kForward) {
    return stage == 0 ? std::vector<Instruction>{} : std::vector<Instruction>{forward(stage - 1, microbatch)};
  }
  return {stage + 1 == stages ? forward(stage, microbatch) : backward(stage + 1, microbatch)};
}

/// Runs an order as a job would: every stage waits for the input of its next instruction, and nothing else.
/// True if all of it runs.
bool runs_to_the_end(const Order& order) {
  const int stages = static_cast<int>(order.size());
  std::vector<std::size_t> next(order.size(), 0);
  std::vector<Instruction> done;
  const auto is_done = [&](const Instruction& i) {
    return std::find(done.begin(), done.end(), i) != done.end();
  };
  for (bool progress = true; progress;) {
    progress = false;
    for (std::size_t s = 0; s < order.size(); ++s) {
      if (next[s] == order[s].size()) continue;
      const std::vector<Instruction> inputs = inputs_of(order[s][next[s]], stages);
      if (!std::all_of(inputs.begin(), inputs.end(), is_done)) continue;
      done.push_back(order[s][next[s]++]);
      progress = true;
    }
  }
  std::size_t total = 0;
  for (const auto& stage : order) total += stage.size();
  return done.size() == total;
}

/// Every order of a size that is small enough to simulate naively.
template <class Visit>
void for_each_order(Visit visit) {
  for (const std::string& name : order_names()) {
    for (int stages = 1; stages <= 8; ++stages) {
      for (const int microbatches : {1, 2, 3, 4, 7, 8, 9, 16, 32}) {
        CAPTURE(name, stages, microbatches);
        visit(name, stages, microbatches, make_order(name, stages, microbatches));
      }
    }
  }
}

TEST_CASE("order: each stage runs each microbatch forward once and backward once, in turn", "[pipeline]") {
  for_each_order([](const std::string&, int stages, int microbatches, const Order& order) {
    REQUIRE(order.size() == static_cast<std::size_t>(stages));
    for (int s = 0; s < stages; ++s) {
      std::map<InstructionKind, int> next;
      for (const Instruction& instruction : order[static_cast<std::size_t>(s)]) {
        CHECK(instruction.stage == StageId(s));
        CHECK(instruction.microbatch == MicrobatchId(next[instruction.kind]++));
        CHECK(next[kBackward] <= next[kForward]);
      }
      CHECK(next[kForward] == microbatches);
      CHECK(next[kBackward] == microbatches);
    }
  });
}

TEST_CASE("order: no stage ever waits for what waits for it", "[pipeline]") {
  for_each_order([](const std::string&, int, int, const Order& order) { CHECK(runs_to_the_end(order)); });
}

TEST_CASE("order: 1F1B warms up with min(S-1-s, M) forwards, alternates, then drains", "[pipeline]") {
  for_each_order([](const std::string& name, int stages, int microbatches, const Order& order) {
    if (name != "1f1b") return;
    for (int s = 0; s < stages; ++s) {
      // Position k of the stage, in closed form.
      const int warm_up = std::min(stages - 1 - s, microbatches);
      for (int k = 0; k < 2 * microbatches; ++k) {
        const int after = k - warm_up;
        Instruction expected;
        if (after < 0) {
          expected = forward(s, k);
        } else if (after < 2 * (microbatches - warm_up)) {
          expected = after % 2 == 0 ? forward(s, warm_up + after / 2) : backward(s, after / 2);
        } else {
          expected = backward(s, k - microbatches);
        }
        CHECK(order[static_cast<std::size_t>(s)][static_cast<std::size_t>(k)] == expected);
      }
    }
  });
}

TEST_CASE("order: 1F1B holds the activations of at most S-s microbatches on stage s", "[pipeline]") {
  for_each_order([](const std::string& name, int stages, int microbatches, const Order& order) {
    for (int s = 0; s < stages; ++s) {
      int held = 0;
      int most = 0;
      for (const Instruction& i : order[static_cast<std::size_t>(s)]) {
        held += i.kind == kForward ? 1 : -1;
        most = std::max(most, held);
      }
      CHECK(most == (name == "1f1b" ? std::min(stages - s, microbatches) : microbatches));
    }
  });
}

TEST_CASE("order: equal stages take (M + S - 1) (forward + backward)", "[pipeline]") {
  for_each_order([](const std::string&, int stages, int microbatches, const Order& order) {
    const Dag dag(order);
    std::vector<Ticks> durations;
    for (const Instruction& i : dag.instructions()) durations.push_back(i.kind == kForward ? 10 : 23);
    CHECK(event_times(dag, durations).makespan == (microbatches + stages - 1) * (10 + 23));
  });
}

TEST_CASE("order: an unknown name and a count that cannot be are refused, naming the flag", "[pipeline]") {
  const auto key_of_error = [](std::string_view name, int stages, std::int64_t microbatches) {
    try {
      (void)make_order(name, stages, microbatches);
    } catch (const InputError& error) {
      return error.key();
    }
    return std::string("accepted");
  };
  CHECK(key_of_error("2f2b", 4, 4) == "--order");
  CHECK(key_of_error("", 4, 4) == "--order");
  CHECK(key_of_error("1f1b", 0, 4) == "--stages");
  CHECK(key_of_error("1f1b", -1, 4) == "--stages");
  CHECK(key_of_error("1f1b", 4, 0) == "--microbatches");
  CHECK(key_of_error("1f1b", 4, -7) == "--microbatches");
  CHECK(key_of_error("gpipe", 8, 1'000'000'000) == "--microbatches");
  CHECK(key_of_error("1f1b", 8, std::numeric_limits<std::int64_t>::max()) == "--microbatches");
  CHECK(key_of_error("1f1b", 8, kMaxInstructions / 16 + 1) == "--microbatches");
}

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
  CHECK_FALSE(runs_to_the_end(order));
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
    const auto inputs = inputs_of(after, 2);
    const bool is_input = std::find(inputs.begin(), inputs.end(), before) != inputs.end();
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
    Order order = make_order("gpipe", dice.number(1, 3), dice.number(1, 4));
    for (auto& stage : order) {
      for (int swaps = dice.number(0, 3); swaps > 0; --swaps) {
        const int last = static_cast<int>(stage.size()) - 1;
        std::swap(stage[static_cast<std::size_t>(dice.number(0, last))],
                  stage[static_cast<std::size_t>(dice.number(0, last))]);
      }
    }
    const std::string error = dag_error(order);
    CHECK((error == "accepted") == runs_to_the_end(order));
    if (error != "accepted") ++refused;
  }
  CHECK(refused > 30);
  CHECK(refused < 270);
}

TEST_CASE("dag: a long cycle is cut short in the message", "[pipeline]") {
  Order order = make_order("gpipe", 8, 8);
  std::reverse(order[7].begin(), order[7].end());
  const std::string error = dag_error(order);
  CHECK(error.find("can never run") != std::string::npos);
  CHECK(error.size() < 300);
}

TEST_CASE("dag: a missing or doubled instruction is refused by its name", "[pipeline]") {
  Order missing = make_order("1f1b", 2, 2);
  missing[1].pop_back();  // B1@1, which B1@0 waits for
  CHECK(dag_error(missing) == "order: B1@1 is missing");
  Order doubled = make_order("1f1b", 2, 2);
  doubled[0].push_back(forward(0, 1));
  CHECK(dag_error(doubled) == "order: F1@0 comes twice");
}

/// Predecessors by the rules, without the Dag: the one before on the stage, and the inputs.
std::vector<std::vector<std::size_t>> rule_predecessors(const Order& order) {
  std::vector<Instruction> all;
  for (const auto& stage : order) all.insert(all.end(), stage.begin(), stage.end());
  std::vector<std::vector<std::size_t>> predecessors(all.size());
  for (std::size_t i = 0; i < all.size(); ++i) {
    const auto inputs = inputs_of(all[i], static_cast<int>(order.size()));
    for (std::size_t j = 0; j < all.size(); ++j) {
      const bool is_previous = j + 1 == i && all[j].stage == all[i].stage;
      if (is_previous || std::find(inputs.begin(), inputs.end(), all[j]) != inputs.end()) {
        predecessors[i].push_back(j);
      }
    }
  }
  return predecessors;
}

TEST_CASE("dag: its edges are the order along each stage and the inputs, once each", "[pipeline]") {
  for_each_order([](const std::string&, int stages, int microbatches, const Order& order) {
    if (microbatches > 9) return;
    const Dag dag(order);
    const auto expected = rule_predecessors(order);
    REQUIRE(dag.size() == expected.size());
    CHECK(dag.stages() == stages);
    std::size_t forward_edges = 0;
    for (InstructionIndex i = 0; i < dag.size(); ++i) {
      const auto found = dag.predecessors(i);
      CHECK(std::vector<std::size_t>(found.begin(), found.end()) == expected[i]);
      for (const InstructionIndex next : dag.successors(i)) {
        CHECK(std::find(expected[next].begin(), expected[next].end(), i) != expected[next].end());
        ++forward_edges;
      }
    }
    std::size_t edges = 0;
    for (const auto& before : expected) edges += before.size();
    CHECK(forward_edges == edges);
  });
}

TEST_CASE("dag: stages begin where they should and the topological order respects every edge", "[pipeline]") {
  for_each_order([](const std::string&, int stages, int microbatches, const Order& order) {
    const Dag dag(order);
    for (int s = 0; s <= stages; ++s) {
      CHECK(dag.stage_begin(s) == static_cast<InstructionIndex>(2 * microbatches * s));
    }
    std::vector<std::size_t> position(dag.size(), dag.size());
    for (std::size_t k = 0; k < dag.size(); ++k) position[dag.topological_order()[k]] = k;
    bool respected = true;
    for (InstructionIndex i = 0; i < dag.size(); ++i) {
      for (const InstructionIndex next : dag.successors(i))
        respected = respected && position[i] < position[next];
    }
    CHECK(respected);
  });
}

TEST_CASE("dag: the Graphviz text has every instruction, its label and every edge", "[pipeline]") {
  const Dag dag(make_order("1f1b", 3, 4));
  const std::string text = dag.graphviz([](InstructionIndex i) { return "label" + std::to_string(i) + "."; });
  std::size_t edges = 0;
  for (InstructionIndex i = 0; i < dag.size(); ++i) {
    CHECK(text.find("label=\"" + short_name(dag.instructions()[i]) + "\\nlabel" + std::to_string(i) +
                    ".\"") != std::string::npos);
    for (const InstructionIndex next : dag.successors(i)) {
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
  Dag dag;
  std::vector<Ticks> durations;
};

Case random_case(Dice& dice) {
  Order order = make_order(order_names()[static_cast<std::size_t>(dice.number(0, 1))], dice.number(1, 6),
                           dice.number(1, 8));
  Dag dag(order);
  std::vector<Ticks> durations;
  for (std::size_t i = 0; i < dag.size(); ++i) durations.push_back(dice.number(1, 50));
  return {std::move(order), std::move(dag), std::move(durations)};
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
          const Ticks after = start[j] + c.durations[j];
          const Ticks behind = c.durations[i] + tail[i];
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
      CHECK(std::find(next.begin(), next.end(), path[k]) != next.end());
    }
    CHECK(length == event_times(c.dag, c.durations).makespan);
  }
}

TEST_CASE("dag: short names say kind, microbatch and stage", "[pipeline]") {
  CHECK(short_name(forward(1, 3)) == "F3@1");
  CHECK(short_name(backward(0, 12)) == "B12@0");
}

}  // namespace
}  // namespace slackline
