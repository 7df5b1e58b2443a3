#include "slackline/schedule/zeus_plan.h"

#include "catch.h"
#include "slackline/base/error.h"
#include "slackline/base/file.h"
#include "slackline/schedule/planner.h"
#include "slackline/schedule/schedule_io.h"
#include "slackline/schedule/verification.h"

namespace slackline {
namespace {

const std::string kFolder = std::string(SLACKLINE_SOURCE_DIR) + "/tests/data/kareus-plans/";

/// Two stages with the clocks of Kareus's A100.
Profile two_stages() {
  Profile profile;
  for (const double work : {1.0, 1.1}) {
    StageProfile stage;
    stage.blocking_power = Watts(85);
    stage.tensor_parallel = 8;
    for (const auto& [kind, share] :
         {std::pair(InstructionKind::kForward, 0.1), {InstructionKind::kBackward, 0.2}}) {
      for (int mhz = 1410; mhz >= 900; mhz -= 30) {
        const double slower = 1410.0 / mhz;
        stage.instructions[kind].push_back({Megahertz(mhz), Seconds(work * share * (0.3 + 0.7 * slower)),
                                            Joules(work * share * (60 + 300 / slower))});
      }
    }
    profile.stages.push_back(stage);
  }
  return profile;
}

std::string fault_of(const std::string& text) {
  try {
    static_cast<void>(
        clocks_of("plan.py", parse_zeus_plan("plan.py", text), Workload(two_stages(), {"1f1b", 1})));
  } catch (const InputError& error) {
    return error.what();
  }
  return "";
}

TEST_CASE(
    "zeus plan: what the artifact of Kareus has becomes a schedule that verifies, and the same file again",
    "[zeus]") {
  const Workload workload(two_stages(), {"1f1b", 8});
  for (const char* name : {"perseus_freqs_pipeline_01900.py", "kareus_freqs_pipeline_02495.py"}) {
    CAPTURE(name);
    const ZeusPlan plan = parse_zeus_plan(name, read_file(kFolder + name));
    REQUIRE(plan.size() == 2);
    CHECK(plan[0].size() == 16);
    CHECK(plan[0][1].name == "forward");
    CHECK(plan[0][14].clock == Megahertz(1020));
    CHECK(plan[1][0].line == 3);
    const Schedule schedule = schedule_of(workload, clocks_of(name, plan, workload));
    REQUIRE(schedule.plans.size() == 1);
    CHECK(schedule.plans[0].gap_percent() >= 0);
    CHECK(verify(schedule, two_stages()).at(0).fault == "");
    CHECK(parse_schedule_yaml("s.yaml", to_yaml(schedule)).plans[0].clocks == schedule.plans[0].clocks);
    const ZeusPlan again = parse_zeus_plan("again", to_zeus_plan(schedule, schedule.plans[0]));
    for (std::size_t rank = 0; rank < 2; ++rank) {
      REQUIRE(again[rank].size() == plan[rank].size());
      for (std::size_t i = 0; i < plan[rank].size(); ++i) {
        CHECK(again[rank][i].name == plan[rank][i].name);
        CHECK(again[rank][i].clock == plan[rank][i].clock);
      }
    }
  }
}

TEST_CASE("zeus plan: what a plan of ours is written as reads back to its clocks", "[zeus]") {
  const Workload workload(two_stages(), {"1f1b", 5});
  const Schedule schedule = make_plans(workload, {}).schedule;
  for (const Plan& plan : schedule.plans) {
    const ZeusPlan read = parse_zeus_plan("ours.py", to_zeus_plan(schedule, plan));
    CHECK(clocks_of("ours.py", read, workload) == plan.clocks);
  }
}

TEST_CASE("zeus plan: kinds that Zeus has no name for are refused", "[zeus]") {
  Profile profile = two_stages();
  for (StageProfile& stage : profile.stages) {
    for (const InstructionKind kind : {InstructionKind::kBackwardInput, InstructionKind::kBackwardWeight}) {
      stage.instructions[kind] = stage.instructions.at(InstructionKind::kForward);
    }
  }
  const Schedule schedule = make_plans(Workload(profile, {"zb-h1", 4, 1}), {}).schedule;
  CHECK_THROWS_AS(to_zeus_plan(schedule, schedule.plans[0]), InputError);
}

TEST_CASE("zeus plan: it is read as a literal, and what is none is refused with its line", "[zeus]") {
  const std::string good =
      "[[('forward', 1410), ('backward', 900)],\n[(\"forward\", 1410), ('backward', 900),],]\n# x";
  CHECK(fault_of(good) == "");
  const auto says = [](const std::string& text, const std::string& part) {
    const std::string fault = fault_of(text);
    CAPTURE(text, fault);
    CHECK(fault.find(part) != std::string::npos);
  };
  says("", "plan.py:1: a '[' should be here");
  says("[]", "the list is empty");
  says("[[('forward', 1410)\n, ('backward', 900)], __import__('os')]", "plan.py:2: a '[' should be here");
  says("[[('forward', 1410 + 1)]]", "a ')' should be here");
  says("[[('forward', -5)]]", "a clock, in MHz, should be here");
  says("[[('forward', 99999999999999999999)]]", "a clock, in MHz");
  says("[[('for\\x77ard', 1410)]]", "escape");
  says("[[('forward", "does not end");
  says(good + "\nprint()", "plan.py:4: something follows");
  says("[[('forward', 1410) ('backward', 900)]]", "a ',' or ']'");
  says("[[('forward', 1410)],[]]", "rank 0 has 1 instructions, the order goes on with B0@0");
  says("[[('backward', 1410)],[]]", "rank 0 runs 'backward' where the order has F0@0");
  says("[[('forward', 1410), ('backward', 900), ('forward', 900)],[]]", "rank 0 has more instructions");
  says("[[('forward', 1411), ('backward', 900)],[]]", "stage 0 was not measured at 1411 MHz");
  says("[[('forward', 1410), ('backward', 900)]]", "it is for 1 ranks, the order has 2");
  CHECK_THROWS_AS(parse_zeus_plan("s", read_file(kFolder + "kareus_scheds_pipeline_02495.py")), InputError);
  for (std::size_t end = 0; end < good.size() - 4; ++end) CHECK(fault_of(good.substr(0, end)) != "");
}

}  // namespace
}  // namespace slackline
