#include "slackline/schedule/preparation.h"

#include "slackline/curve/smoothing.h"
#include "slackline/profile/derive.h"

namespace slackline {

void prepare(Profile& profile, std::string_view request) {
  if (request == "smooth=convex") {
    smooth_convex(profile);
  } else {
    derive_kinds(profile, request);
  }
}

}  // namespace slackline
