#include "slackline/pipeline/order_csv.h"

#include <cstddef>
#include <cstdint>
#include <cstdlib>

#include "slackline/base/error.h"

/// Any text is read or refused; what is read can be written, and reads back as the same.
extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  using namespace slackline;
  try {
    const std::string text(reinterpret_cast<const char*>(data), size);
    const OrderSpec read = parse_order_csv("fuzz", text);
    if (!(parse_order_csv("again", order_csv(read.rows)) == read)) std::abort();
  } catch (const InputError&) {
  }
  return 0;
}
