#pragma once
#include "slackline/schedule/schedule.h"

namespace slackline {

/// What a pipeline should run while it has to wait for a slower one anyway. Energy is of one pipeline, until
/// the straggler is through.
struct StragglerAnswer {
  /// When the slowest pipeline ends its iteration.
  Seconds until;
  /// The slowest kept plan that is not above that time: at most T_max.
  std::size_t plan = 0;
  Joules energy;
  /// With the schedule's chosen plan, and then waiting.
  Joules chosen_energy;
  /// With every clock at its highest, and then waiting.
  Joules all_max_energy;

  [[nodiscard]] double saving_percent() const { return (1 - energy / all_max_energy) * 100; }
  [[nodiscard]] double saving_over_chosen_percent() const { return (1 - energy / chosen_energy) * 100; }
};

/// NoAnswer if `until` is before the fastest plan's end.
[[nodiscard]] StragglerAnswer answer_straggler(const Schedule& schedule, Seconds until);

}  // namespace slackline
