#include "slackline/measure/switch_time.h"

#include <cmath>
#include <map>
#include <set>

#include "catch.h"
#include "dice.h"
#include "test_device.h"

namespace slackline {
namespace {

/// One GPU that takes its time to change its clock, and the time it lives in, which passes only by sleeping
/// and calling.
class SlowGpu : public TestDevice, public ClockSetter, public Timeline {
 public:
  Seconds call{0.0004};
  Seconds reading{0.00005};
  Seconds ramp_begins{0.005};  // from the call's begin
  Seconds arrives{0.020};
  Megahertz ceiling{9999};  // no clock above it ever arrives
  EventReasons reasons_above_ceiling{};
  int read_offset = 0;
  std::vector<std::pair<Seconds, Megahertz>> requests{{Seconds(-10), Megahertz(1400)}};

  void set_clock(GpuId, Megahertz clock) override {
    before_ = clock_at(now_);
    requests.push_back({now_, clock});
    now_ += call;
  }
  [[nodiscard]] Megahertz observed_clock(GpuId) override {
    now_ += reading;
    return Megahertz(clock_at(now_).value() + read_offset);
  }
  [[nodiscard]] EventReasons event_reasons(GpuId) override {
    return requests.back().second > ceiling ? reasons_above_ceiling : EventReasons();
  }
  [[nodiscard]] Seconds now() override { return now_; }
  bool sleep_until(Seconds time) override {
    now_ = std::max(now_, time);
    return now_ < end;
  }
  Seconds end{1e9};

 private:
  [[nodiscard]] Megahertz clock_at(Seconds time) const {
    const auto& [asked, clock] = requests.back();
    const Megahertz target = std::min(clock, ceiling);
    if (time < asked + ramp_begins) return before_;
    if (time < asked + arrives) return Megahertz((before_.value() + target.value()) / 2);
    return target;
  }

  Seconds now_;
  Megahertz before_{1400};
};

const std::vector<Megahertz> kClocks{Megahertz(1400), Megahertz(1300), Megahertz(1200), Megahertz(1100),
                                     Megahertz(1000), Megahertz(900),  Megahertz(800)};

TEST_CASE("switch time: call, first change and arrival are the GPU's own, to within a poll", "[measure]") {
  Dice dice(21);
  for (int round = 0; round < 20; ++round) {
    CAPTURE(round);
    SlowGpu gpu;
    gpu.call = Seconds(dice.between(1e-4, 3e-3));
    gpu.ramp_begins = Seconds(dice.between(0.004, 0.02));
    gpu.arrives = gpu.ramp_begins + Seconds(dice.between(0.002, 0.3));
    const auto results = measure_switches(gpu, GpuId(0), gpu, gpu, spread_pairs(kClocks, 4));
    REQUIRE(results.size() == 12);
    for (const SwitchTime& result : results) {
      CHECK(result.switches == SwitchOptions{}.repeats);
      CHECK(result.arrived == result.switches);
      CHECK(result.why_not.empty());
      REQUIRE(result.stable);
      const double error = SwitchOptions{}.poll.value() + 2 * gpu.reading.value() + 1e-9;
      CHECK(std::abs((result.call.value() - gpu.call).value()) < 1e-9);
      CHECK(*result.first_change >= gpu.ramp_begins);
      CHECK((*result.first_change - gpu.ramp_begins).value() <= error);
      CHECK(*result.stable >= gpu.arrives);
      CHECK((*result.stable - gpu.arrives).value() <= error);
    }
  }
}

TEST_CASE("switch time: a clock that never arrives is given up, and said with the reasons", "[measure]") {
  SlowGpu gpu;
  gpu.ceiling = Megahertz(1250);
  gpu.reasons_above_ceiling |= EventReason::kPowerCap;
  const std::vector<ClockPair> pairs{{Megahertz(1000), Megahertz(1400)},
                                     {Megahertz(1200), Megahertz(800)},
                                     {Megahertz(1400), Megahertz(800)}};
  const auto results = measure_switches(gpu, GpuId(0), gpu, gpu, pairs);
  REQUIRE(results.size() == 3);
  CHECK(results[0].arrived == 0);
  CHECK_FALSE(results[0].stable);
  CHECK(results[0].why_not == "1250 MHz 2000 ms after 1400 MHz was asked for; event reasons: power-cap");
  CHECK(std::abs((results[0].call.value() - gpu.call).value()) < 1e-9);
  CHECK(results[1].arrived == results[1].switches);
  CHECK(results[2].arrived == 0);  // its first clock never arrives
  CHECK(results[2].why_not.find("after 1400 MHz was asked for") != std::string::npos);
  const auto summary = summary_of(results);
  REQUIRE(summary);
  REQUIRE(summary->pairs.size() == 1);
  CHECK(summary->pairs[0].from == Megahertz(1200));
  CHECK_FALSE(summary_of({results[0], results[2]}));
}

TEST_CASE("switch time: a driver that rounds its reading is believed, a clock that has not moved is not",
          "[measure]") {
  SlowGpu gpu;
  gpu.read_offset = -6;
  const auto rounded =
      measure_switches(gpu, GpuId(0), gpu, gpu, {{Megahertz(1400), Megahertz(1000)}}).front();
  CHECK(rounded.arrived == rounded.switches);
  SlowGpu stuck;
  stuck.ceiling = Megahertz(1000);
  const auto result =
      measure_switches(stuck, GpuId(0), stuck, stuck, {{Megahertz(1000), Megahertz(1006)}}).front();
  CHECK(result.arrived == 0);
}

TEST_CASE("switch time: a summary is the slowest pair's", "[measure]") {
  const auto one = [](int from, int to, double call, double first, double stable) {
    return SwitchTime{
        {Megahertz(from), Megahertz(to)}, Seconds(call), Seconds(first), Seconds(stable), 5, 5, ""};
  };
  const auto summary =
      summary_of({one(1400, 1000, 0.001, 0.008, 0.012), one(1000, 1400, 0.0005, 0.009, 0.010)});
  REQUIRE(summary);
  CHECK(summary->call_ms == 1);
  CHECK(summary->first_change_ms == 9);
  CHECK(summary->stable_ms == 12);
  CHECK(summary->pairs.size() == 2);
}

TEST_CASE("switch time: spread pairs are all ordered pairs of clocks from end to end", "[measure]") {
  for (std::size_t count : {2U, 3U, 4U, 7U, 50U}) {
    const auto pairs = spread_pairs(kClocks, count);
    const std::size_t used = std::min(count, kClocks.size());
    CHECK(pairs.size() == used * (used - 1));
    std::set<Megahertz> clocks;
    for (const auto& [from, to] : pairs) {
      CHECK(from != to);
      clocks.insert(from);
    }
    CHECK(clocks.size() == used);
    CHECK(*clocks.begin() == Megahertz(800));
    CHECK(*clocks.rbegin() == Megahertz(1400));
  }
  CHECK(spread_pairs({Megahertz(1000)}, 4).empty());
  CHECK(spread_pairs({}, 4).empty());
}

TEST_CASE("switch time: it ends early when its time does", "[measure]") {
  SlowGpu gpu;
  gpu.end = Seconds(0.2);
  const auto results = measure_switches(gpu, GpuId(0), gpu, gpu, spread_pairs(kClocks, 4));
  int switches = 0;
  for (const SwitchTime& result : results) switches += result.switches;
  CHECK(switches > 0);
  CHECK(switches < 12);
}

}  // namespace
}  // namespace slackline
