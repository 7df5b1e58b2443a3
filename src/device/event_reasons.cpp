#include "slackline/device/event_reasons.h"

#include <array>
#include <utility>

namespace slackline {

std::string text_of(EventReasons reasons) {
  constexpr std::array<std::pair<EventReason, const char*>, 10> kNames{
      {{EventReason::kIdle, "idle"},
       {EventReason::kUserSet, "user-set"},
       {EventReason::kPowerCap, "power-cap"},
       {EventReason::kHardwareSlowdown, "hardware-slowdown"},
       {EventReason::kSyncBoost, "sync-boost"},
       {EventReason::kThermal, "thermal"},
       {EventReason::kHardwareThermal, "hardware-thermal"},
       {EventReason::kPowerBrake, "power-brake"},
       {EventReason::kDisplay, "display"},
       {EventReason::kOther, "other"}}};
  std::string text;
  for (const auto& [reason, name] : kNames) {
    if (!reasons.has(reason)) continue;
    if (!text.empty()) text += ", ";
    text += name;
  }
  return text.empty() ? "none" : text;
}

}  // namespace slackline
