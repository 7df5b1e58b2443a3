#include <cstddef>
#include <cstdint>
#include <cstdlib>

#include "slackline/base/error.h"
#include "slackline/measure/kareus_csv.h"

/// Any text is read or refused; what is read has a name and does not end before it starts.
extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  using namespace slackline;
  try {
    const std::string text(reinterpret_cast<const char*>(data), size);
    for (const KareusSpan& span : parse_kareus_instructions("fuzz", text)) {
      if (span.name.empty() || span.span.end < span.span.begin || span.line < 2) std::abort();
    }
  } catch (const InputError&) {
  }
  return 0;
}
