#pragma once
#include <cstdint>

#include "sim_layout.h"
#include "slackline/base/quantity.h"

namespace slackline {

// When the time of a node may go on, and whom that wakes. All under the world's lock.

[[nodiscard]] std::int64_t to_nanoseconds(Seconds time);
[[nodiscard]] Seconds from_nanoseconds(std::int64_t ns);
/// The host's.
[[nodiscard]] std::int64_t wall_ns();

/// Lets a participant go on with its own code.
void start_running(SimParticipantState& participant);
/// Until its signal is no longer `seen`, or for so long in wall time. Without the lock.
void wait_for_signal(SimParticipantState& participant, std::uint32_t seen, std::int64_t patience_ns);

/// The channel's entry, made if it has none. DeviceError if there are too many.
[[nodiscard]] SimChannelState& channel_state(SimLayout& world, std::uint64_t channel);

/// When something happens next; kNever if nothing will. Accidents alone do not let virtual time go on: there
/// is always another one, and a job that waits for somebody outside would see hours pass.
[[nodiscard]] std::int64_t next_event(SimLayout& world);
/// As far as time may go now: virtual time to where somebody runs again, paced time to the wall's.
void advance(SimLayout& world);
/// Of paced time only.
void follow_wall_time(SimLayout& world);

/// Takes a participant out.
void remove(SimLayout& world, SimParticipantState& participant);
/// Takes out all whose processes have died.
void remove_dead(SimLayout& world);

}  // namespace slackline
