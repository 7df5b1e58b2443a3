#include "say_warnings.h"

#include <cstdio>

namespace slackline {

void say_warnings(const ProfileSummary& summary) {
  for (const std::string& warning : profile_warnings(summary)) {
    std::fprintf(stderr, "slackline: warning: %s\n", warning.c_str());
  }
}

}  // namespace slackline
