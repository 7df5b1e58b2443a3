#pragma once
#include "slackline/report/profile_report.h"

namespace slackline {

/// What a plan should not be built on, on standard error.
void say_warnings(const ProfileSummary& summary);

}  // namespace slackline
