#pragma once
#include <string>
#include <vector>

#include "slackline/schedule/schedule.h"

namespace slackline {

/// What was found for one plan when it was checked anew.
struct PlanVerification {
  Seconds time;
  Joules energy;
  Joules bound;
  /// What the file says differently, or why the proof fails; empty if the plan holds.
  std::string fault;
};

/// Recomputes every plan of `schedule` from its clocks and the measurements alone, solves for the bound again
/// at the plan's own time and checks that solution's certificate. Figures must agree to 1e-9. InputError if
/// the schedule is for another number of stages than the profile's.
[[nodiscard]] std::vector<PlanVerification> verify(const Schedule& schedule, const Profile& profile);

/// `profile` with what `schedule` was planned for instead of what the file says or leaves open: tensor
/// parallel degrees, blocking powers, transfer times and derived kinds.
[[nodiscard]] Profile as_planned(const Schedule& schedule, Profile profile);

}  // namespace slackline
