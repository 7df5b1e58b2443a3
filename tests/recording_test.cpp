#include "slackline/measure/recording.h"

#include <array>
#include <cmath>
#include <string>
#include <utility>
#include <vector>

#include "catch.h"
#include "slackline/base/error.h"
#include "slackline/measure/combine.h"

namespace slackline {
namespace {

const std::string kGood = R"(slackline: recording/1
gpu: a GPU
rank: 0
ranks: 1
pipeline_stages: 1
microbatches: 4
counter_period_s: 0.1
complete: false
stages:
  - stage: 0
    gpus: 2
    clocks_mhz: [1400, 1200]
    visits:
      - round: 0
        clock_mhz: 1400
        begin_s: 1
        end_s: 9
        ticks: 70
        throttled_share: 0.1
        waited_s: 2
        blocking_w: [80, 0.5]
        regressed_blocking_w: [81, 1]
        kinds:
          - {kind: forward, runs: 8, time_s: [0.5, 0.001], interpolated_j: [200, 1], regressed_j: [201, 2]}
          - {kind: backward, runs: 8, time_s: [1, 0.002], interpolated_j: [400, 2], regressed_j: [0, 0]}
      - round: 1
        clock_mhz: 1400
        begin_s: 11
        end_s: 19
        ticks: 70
        marks: [throttled, missed]
        kinds:
          - {kind: forward, runs: 8, time_s: [0.5, 0.001], interpolated_j: [210, 1], regressed_j: [211, 2]}
          - {kind: backward, runs: 8, time_s: [1, 0.002], interpolated_j: [420, 2], regressed_j: [0, 0]}
)";

TEST_CASE("recording: what is read is what was written", "[recording]") {
  const Recording recording = parse_recording("r.yaml", kGood);
  CHECK(recording.stages[0].visits[0].estimate.kinds.at(InstructionKind::kForward).runs == 8);
  CHECK(recording.stages[0].visits[1].is_throttled);
  CHECK(recording.stages[0].visits[1].is_missed);
  CHECK_FALSE(recording.stages[0].visits[1].is_wait);
  const std::string written = to_yaml(recording);
  CHECK(to_yaml(parse_recording("again", written)) == written);
}

TEST_CASE("recording: what is wrong with one is said with its line and key", "[recording]") {
  const std::vector<std::array<std::string, 3>> faults{
      {"recording/1", "recording/2", "r.yaml:1: slackline"},
      {"gpu: a GPU", "colour: red", "r.yaml:2: colour: unknown key"},
      {"rank: 0", "rank: 1", "r.yaml:3: rank"},
      {"ranks: 1", "ranks: 0", "r.yaml:4: ranks"},
      {"counter_period_s: 0.1", "counter_period_s: 0", "r.yaml:7: counter_period_s"},
      {"complete: false", "complete: perhaps", "r.yaml:8: complete: it is 'true' or 'false'"},
      {"stage: 0", "stage: 1", "r.yaml:10: stage"},
      {"[1400, 1200]", "[1200, 1400]", "r.yaml:12: clocks_mhz: clocks must fall"},
      {"end_s: 9", "end_s: 1", "r.yaml:17: end_s: a visit ends after it begins"},
      {"throttled_share: 0.1", "throttled_share: 1.1", "r.yaml:19: throttled_share: a share is not above 1"},
      {"[80, 0.5]", "[80]", "r.yaml:21: blocking_w: an estimate is [value, standard error]"},
      {"[80, 0.5]", "[80, nan]", "r.yaml:21: blocking_w"},
      {"kind: backward", "kind: sideways", "r.yaml:25: kind: unknown instruction kind 'sideways'"},
      {"kind: backward", "kind: forward", "r.yaml:25: kind: it comes twice"},
      {"time_s: [0.5, 0.001]", "time_s: [0, 0]", "r.yaml:24: time_s: a run takes longer than 0"},
      {"round: 0", "round: 2", "r.yaml:26: round: rounds must not fall"},
      {"marks: [throttled, missed]", "marks: [lucky]", "r.yaml:31: marks: unknown mark 'lucky'"},
  };
  for (const auto& [from, to, message] : faults) {
    std::string text = kGood;
    text.replace(text.find(from), from.size(), to);
    CAPTURE(from, to);
    CHECK_THROWS_WITH(parse_recording("r.yaml", text), has_text(message));
  }
}

TEST_CASE("recording: visits become one measurement, at the middle of the time", "[recording]") {
  const std::vector<StageProfile> stages = combine({parse_recording("r.yaml", kGood)});
  REQUIRE(stages.size() == 1);
  const Measurement& forward = stages[0].instructions.at(InstructionKind::kForward).front();
  CHECK(forward.time.value() == 0.5);
  CHECK(std::abs(forward.energy.value() - std::sqrt(200.0 * 210)) < 1e-3);
  CHECK(forward.energy_error < Joules(2));  // the drift explains that they differ
  CHECK(forward.runs == 16);
  CHECK(stages[0].instructions.at(InstructionKind::kBackward).front().second_energy == Joules(0));
  CHECK(stages[0].blocking_power == Watts(80));
  CHECK(std::abs(stages[0].notes->drift - std::log(1.05) * 18 / 10) < 1e-6);
  CHECK(stages[0].notes->throttled_share == 0.05);
  CHECK(stages[0].notes->throttled_clocks == std::vector{Megahertz(1400)});
}

TEST_CASE("recording: ranks of a stage give its slowest time and mean energy, replicas are no more GPUs",
          "[recording]") {
  Recording first = parse_recording("r.yaml", kGood);
  first.ranks = 2;
  Recording second = first;
  second.rank = 1;
  for (Visit& visit : second.stages[0].visits) {
    visit.estimate.kinds.at(InstructionKind::kForward).time.value = 0.6;
    visit.estimate.kinds.at(InstructionKind::kForward).interpolated.value += 100;
  }
  const StageProfile both = combine({first, second})[0];
  const double alone = combine({first})[0].instructions.at(InstructionKind::kForward).front().energy.value();
  CHECK(both.tensor_parallel == 4);
  CHECK(both.instructions.at(InstructionKind::kForward).front().time == Seconds(0.6));
  CHECK(std::abs(both.instructions.at(InstructionKind::kForward).front().energy.value() - alone - 50) < 1);
  CHECK(combine({first, second}, 2)[0].tensor_parallel == 2);
  CHECK_THROWS_WITH(combine({first, second}, 3), has_text("no replicas of 3"));
  second.pipeline_stages = 2;
  CHECK_THROWS_AS(combine({first, second}), InputError);
  CHECK_THROWS_WITH(combine({second}), has_text("there is none of stage 1"));
  CHECK_THROWS_AS(combine({}), InputError);
}

}  // namespace
}  // namespace slackline
