#pragma once
#include <cstdint>
#include <functional>
#include <optional>
#include <vector>

#include "slackline/base/quantity.h"
#include "slackline/measure/recording.h"

namespace slackline {

/// The clock of each stage of a recording, in their order; 0 MHz for one that is not measured.
using RoundClocks = std::vector<Megahertz>;

struct ClockOrderOptions {
  /// From the highest clock to the lowest, or in an order drawn from `seed`.
  bool is_random = false;
  std::uint64_t seed = 1;
  /// Every clock a second time, in the opposite order: then the middle of a clock's two visits is the middle
  /// of the whole, and what changes steadily with time cancels.
  bool revisits = true;
  /// The first pass of a stage, from the highest to the lowest, ends when the time and the effective cost e -
  /// p t of all its instructions have both risen this often in a row: no plan can use what follows. (Perseus
  /// and EnvPipe watch the energy e itself, which rises earlier: on the A100 that drops clocks whose slowness
  /// fills a wait, and 0.14 points of saving on GPT-3 175B.) 0: never, so that ranks stay together.
  int rises = 5;
  /// At most so many different clocks a stage, chosen one after the other by `choose`.
  std::optional<int> budget;
  /// From all that has been measured so far, the clocks to measure next; nothing when that is enough.
  std::function<std::optional<RoundClocks>(const Recording&)> choose;
};

/// What to measure in the next round; nothing when all is done. Depends on nothing but its arguments, so an
/// interrupted measuring goes on where it was. The recording holds whole rounds.
[[nodiscard]] std::optional<RoundClocks> next_round(const Recording& so_far,
                                                    const ClockOrderOptions& options);

/// Rounds that are complete, and at most how many there will be.
[[nodiscard]] int rounds_done(const Recording& so_far);
[[nodiscard]] int most_rounds(const Recording& so_far, const ClockOrderOptions& options);

}  // namespace slackline
