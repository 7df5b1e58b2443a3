#pragma once
#include <map>
#include <optional>
#include <string>
#include <vector>

#include "slackline/base/ids.h"
#include "slackline/base/instruction_kind.h"
#include "slackline/base/quantity.h"

namespace slackline {

/// What one instruction cost one GPU at one clock, on average. Fixed-time kinds have one measurement, with a
/// clock of 0 MHz: they leave nothing to choose. Errors are standard errors, 0 where they are not known.
struct Measurement {
  Megahertz clock;
  Seconds time;
  Joules energy;
  ConfigId config{};
  Seconds time_error{};
  Joules energy_error{};
  /// The same energy by a second, independent way (slackline profile: regression); 0 without one.
  Joules second_energy{};
  Joules second_energy_error{};
  /// Runs that this is the average of; 0 where it is not known.
  int runs = 0;
  /// Predicted from the clocks that were measured.
  bool is_modelled = false;

  bool operator==(const Measurement&) const = default;
};

/// How a stage was measured, as far as a plan's trust in it goes.
struct MeasuringNotes {
  /// Of the blocking power, which a second way may have found, too.
  Watts blocking_error;
  Watts second_blocking_power;
  Watts second_blocking_error;
  /// Found by watching the energy counter.
  Seconds counter_period;
  /// Time of the stage's GPUs that its measurements took.
  Seconds duration;
  /// Shares of that, 0 to 1, that were left out: something slowed the GPU down; another process was on it;
  /// its counter stood still, jumped, or could not be read.
  double throttled_share = 0;
  double foreign_share = 0;
  double unreadable_share = 0;
  /// By how much energies rose from the begin to the end of the measuring, relative; it is taken out.
  double drift = 0;
  double drift_error = 0;
  /// Clocks at which the GPU was throttled or capped most of the time, so that this is what they give.
  std::vector<Megahertz> throttled_clocks;
  /// Clocks that were asked for and never read back.
  std::vector<Megahertz> missed_clocks;

  bool operator==(const MeasuringNotes&) const = default;
};

/// One pipeline stage. Its `tensor_parallel` GPUs work in lockstep; each measurement is of one of them.
struct StageProfile {
  /// Highest clock first; every clock once, or once with each label.
  std::map<InstructionKind, std::vector<Measurement>> instructions;
  /// Draw of one GPU while it waits for a neighbour stage; public CSV files do not state it.
  std::optional<Watts> blocking_power;
  int tensor_parallel = 1;
  /// From the end of an instruction until its result is on the neighbour's rank, while both may compute.
  Seconds transfer;
  /// Model of its GPUs where that differs from the profile's.
  std::string gpu{};
  std::optional<MeasuringNotes> notes{};

  bool operator==(const StageProfile&) const = default;
};

/// How long its GPUs take from the request of a clock, in milliseconds: until the call returns, until a
/// reading first differs, and until readings stay at the new clock. The slowest of `pairs`, each of which is
/// the median of several switches: count on `stable`.
struct SwitchTimes {
  struct Pair {
    Megahertz from;
    Megahertz to;
    double first_change_ms = 0;
    double stable_ms = 0;

    bool operator==(const Pair&) const = default;
  };

  double call_ms = 0;
  double first_change_ms = 0;
  double stable_ms = 0;
  std::vector<Pair> pairs;

  bool operator==(const SwitchTimes&) const = default;
};

/// Measurements of a model cut into stages, on one kind of GPU.
struct Profile {
  std::string model;
  std::string gpu;
  std::string origin;
  std::string licence;
  std::vector<StageProfile> stages;
  /// Where it was measured (slackline calibrate).
  std::optional<SwitchTimes> switch_times{};
  /// The labels that options carry, in the order in which they first occur.
  std::vector<std::string> configs{};
  /// What was made of the measurements (derive_kinds, smooth_convex), in turn; not part of a file.
  std::vector<std::string> derived{};

  bool operator==(const Profile&) const = default;
};

/// The highest clock of a stage: what an unlocked GPU runs at, and the all-max baseline of every saving.
[[nodiscard]] Megahertz highest_clock(const StageProfile& stage);

/// The first measurement of `kind` at `clock`, or nullptr if the profile has none.
[[nodiscard]] const Measurement* find_measurement(const StageProfile& stage, InstructionKind kind,
                                                  Megahertz clock);

/// The number of `label` in `configs`, where it is entered if it is new; "" is 0.
[[nodiscard]] ConfigId config_of(std::vector<std::string>& configs, const std::string& label);
/// The label of a number; "" for 0.
[[nodiscard]] const std::string& label_of(const std::vector<std::string>& configs, ConfigId config);

/// Options by their labels: those of each are a curve of their own.
[[nodiscard]] std::map<ConfigId, std::vector<Measurement>> by_label(const std::vector<Measurement>& options);

/// A stage runs at least forward, and backward in one of its forms: backward, forward-backward, or
/// backward-input with backward-weight. The kind that it lacks for that, if any.
[[nodiscard]] std::optional<InstructionKind> missing_kind(const StageProfile& stage);

/// GPUs of one pipeline, over all stages. GPUs are numbered stage by stage.
[[nodiscard]] int gpu_count(const Profile& profile);

}  // namespace slackline
