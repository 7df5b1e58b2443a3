#include "slackline/schedule/zeus_plan.h"

#include <cstddef>
#include <cstdint>
#include <cstdlib>

#include "slackline/base/error.h"

/// Any text is read or refused with a line of it.
extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  using namespace slackline;
  try {
    const ZeusPlan plan = parse_zeus_plan("fuzz", {reinterpret_cast<const char*>(data), size});
    if (plan.empty()) std::abort();
  } catch (const InputError& error) {
    if (error.line() < 1) std::abort();
  }
  return 0;
}
