#pragma once
#include <algorithm>
#include <cmath>

#include "dice.h"
#include "slackline/measure/visit.h"

namespace slackline {

/// A stage whose true times and energies are known: microbatches in 1F1B, waits between them, steps with a
/// pause between, and counters that tick.
struct MadeStage {
  struct Kind {
    double time;
    double energy;
  };
  Kind forward{0.35, 90};
  Kind backward{0.72, 230};
  double blocking_power = 80;
  double outside_power = 150;
  double noise = 0.01;  // of each run's time and, apart from that, of its energy
  double tick = 0.1;
  int gpus = 2;
  int microbatches = 8;
  int ahead = 3;  // forwards before the first backward
  int steps = 3;
  double wait = 0.3;      // of a forward's time, on average
  double pause = 0.8;     // between steps, in seconds
  double first_wait = 2;  // at the begin of a step, in forwards
};

inline VisitRecord made_visit(const MadeStage& stage, Dice& dice) {
  struct Stretch {
    double begin;
    double end;
    double power;
  };
  std::vector<Stretch> stretches;
  VisitRecord record;
  double now = dice.between(0, 1);
  const auto draw = [&](double seconds, double power) {
    stretches.push_back({now, now + seconds, power});
    now += seconds;
  };
  const auto run = [&](InstructionKind kind) {
    const MadeStage::Kind& truth = kind == InstructionKind::kForward ? stage.forward : stage.backward;
    const double begin = now;
    const double time = truth.time * std::max(0.5, 1 + stage.noise * normal(dice));
    draw(time, truth.energy * std::max(0.5, 1 + stage.noise * normal(dice)) / time);
    record.runs.push_back({kind, {Seconds(begin), Seconds(now)}, {}});
  };
  const auto wait = [&](double seconds) { draw(seconds, stage.blocking_power); };
  for (int s = 0; s < stage.steps; ++s) {
    const double begin = now;
    wait(stage.first_wait * stage.forward.time);
    for (int m = 0; m < stage.microbatches + stage.ahead; ++m) {
      if (m < stage.microbatches) run(InstructionKind::kForward);
      if (stage.wait > 0) wait(stage.forward.time * dice.between(0.05, 2 * stage.wait));
      if (m >= stage.ahead) run(InstructionKind::kBackward);
    }
    record.steps.push_back({Seconds(begin), Seconds(now)});
    draw(stage.pause, stage.outside_power);
  }
  for (int g = 0; g < stage.gpus; ++g) {
    record.counters.emplace_back();
    double total = 5e6;
    std::size_t at = 0;
    double reached = stretches.front().begin;
    for (double tick = reached + stage.tick * dice.part(); tick < now; tick += stage.tick) {
      while (reached < tick) {
        const Stretch& stretch = stretches[at];
        const double end = std::min(stretch.end, tick);
        total += stretch.power * (end - reached);
        reached = end;
        if (end >= stretch.end) ++at;
      }
      record.counters.back().push_back({Joules(total), Seconds(tick)});
    }
  }
  return record;
}

}  // namespace slackline
