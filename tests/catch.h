#pragma once
// Catch2 2.13 and Catch2 3.
#if __has_include(<catch2/catch_all.hpp>)
#include <catch2/catch_all.hpp>
#define SLACKLINE_CATCH_3
#else
#include <catch2/catch.hpp>
#endif

#include <string>

/// Leaves a test, and says so, where what it needs is not there.
#define SLACKLINE_NEEDS(condition, what) \
  if (!(condition)) {                    \
    WARN("not tried: it needs " what);   \
    return;                              \
  }                                      \
  static_assert(true)

namespace slackline {

/// For CHECK_THROWS_WITH: the message has `part` in it.
inline auto has_text(const std::string& part) {
#ifdef SLACKLINE_CATCH_3
  return Catch::Matchers::ContainsSubstring(part);
#else
  return Catch::Contains(part);
#endif
}

}  // namespace slackline
