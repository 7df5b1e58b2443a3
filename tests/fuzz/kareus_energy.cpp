#include <cstddef>
#include <cstdint>
#include <cstdlib>

#include "slackline/base/error.h"
#include "slackline/measure/kareus_csv.h"

/// Any text is read or refused; what is read rises in time and does not fall in energy.
extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  using namespace slackline;
  try {
    const std::string text(reinterpret_cast<const char*>(data), size);
    const auto readings = parse_kareus_energy("fuzz", text);
    for (std::size_t i = 1; i < readings.size(); ++i) {
      if (readings[i].at <= readings[i - 1].at || readings[i].total < readings[i - 1].total) std::abort();
    }
  } catch (const InputError&) {
  }
  return 0;
}
