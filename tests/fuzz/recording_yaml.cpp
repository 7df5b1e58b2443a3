#include <cstddef>
#include <cstdint>
#include <cstdlib>

#include "slackline/base/error.h"
#include "slackline/measure/clock_order.h"
#include "slackline/measure/combine.h"
#include "slackline/measure/recording.h"

/// Any text is read or refused; what is read can be written, reads back as the same, and can be gone on with.
extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  using namespace slackline;
  try {
    const std::string text(reinterpret_cast<const char*>(data), size);
    const auto read = parse_recording("fuzz", text);
    const std::string written = to_yaml(read);
    if (to_yaml(parse_recording("again", written)) != written) std::abort();
    static_cast<void>(next_round(read, {}));
    static_cast<void>(combine({read}));
  } catch (const InputError&) {
  }
  return 0;
}
