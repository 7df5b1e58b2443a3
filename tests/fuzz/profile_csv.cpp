#include <cstddef>
#include <cstdint>
#include <cstdlib>

#include "slackline/base/error.h"
#include "slackline/profile/profile_io.h"

/// Any text is read or refused; what is read can be written, and reads back as the same.
extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  using namespace slackline;
  try {
    const std::string text(reinterpret_cast<const char*>(data), size);
    const auto read = parse_profile_csv("fuzz", text);
    const std::string written = to_yaml(read);
    if (to_yaml(parse_profile_yaml("again", written)) != written) std::abort();
  } catch (const InputError&) {
  }
  return 0;
}
