#include "slackline/measure/visit.h"

#include "catch.h"
#include "made_visit.h"

namespace slackline {
namespace {

/// How far estimates are from the truth over many visits.
struct Accuracy {
  int count = 0;
  int covered = 0;
  double sum = 0;
  double squares = 0;

  void add(const Estimate& estimate, double truth) {
    const double off = estimate.value / truth - 1;
    ++count;
    sum += off;
    squares += off * off;
    if (std::abs(estimate.value - truth) <= 1.96 * estimate.error + 1e-9 * truth) ++covered;
  }
  [[nodiscard]] double bias() const { return sum / count; }
  [[nodiscard]] double spread() const { return std::sqrt(squares / count); }
  [[nodiscard]] double coverage() const { return static_cast<double>(covered) / count; }
};

struct VisitAccuracy {
  Accuracy time;
  Accuracy interpolated;
  Accuracy regressed;
  Accuracy interpolated_blocking;
  Accuracy regressed_blocking;
};

VisitAccuracy accuracy_of(const MadeStage& stage, int rounds, std::uint64_t seed) {
  Dice dice(seed);
  VisitAccuracy accuracy;
  for (int round = 0; round < rounds; ++round) {
    const VisitEstimate found = estimate(made_visit(stage, dice));
    const auto add = [&](InstructionKind kind, const MadeStage::Kind& truth) {
      const KindEstimate& one = found.kinds.at(kind);
      accuracy.time.add(one.time, truth.time);
      accuracy.interpolated.add(one.interpolated, truth.energy);
      accuracy.regressed.add(one.regressed, truth.energy);
    };
    add(InstructionKind::kForward, stage.forward);
    add(InstructionKind::kBackward, stage.backward);
    if (stage.first_wait == 0) continue;
    REQUIRE(found.interpolated_blocking);
    accuracy.interpolated_blocking.add(*found.interpolated_blocking, stage.blocking_power);
    accuracy.regressed_blocking.add(*found.regressed_blocking, stage.blocking_power);
  }
  return accuracy;
}

TEST_CASE("visit: without noise both ways find the energies exactly, however short the instructions are",
          "[visit]") {
  for (const double forward : {1.0, 0.35, 0.06, 0.011}) {
    CAPTURE(forward);
    MadeStage stage;
    stage.noise = 0;
    stage.forward = {forward, 300 * forward};
    stage.backward = {2.1 * forward, 2.1 * 330 * forward};
    stage.pause = 1.5 * forward;
    stage.steps = static_cast<int>(std::ceil(3 * 0.35 / forward));
    const VisitAccuracy accuracy = accuracy_of(stage, 5, 1);
    CHECK(accuracy.time.spread() < 1e-9);
    CHECK(accuracy.interpolated.spread() < 1e-3);
    CHECK(accuracy.regressed.spread() < 1e-6);
    CHECK(accuracy.interpolated_blocking.spread() < 1e-2);
    CHECK(accuracy.regressed_blocking.spread() < 1e-6);
  }
}

TEST_CASE("visit: with noise both ways are unbiased, and their errors say how far they are off", "[visit]") {
  for (const double forward : {1.0, 0.35, 0.1, 0.03}) {
    MadeStage stage;
    stage.forward = {forward, 300 * forward};
    stage.backward = {2.1 * forward, 2.1 * 330 * forward};
    stage.pause = 1.5 * forward;
    stage.steps = static_cast<int>(std::ceil(2 * 0.35 / forward));
    const VisitAccuracy accuracy = accuracy_of(stage, 100, 2);
    const auto check = [&](const char* what, const Accuracy& one, double most) {
      CAPTURE(what, forward, one.bias(), one.spread(), one.coverage());
      CHECK(std::abs(one.bias()) < most / 4);
      CHECK(one.spread() < most);
      CHECK(one.coverage() > 0.88);
    };
    check("time", accuracy.time, 0.005);
    check("interpolated", accuracy.interpolated, 0.01);
    check("regressed", accuracy.regressed, 0.015);
    check("interpolated blocking", accuracy.interpolated_blocking, 0.03);
    check("regressed blocking", accuracy.regressed_blocking, 0.05);
  }
}

TEST_CASE("visit: what is left out does not count, whatever happened in it", "[visit]") {
  Dice dice(3);
  MadeStage stage;
  stage.noise = 0;
  stage.steps = 4;
  for (int round = 0; round < 20; ++round) {
    VisitRecord record = made_visit(stage, dice);
    for (int spans = dice.number(1, 4); spans > 0; --spans) {
      // Something else draws 500 W meanwhile, and what runs takes longer than it should.
      Run& slowed = record.runs[static_cast<std::size_t>(dice.number(0, 63))];
      const Seconds middle = (slowed.span.begin + slowed.span.end) / 2;
      const Span strange{middle, middle + Seconds(dice.between(0.01, 1))};
      slowed.device_time = Seconds(3);
      record.left_out.push_back(strange);
      for (auto& readings : record.counters) {
        Joules extra;
        for (std::size_t i = 1; i < readings.size(); ++i) {
          const double begin = std::max(readings[i - 1].at, strange.begin).value();
          const double end = std::min(readings[i].at, strange.end).value();
          if (end > begin) extra += Watts(500) * Seconds(end - begin);
          readings[i].total += extra;
        }
      }
    }
    const VisitEstimate found = estimate(record);
    const KindEstimate& forward = found.kinds.at(InstructionKind::kForward);
    CHECK(std::abs(forward.time.value / stage.forward.time - 1) < 1e-9);
    CHECK(std::abs(forward.interpolated.value / stage.forward.energy - 1) < 2e-3);
    CHECK(std::abs(forward.regressed.value / stage.forward.energy - 1) < 1e-6);
  }
}

TEST_CASE("visit: a counter that is reset or pauses loses that interval only", "[visit]") {
  Dice dice(4);
  MadeStage stage;
  stage.noise = 0;
  VisitRecord record = made_visit(stage, dice);
  for (auto& readings : record.counters) {
    const Joules before = readings[40].total;
    for (std::size_t i = 41; i < readings.size(); ++i) readings[i].total -= before;
    readings.erase(readings.begin() + 60, readings.begin() + 75);
  }
  const VisitEstimate found = estimate(record);
  const KindEstimate& backward = found.kinds.at(InstructionKind::kBackward);
  CHECK(std::abs(backward.interpolated.value / stage.backward.energy - 1) < 2e-3);
  CHECK(std::abs(backward.regressed.value / stage.backward.energy - 1) < 1e-6);
}

TEST_CASE("visit: a stage that never waits has no blocking power, one that does nothing has no kinds",
          "[visit]") {
  Dice dice(5);
  MadeStage stage;
  stage.wait = stage.first_wait = 0;
  const VisitEstimate busy = estimate(made_visit(stage, dice));
  CHECK_FALSE(busy.interpolated_blocking);
  CHECK_FALSE(busy.regressed_blocking);
  CHECK(std::abs(busy.kinds.at(InstructionKind::kForward).interpolated.value / stage.forward.energy - 1) <
        0.02);
  CHECK(estimate({}).kinds.empty());
  VisitRecord idle;
  idle.steps.push_back({Seconds(0), Seconds(1)});
  idle.counters = {{{Joules(0), Seconds(0)}, {Joules(40), Seconds(0.5)}, {Joules(80), Seconds(1)}}};
  REQUIRE(estimate(idle).interpolated_blocking);
  CHECK(std::abs(estimate(idle).interpolated_blocking->value - 80) < 1e-9);
}

TEST_CASE("visit: runs that the device timed count with that time", "[visit]") {
  VisitRecord record;
  for (int i = 0; i < 10; ++i) {
    record.runs.push_back({InstructionKind::kForward, {Seconds(i), Seconds(i + 0.8)}, Seconds(0.7)});
  }
  const VisitEstimate found = estimate(record);
  CHECK(std::abs(found.kinds.at(InstructionKind::kForward).time.value - 0.7) < 1e-12);
  CHECK(found.kinds.at(InstructionKind::kForward).runs == 10);
}

}  // namespace
}  // namespace slackline
