#pragma once
#include <string>
#include <vector>

#include "slackline/device/device.h"
#include "slackline/measure/visit.h"

namespace slackline {

/// Something that a rank did, by the name that the training program's timers have for it.
struct KareusSpan {
  std::string name;
  Span span;
  int line = 0;
};

/// Reads `time-energy-GLOBAL-LOCAL.csv` of Kareus: `time,energy` (seconds since 1970, joules since the
/// counter began), a row whenever the counter refreshed. Where energy falls the counter began anew, and
/// estimate() leaves that refresh out. InputError with file, line, key and reason, also where time does not
/// rise.
[[nodiscard]] std::vector<EnergyReading> parse_kareus_energy(const std::string& file,
                                                             const std::string& text);

/// Reads `instructions-GLOBAL-LOCAL.csv` of Kareus: `instruction,start,end` (seconds since 1970), in any
/// order. InputError as above, also for what ends before it starts.
[[nodiscard]] std::vector<KareusSpan> parse_kareus_instructions(const std::string& file,
                                                                const std::string& text);

}  // namespace slackline
