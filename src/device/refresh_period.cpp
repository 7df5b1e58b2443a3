#include "slackline/device/refresh_period.h"

#include <algorithm>
#include <optional>
#include <string>
#include <vector>

#include "slackline/base/error.h"

namespace slackline {
namespace {

constexpr Seconds kPollEvery(0.002);
constexpr Seconds kPatience(1.5);
constexpr std::size_t kChanges = 6;

Seconds median(std::vector<Seconds> values) {
  std::sort(values.begin(), values.end());
  const std::size_t upper = values.size() / 2;
  const std::size_t lower = (values.size() - 1) / 2;
  return (values[lower] + values[upper]) / 2.0;
}

}  // namespace

Seconds measure_refresh_period(const std::function<EnergyReading()>& read, Timeline& time) {
  const char* kOperation = "measure refresh period of the energy counter";
  const Seconds end = time.now() + kPatience;
  std::optional<Joules> last;
  std::string fault;
  std::vector<Seconds> changes;
  for (Seconds next = time.now(); changes.size() < kChanges && next < end;) {
    if (!time.sleep_until(next)) throw DeviceError(kOperation, "", "ended early, as it was asked to");
    try {
      const EnergyReading reading = read();
      if (last && reading.total != *last) changes.push_back(reading.at);
      last = reading.total;
    } catch (const DeviceError& error) {  // drivers that are asked often fail now and then
      fault = error.what();
    }
    next = std::max(next + kPollEvery, time.now());  // a slow read delays those after it, but adds none
  }
  if (changes.size() < 2)
    throw DeviceError(
        kOperation, "",
        "it changed less than twice in a second and a half" + (fault.empty() ? "" : "; " + fault));
  std::vector<Seconds> periods;
  for (std::size_t i = 1; i < changes.size(); ++i) periods.push_back(changes[i] - changes[i - 1]);
  return median(std::move(periods));
}

}  // namespace slackline
