#pragma once
#include <optional>
#include <set>
#include <string>
#include <vector>

#include "slackline/base/ids.h"
#include "slackline/base/quantity.h"
#include "slackline/schedule/workload.h"

namespace slackline {

/// Clocks for one iteration, what they take, and how good they are. Energy is of one pipeline, all its GPUs.
struct Plan {
  Seconds time;
  Joules energy;
  /// No clocks whatever use less energy in this time.
  Joules bound;
  /// By index in the order's DAG.
  Clocks clocks;
  /// What it takes if every instruction is slower by the standard error of its measurement; nothing where the
  /// profile states none.
  std::optional<Seconds> late_time{};

  /// Energy above the bound, in percent of the bound.
  [[nodiscard]] double gap_percent() const { return (energy - bound) / bound * 100; }
};

/// What a stage needs beside its clocks.
struct ScheduleStage {
  int tensor_parallel = 1;
  Watts blocking_power;
  /// The highest clock: where an unlocked GPU runs, between steps too.
  Megahertz baseline_clock;
  /// Kinds of its profile that shape the order: fixed-time ones, overlapped pairs. See with_kinds.
  std::set<InstructionKind> special_kinds{};
  /// As in StageProfile.
  Seconds transfer{};
};

/// Plans along the frontier of one workload; the content of a schedule file.
struct Schedule {
  std::string model;
  std::string gpu;
  OrderSpec order_spec;
  /// Pipelines of the job that train in parallel; all figures are of one.
  int data_parallel = 1;
  std::vector<ScheduleStage> stages;
  /// Labels that clocks carry, as in Profile.
  std::vector<std::string> configs{};
  /// What was made of the profile's measurements first: see prepare.
  std::vector<std::string> derived{};

  Seconds all_max_time;
  Joules all_max_energy;
  /// Ends of the frontier: smallest time; T_E, where energy is least; T_max, the last worth running for a
  /// straggler.
  Seconds fastest_time;
  Seconds least_energy_time;
  Seconds cheapest_time;

  /// Rising time, falling effective cost.
  std::vector<Plan> plans;
  /// The plan to run when there is no straggler.
  std::size_t chosen = 0;

  /// What each rank runs; plans' clocks are in this order, rank by rank.
  [[nodiscard]] Order order() const;
  /// Draw of all GPUs of the pipeline while they wait.
  [[nodiscard]] Watts blocking_power() const;
  [[nodiscard]] double saving_percent(const Plan& plan) const {
    return (all_max_energy - plan.energy) / all_max_energy * 100;
  }
  [[nodiscard]] double slowdown_percent(const Plan& plan) const {
    return (plan.time / all_max_time - 1) * 100;
  }
};

}  // namespace slackline
