#include "slackline/pipeline/order.h"

#include <fstream>
#include <map>
#include <sstream>

#include "catch.h"
#include "pipeline_rules.h"
#include "slackline/base/error.h"
#include "slackline/base/file.h"
#include "slackline/pipeline/dag.h"
#include "slackline/pipeline/order_csv.h"
#include "slackline/pipeline/order_kinds.h"

namespace slackline {
namespace {

/// The order, or nothing if these numbers are refused.
std::optional<Order> order_of(const OrderSpec& spec, int stages) {
  try {
    return make_order(spec, stages);
  } catch (const InputError&) {
    return std::nullopt;
  }
}

/// Every order of up to 8 ranks, 4 chunks and 32 microbatches.
template <class Visit>
void for_each_order(Visit visit) {
  for (const std::string& name : order_names()) {
    for (int ranks = 1; ranks <= 8; ++ranks) {
      for (int chunks = 1; chunks <= 4; ++chunks) {
        for (int microbatches = 1; microbatches <= 32; ++microbatches) {
          const auto order = order_of({name, microbatches, chunks}, ranks * chunks);
          if (!order) continue;
          CAPTURE(name, ranks, chunks, microbatches);
          visit(name, ranks, chunks, microbatches, *order);
        }
      }
    }
  }
}

/// Every order of one chunk a rank.
template <class Visit>
void for_each_plain_order(Visit visit) {
  for_each_order([&](const std::string& name, int ranks, int, int microbatches, const Order& order) {
    if (name == "1f1b" || name == "gpipe") visit(name, ranks, microbatches, order);
  });
}

TEST_CASE("order: none deadlocks, by simulation and by its DAG", "[order]") {
  std::map<std::string, int> sizes;
  for_each_order([&](const std::string& name, int ranks, int chunks, int, const Order& order) {
    const int stages = name == "dualpipe" ? ranks : ranks * chunks;
    if (!runs_to_the_end(order, stages)) CHECK(false);
    CHECK_NOTHROW(Dag(order));
    ++sizes[name];
  });
  CHECK(sizes.size() == order_names().size());
  for (const auto& [name, count] : sizes) {
    CAPTURE(name);
    CHECK(count >= 16);
  }
}

TEST_CASE("order: every stage runs every microbatch forward once, and backward once in one form", "[order]") {
  for_each_order([](const std::string&, int, int, int microbatches, const Order& order) {
    std::map<std::tuple<InstructionKind, StageId, MicrobatchId>, int> count;
    const auto add = [&](const Instruction& i) { ++count[{i.kind, i.stage, i.microbatch}]; };
    for (const auto& row : order) {
      for (const Instruction& i : row) {
        if (i.kind == InstructionKind::kOverlapped) {
          add(forward_part(i));
          add(backward_part(i));
        } else {
          add(i);
        }
      }
    }
    bool right = true;
    for (int s = 0; s < stage_count(order); ++s) {
      for (int m = 0; m < microbatches; ++m) {
        const auto of = [&](InstructionKind kind) {
          const auto found = count.find({kind, StageId(s), MicrobatchId(m)});
          return found == count.end() ? 0 : found->second;
        };
        const int split = of(InstructionKind::kBackwardInput);
        right = right && of(kForward) == 1 && split == of(InstructionKind::kBackwardWeight) &&
                of(kBackward) + of(InstructionKind::kForwardBackward) + split == 1 &&
                of(InstructionKind::kRecompute) <= of(kBackward);
      }
    }
    CHECK(right);
  });
}

TEST_CASE("order: 1F1B warms up with min(P-1-r, M) forwards, alternates, then drains", "[order]") {
  for_each_plain_order([](const std::string& name, int ranks, int microbatches, const Order& order) {
    if (name != "1f1b") return;
    for (int r = 0; r < ranks; ++r) {
      // Position k of the rank, in closed form.
      const int warm_up = std::min(ranks - 1 - r, microbatches);
      for (int k = 0; k < 2 * microbatches; ++k) {
        const int after = k - warm_up;
        Instruction expected;
        if (after < 0) {
          expected = forward(r, k);
        } else if (after < 2 * (microbatches - warm_up)) {
          expected = after % 2 == 0 ? forward(r, warm_up + after / 2) : backward(r, after / 2);
        } else {
          expected = backward(r, k - microbatches);
        }
        CHECK(order[static_cast<std::size_t>(r)][static_cast<std::size_t>(k)] == expected);
      }
    }
  });
}

/// Most microbatches whose activations a rank holds at once, over its chunks.
int most_held(const std::vector<Instruction>& row) {
  int held = 0;
  int most = 0;
  for (const Instruction& i : row) {
    if (i.kind == kForward) most = std::max(most, ++held);
    if (i.kind == kBackward || i.kind == InstructionKind::kBackwardWeight) --held;
  }
  return most;
}

TEST_CASE("order: what a rank holds at once is what its order is known for", "[order]") {
  for_each_order([](const std::string& name, int ranks, int chunks, int microbatches, const Order& order) {
    for (int r = 0; r < ranks; ++r) {
      const int held = most_held(order[static_cast<std::size_t>(r)]);
      if (name == "1f1b") CHECK(held == std::min(ranks - r, microbatches));
      if (name == "gpipe" || name == "looped-bfs") CHECK(held == microbatches * chunks);
      // ZB-H1 has the memory of 1F1B's first rank everywhere, ZB-V twice the half-sized chunks.
      if (name == "zb-h1" && chunks == 1) CHECK(held <= ranks);
      if (name == "zbv") CHECK(held <= 2 * ranks);
    }
  });
}

TEST_CASE("order: equal stages take (M + S - 1) (forward + backward)", "[order]") {
  for_each_plain_order([](const std::string&, int ranks, int microbatches, const Order& order) {
    const Dag dag(order);
    std::vector<Ticks> end(dag.size(), 0);
    Ticks last = 0;
    for (const InstructionIndex i : dag.topological_order()) {
      Ticks begin = 0;
      for (const auto& [before, lag] : dag.predecessors(i)) begin = std::max(begin, end[before]);
      end[i] = begin + (dag.instructions()[i].kind == kForward ? 10 : 23);
      last = std::max(last, end[i]);
    }
    CHECK(last == (microbatches + ranks - 1) * (10 + 23));
  });
}

TEST_CASE("order: zero bubble fills the drain with weight gradients", "[order]") {
  // With forward = input = weight time, 1F1B idles (P-1)(F+B) on a rank; ZB-H1 a third of that.
  for (const int ranks : {2, 4, 8}) {
    const int microbatches = 4 * ranks;
    const auto makespan = [&](const char* name) {
      const Dag dag(make_order({name, microbatches}, ranks));
      std::vector<Ticks> end(dag.size(), 0);
      Ticks last = 0;
      for (const InstructionIndex i : dag.topological_order()) {
        Ticks begin = 0;
        for (const auto& [before, lag] : dag.predecessors(i)) begin = std::max(begin, end[before]);
        end[i] = begin + (dag.instructions()[i].kind == kBackward ? 2 : 1);
        last = std::max(last, end[i]);
      }
      return last;
    };
    CHECK(makespan("1f1b") == 3 * microbatches + 3 * (ranks - 1));
    CHECK(makespan("zb-h1") == 3 * microbatches + (ranks - 1));
  }
}

TEST_CASE("order: early recompute puts a recompute before each backward that drains", "[order]") {
  const Order order = make_order({"early-recompute-1f1b", 6}, 4);
  std::string first;
  for (const Instruction& i : order[0]) first += short_name(i) + " ";
  CHECK(first == "F0@0 F1@0 F2@0 F3@0 FB0@0 F4@0 FB1@0 F5@0 FB2@0 R3@0 B3@0 R4@0 B4@0 R5@0 B5@0 ");
  for (const Instruction& i : order[3]) {
    CHECK((i.kind == kForward || i.kind == InstructionKind::kForwardBackward));
  }
}

std::string without_idle_steps(const std::string& text) {
  std::string compact;
  std::istringstream lines(text);
  for (std::string line; std::getline(lines, line);) {
    if (line.ends_with('\r')) line.pop_back();
    std::istringstream cells(line);
    std::string row;
    for (std::string cell; std::getline(cells, cell, ',');) {
      if (!cell.empty()) row += (row.empty() ? "" : ",") + cell;
    }
    compact += row + "\n";
  }
  return compact;
}

std::string torch_dump(const std::string& name) {
  return read_file(SLACKLINE_SOURCE_DIR "/tests/data/torch-orders/" + name + ".csv");
}

TEST_CASE("order: those that torch has are torch's", "[order]") {
  const auto csv_of = [](const OrderSpec& spec) { return order_csv(make_order(spec, 8)); };
  CHECK(csv_of({"interleaved-1f1b", 8, 2}) == without_idle_steps(torch_dump("Interleaved1F1B")));
  CHECK(csv_of({"zb-h1", 8, 2}) == without_idle_steps(torch_dump("InterleavedZeroBubble")));
  CHECK(csv_of({"looped-bfs", 4, 2}) == without_idle_steps(torch_dump("LoopedBFS")));
  CHECK(csv_of({"zbv", 8}) == without_idle_steps(torch_dump("zbv_compute")));
}

TEST_CASE("order csv: torch's files read back, with communication or without", "[order]") {
  for (const char* name : {"Interleaved1F1B", "InterleavedZeroBubble", "LoopedBFS", "zbv_compute"}) {
    const OrderSpec spec = parse_order_csv(name, torch_dump(name));
    CHECK(order_csv(spec.rows) == without_idle_steps(torch_dump(name)));
    CHECK(spec.microbatches == (std::string(name) == "LoopedBFS" ? 4 : 8));
    CHECK(make_order(spec, 8) == spec.rows);
  }
  CHECK(parse_order_csv("c", torch_dump("zbv_comms")) == parse_order_csv("c", torch_dump("zbv_compute")));
}

TEST_CASE("order csv: every order that the format can say reads back", "[order]") {
  for_each_order([](const std::string& name, int, int, int microbatches, const Order& order) {
    if (name == "dualpipe" || name == "early-recompute-1f1b") {
      CHECK_THROWS_AS(order_csv(order), InputError);
      return;
    }
    const std::string text = order_csv(order);
    const OrderSpec spec = parse_order_csv("o.csv", text);
    CHECK(spec.rows == order);
    CHECK(spec.microbatches == microbatches);
  });
}

std::string csv_error(const std::string& text) {
  try {
    (void)parse_order_csv("o.csv", text);
  } catch (const InputError& error) {
    return error.what();
  }
  return "accepted";
}

TEST_CASE("order csv: what is wrong is named with row, cell and reason", "[order]") {
  CHECK(csv_error("0F0,0B0\n") == "accepted");
  CHECK(csv_error("0F0,,0B0\r\n") == "accepted");
  CHECK(csv_error("\"0F0\",0B0\n") == "accepted");
  CHECK(csv_error("0F0,0I0,0W0\n") == "accepted");
  CHECK(csv_error("0F0,0F1,(0F2;0B0)OVERLAP_F_B,0B1,0B2") == "accepted");

  CHECK(csv_error("") == "o.csv: the file is empty");
  CHECK(csv_error("0F0xyz,0B0\n") == "o.csv:1: cell 1: '0F0xyz' is not an action");
  CHECK(csv_error("0F0,0B0 \n") == "o.csv:1: cell 2: '0B0 ' is not an action");
  CHECK(csv_error("0F0,0X0\n") == "o.csv:1: cell 2: 'X' in '0X0' is not a known action");
  CHECK(csv_error("0F0,0f0\n") == "o.csv:1: cell 2: 'f' in '0f0' is not a known action");
  CHECK(csv_error("-1F0\n") == "o.csv:1: cell 1: '-1F0' is not an action");
  CHECK(csv_error("0F99999999999\n") == "o.csv:1: cell 1: '0F99999999999' is not an action");
  CHECK(csv_error("F0\n") == "o.csv:1: cell 1: 'F0' is not an action");
  CHECK(csv_error("0F\n") == "o.csv:1: cell 1: the action lacks a microbatch");
  CHECK(csv_error("0F0,0B0\n\n1F0\n") == "o.csv:2: the rank has nothing to run");
  CHECK(csv_error("0F0,0F0,0B0\n") == "o.csv:1: cell 2: F0@0 comes twice");
  CHECK(csv_error("0F0,0F2,0B0,0B2\n") == "o.csv:1: cell 4: F1@0 is missing");
  CHECK(csv_error("0F0,0F1,0B1\n") == "o.csv:1: cell 3: B0@0 is missing");
  CHECK(csv_error("0F0,0I0\n") == "o.csv:1: cell 2: W0@0 is missing");
  CHECK(csv_error("0F0,0I0,0W0,0B0\n") == "o.csv:1: cell 2: microbatch 0 runs backward twice on stage 0");
  CHECK(csv_error("0F0,0W0,0I0\n")
            .starts_with("o.csv:1: cell 2: the order can never run: W0@0 comes before I0@0"));
  CHECK(csv_error("0F0,0B0\n0F1,0B1\n") ==
        "o.csv:2: cell 1: stage 0 is on row 1 already; a stage lives on one rank");
  CHECK(csv_error("0F0,1SEND_F0,0B0\n") == "o.csv:1: cell 2: stage 1 computes nothing on this rank");
  CHECK(csv_error("0F0,0SEND_F,0B0\n") == "o.csv:1: cell 2: SEND_F lacks a microbatch");
  CHECK(csv_error("0UNSHARD3,0F0,0B0\n") == "o.csv:1: cell 1: UNSHARD takes no microbatch");
  CHECK(csv_error("(0F0;0B0)OVERLAP,0F0\n")
            .starts_with("o.csv:1: cell 1: '(0F0;0B0)OVERLAP' is not of the form"));
  CHECK(csv_error("(0B0;0F0)OVERLAP_F_B\n").find("does not overlap a forward (F) with a backward (B)") !=
        std::string::npos);
  CHECK(csv_error("0F0,0B0,0F1,0B1\n1F0,1F1,1B0,1B1\n").find("the order can never run: ") !=
        std::string::npos);
  CHECK(csv_error("1000000F0\n") == "o.csv:1: cell 1: F0@0 is missing");
}

TEST_CASE("order: an unknown name and numbers that it cannot run with are refused, naming the flag",
          "[order]") {
  const auto key_of_error = [](const OrderSpec& spec, int stages) {
    try {
      (void)make_order(spec, stages);
    } catch (const InputError& error) {
      return error.key();
    }
    return std::string("accepted");
  };
  CHECK(key_of_error({"2f2b", 4}, 4) == "--order");
  CHECK(key_of_error({"", 4}, 4) == "--order");
  CHECK(key_of_error({"1f1b", 4}, 0) == "--stages");
  CHECK(key_of_error({"1f1b", 4}, -1) == "--stages");
  CHECK(key_of_error({"1f1b", 0}, 4) == "--microbatches");
  CHECK(key_of_error({"1f1b", -7}, 4) == "--microbatches");
  CHECK(key_of_error({"gpipe", 1'000'000'000}, 8) == "--microbatches");
  CHECK(key_of_error({"1f1b", std::numeric_limits<std::int64_t>::max()}, 8) == "--microbatches");
  CHECK(key_of_error({"1f1b", kMaxInstructions / 16 + 1}, 8) == "--microbatches");
  CHECK(key_of_error({"1f1b", 8, 2}, 8) == "--chunks");
  CHECK(key_of_error({"1f1b", 8, -1}, 8) == "--chunks");
  CHECK(key_of_error({"1f1b", 8, 0, 4}, 8) == "--group-size");
  CHECK(key_of_error({"zbv", 8, 3}, 9) == "--chunks");
  CHECK(key_of_error({"zbv", 8}, 7) == "--chunks");
  CHECK(key_of_error({"interleaved-1f1b", 8, 1}, 8) == "--chunks");
  CHECK(key_of_error({"interleaved-1f1b", 8, 3}, 8) == "--chunks");
  // Megatron: P <= G <= M, and the last group is whole or at least P.
  CHECK(key_of_error({"interleaved-1f1b", 8, 2, 3}, 8) == "--group-size");
  CHECK(key_of_error({"interleaved-1f1b", 8, 2, 9}, 8) == "--group-size");
  CHECK(key_of_error({"interleaved-1f1b", 10, 2}, 8) == "--group-size");
  CHECK(key_of_error({"interleaved-1f1b", 10, 2, 5}, 8) == "accepted");
  CHECK(key_of_error({"interleaved-1f1b", 10, 2, 6}, 8) == "accepted");
  CHECK(key_of_error({"interleaved-1f1b", 3, 2}, 8) == "--group-size");
  CHECK(key_of_error({"dualpipev", 7}, 8) == "--microbatches");
  CHECK(key_of_error({"dualpipev", 8}, 8) == "accepted");
  CHECK(key_of_error({"dualpipe", 15}, 8) == "--microbatches");
  CHECK(key_of_error({"dualpipe", 17}, 8) == "--microbatches");
  CHECK(key_of_error({"dualpipe", 16}, 8) == "accepted");
  CHECK(key_of_error({"dualpipe", 14}, 7) == "--stages");
}

std::string row_text(const std::vector<Instruction>& row) {
  std::string text;
  for (const Instruction& i : row) text += (text.empty() ? "" : " ") + short_name(i);
  return text;
}

TEST_CASE("order kinds: fixed-time kinds take their places", "[order]") {
  const Order order = make_order({"1f1b", 1}, 2);
  StageKinds kinds(2);
  kinds[0] = {InstructionKind::kDataLoad,        InstructionKind::kSendForward,
              InstructionKind::kReceiveBackward, InstructionKind::kOptimizer,
              InstructionKind::kReceiveForward,  InstructionKind::kSendBackward};
  kinds[1] = {InstructionKind::kReceiveForward, InstructionKind::kGradientAllReduce,
              InstructionKind::kOptimizer};
  const Order full = with_kinds(order, kinds);
  CHECK(row_text(full[0]) == "load0@0 F0@0 sendF0@0 recvB0@0 B0@0 opt0@0");
  CHECK(row_text(full[1]) == "recvF0@1 F0@1 B0@1 reduce0@1 opt0@1");
  CHECK_NOTHROW(Dag(full));
  // Between the chunks of one rank nothing is sent.
  StageKinds all(4, {InstructionKind::kSendForward, InstructionKind::kReceiveForward});
  const Order v = with_kinds(make_order({"zbv", 1}, 4), all);
  CHECK(row_text(v[1]) == "recvF0@1 F0@1 F0@2 sendF0@2 I0@2 W0@2 I0@1 W0@1");
}

TEST_CASE("order kinds: a pair without options of its own runs one after the other", "[order]") {
  const Order order = make_order({"dualpipev", 4}, 4);
  StageKinds none(4);
  StageKinds first_only(4);
  first_only[0] = {InstructionKind::kOverlapped};
  const auto pairs_of = [](const Order& o) {
    std::map<int, int> pairs;
    for (const auto& row : o) {
      for (const Instruction& i : row) {
        if (i.kind == InstructionKind::kOverlapped) ++pairs[i.stage.value()];
      }
    }
    return pairs;
  };
  CHECK(pairs_of(order).size() == 4);
  CHECK(pairs_of(with_kinds(order, none)).empty());
  CHECK(pairs_of(with_kinds(order, first_only)) == std::map<int, int>{{0, pairs_of(order)[0]}});
  CHECK_NOTHROW(Dag(with_kinds(order, none)));
  CHECK_NOTHROW(Dag(with_kinds(order, first_only)));
}

}  // namespace
}  // namespace slackline
