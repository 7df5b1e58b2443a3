#include <cstddef>
#include <cstdint>
#include <cstdlib>

#include "slackline/base/error.h"
#include "slackline/runtime/policy.h"

/// Any text is read or refused; what is read stays within its own bounds, and names no user that is nobody.
extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  using namespace slackline;
  try {
    const std::string text(reinterpret_cast<const char*>(data), size);
    const Policy policy = parse_policy("fuzz", text);
    const GpuIdentity gpu{"GPU-1", "00000000:3B:00.0", ""};
    if (policy.allowed(Peer{}, gpu)) std::abort();
    const auto range = policy.allowed({0, 0, {0, 1, 1001}}, gpu);
    if (range && (range->lowest < Megahertz(1) || range->highest < range->lowest)) std::abort();
    if (policy.baseline(gpu) < Megahertz(0) || policy.baseline(gpu) > kHighestPolicyClock) std::abort();
  } catch (const InputError&) {
  }
  return 0;
}
