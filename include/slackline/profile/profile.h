#pragma once
#include <map>
#include <optional>
#include <string>
#include <vector>

#include "slackline/base/ids.h"
#include "slackline/base/instruction_kind.h"
#include "slackline/base/quantity.h"

namespace slackline {

/// What one instruction cost one GPU at one clock, on average.
struct Measurement {
  Megahertz clock;
  Seconds time;
  Joules energy;

  bool operator==(const Measurement&) const = default;
};

/// One pipeline stage. Its `tensor_parallel` GPUs work in lockstep; each measurement is of one of them.
struct StageProfile {
  /// Highest clock first; every clock once.
  std::map<InstructionKind, std::vector<Measurement>> instructions;
  /// Draw of one GPU while it waits for a neighbour stage; public CSV files do not state it.
  std::optional<Watts> blocking_power;
  int tensor_parallel = 1;

  bool operator==(const StageProfile&) const = default;
};

/// Measurements of a model cut into stages, on one kind of GPU.
struct Profile {
  std::string model;
  std::string gpu;
  std::string origin;
  std::string licence;
  std::vector<StageProfile> stages;

  bool operator==(const Profile&) const = default;
};

/// The highest clock of a stage: what an unlocked GPU runs at, and the all-max baseline of every saving.
[[nodiscard]] Megahertz highest_clock(const StageProfile& stage);

/// The measurement of `kind` at `clock`, or nullptr if the profile has none.
[[nodiscard]] const Measurement* find_measurement(const StageProfile& stage, InstructionKind kind,
                                                  Megahertz clock);

/// GPUs of one pipeline, over all stages. GPUs are numbered stage by stage.
[[nodiscard]] int gpu_count(const Profile& profile);

}  // namespace slackline
