#include <cstddef>
#include <cstdint>
#include <cstdlib>

#include "slackline/base/error.h"
#include "slackline/measure/kareus_csv.h"

/// Any text is read or refused; what is read rises in time, and no energy is negative.
extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  using namespace slackline;
  try {
    const std::string text(reinterpret_cast<const char*>(data), size);
    const auto readings = parse_kareus_energy("fuzz", text);
    for (std::size_t i = 0; i < readings.size(); ++i) {
      if (i > 0 && readings[i].at <= readings[i - 1].at) std::abort();
      if (!(readings[i].total >= Joules(0))) std::abort();
    }
  } catch (const InputError&) {
  }
  return 0;
}
