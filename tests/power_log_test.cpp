#include "slackline/measure/power_log.h"

#include <cmath>

#include "catch.h"
#include "dice.h"
#include "slackline/measure/counter_refresh.h"
#include "slackline/measure/reading_cost.h"
#include "test_device.h"

namespace slackline {
namespace {

/// GPUs whose state is a function of time, behind counters that tick; time goes as far as a test lets it.
class ScriptedGpus : public TestDevice {
 public:
  struct Gpu {
    Seconds phase;
    std::function<Watts(Seconds)> power;
    /// The integral of `power`; what the counter counts.
    std::function<Joules(Seconds)> energy;
    std::function<Megahertz(Seconds)> clock = [](Seconds) { return Megahertz(1000); };
    std::function<EventReasons(Seconds)> reasons = [](Seconds) { return EventReasons(); };
    std::function<double(Seconds)> temperature = [](Seconds) { return 40.0; };
    GpuAbilities abilities{};
  };
  ScriptedGpus(std::vector<Gpu> gpus, Seconds period) : gpus_(std::move(gpus)), period_(period) {}

  static Gpu of_power(Watts watts, Seconds phase = Seconds(0)) {
    return {phase, [watts](Seconds) { return watts; }, [watts](Seconds t) { return watts * t; }};
  }

  [[nodiscard]] int gpu_count() const override { return static_cast<int>(gpus_.size()); }
  [[nodiscard]] GpuAbilities abilities(GpuId gpu) override { return gpus_[gpu.index()].abilities; }
  [[nodiscard]] EnergyReading energy(GpuId gpu) override {
    const Gpu& state = gpus_[gpu.index()];
    const double ticks = std::floor((now() - state.phase) / period_);
    const Seconds at = ticks < 0 ? Seconds(0) : state.phase + period_ * ticks;
    return {state.energy(at), at};
  }
  [[nodiscard]] Seconds energy_refresh_period() override { return period_; }
  [[nodiscard]] Watts power(GpuId gpu) override { return gpus_[gpu.index()].power(now()); }
  [[nodiscard]] Megahertz observed_clock(GpuId gpu) override { return gpus_[gpu.index()].clock(now()); }
  [[nodiscard]] EventReasons event_reasons(GpuId gpu) override { return gpus_[gpu.index()].reasons(now()); }
  [[nodiscard]] double temperature(GpuId gpu) override { return gpus_[gpu.index()].temperature(now()); }

  /// Time goes on to `time`; returns when everybody has seen all of it.
  void let_run_until(Seconds time) {
    std::unique_lock lock(mutex_);
    allowed_ = time;
    changed_.notify_all();
    changed_.wait(lock, [&] { return wanted_ > time; });
  }
  /// From now on time goes as fast as it is slept away.
  void let_run() {
    const std::lock_guard lock(mutex_);
    allowed_ = Seconds(1e9);
    changed_.notify_all();
  }

  class Time : public Timeline {
   public:
    explicit Time(ScriptedGpus& gpus) : gpus_(gpus) {}
    [[nodiscard]] Seconds now() override { return gpus_.now(); }
    bool sleep_until(Seconds time) override {
      std::unique_lock lock(gpus_.mutex_);
      gpus_.wanted_ = time;
      gpus_.changed_.notify_all();
      gpus_.changed_.wait(lock, [&] { return gpus_.allowed_ >= time; });
      gpus_.now_ = std::max(gpus_.now_, time);
      return true;
    }

   private:
    ScriptedGpus& gpus_;
  };

 private:
  [[nodiscard]] Seconds now() {
    const std::lock_guard lock(mutex_);
    return now_;
  }

  std::vector<Gpu> gpus_;
  Seconds period_;
  std::mutex mutex_;
  std::condition_variable changed_;
  Seconds now_;
  Seconds allowed_;
  Seconds wanted_;
};

std::vector<GpuUse> uses_between(ScriptedGpus& device, Seconds begin, Seconds end,
                                 Seconds interval = Seconds(0.05)) {
  PowerLog log(device, all_gpus(device), std::make_unique<ScriptedGpus::Time>(device), interval);
  log.begin(begin);
  device.let_run_until(end);
  log.end(end);
  device.let_run();
  log.finish();
  return log.uses();
}

TEST_CASE("power log: at constant power, counter and samples both give power times time", "[measure]") {
  Dice dice(11);
  for (int round = 0; round < 20; ++round) {
    CAPTURE(round);
    const Seconds period(dice.between(0.02, 0.1));
    std::vector<ScriptedGpus::Gpu> gpus;
    std::vector<double> watts;
    for (int g = dice.number(1, 4); g > 0; --g) {
      watts.push_back(dice.between(50, 400));
      gpus.push_back(ScriptedGpus::of_power(Watts(watts.back()), period * dice.part()));
    }
    ScriptedGpus device(gpus, period);
    const Seconds begin = period + Seconds(dice.between(0, 1));
    const Seconds end = begin + Seconds(dice.between(0.001, 60));
    const std::vector<GpuUse> uses = uses_between(device, begin, end, Seconds(dice.between(0.01, 0.1)));
    REQUIRE(uses.size() == gpus.size());
    for (std::size_t g = 0; g < uses.size(); ++g) {
      const double joules = watts[g] * (end - begin).value();
      REQUIRE(uses[g].energy);
      REQUIRE(uses[g].sampled_energy);
      CHECK(std::abs(uses[g].energy->value() - joules) < 1e-6);
      CHECK(std::abs(uses[g].sampled_energy->value() - joules) < 1e-6);
      CHECK(std::abs(uses[g].mean_power()->value() - watts[g]) < 1e-3);
      CHECK_FALSE(uses[g].disagreement());
    }
  }
}

TEST_CASE("power log: the energy is never further off than its stated uncertainty, whatever the power does",
          "[measure]") {
  Dice dice(12);
  for (int round = 0; round < 50; ++round) {
    CAPTURE(round);
    // A square wave, the worst that a linear interpolation within a tick can meet.
    const double low = dice.between(0, 100);
    const double high = dice.between(100, 700);
    const double half = dice.between(0.005, 0.3);
    const auto energy = [=](Seconds t) {
      const double waves = std::floor(t.value() / (2 * half));
      const double rest = t.value() - waves * 2 * half;
      return Joules(waves * half * (low + high) + low * std::min(rest, half) +
                    high * std::max(rest - half, 0.0));
    };
    const auto power = [=](Seconds t) { return Watts(std::fmod(t.value(), 2 * half) < half ? low : high); };
    const Seconds period(dice.between(0.02, 0.1));
    ScriptedGpus device({{period * dice.part(), power, energy}}, period);
    const Seconds begin = period + Seconds(dice.between(0, 1));
    const Seconds end = begin + Seconds(dice.between(0.001, 3));
    const GpuUse use = uses_between(device, begin, end, Seconds(dice.between(0.01, 0.2))).front();
    REQUIRE(use.energy);
    const double error = (*use.energy - (energy(end) - energy(begin))).value();
    CHECK(std::abs(error) <= use.energy_error.value() + 1e-6);
  }
}

TEST_CASE("power log: a window is short below twenty ticks, and its ticks are those inside", "[measure]") {
  ScriptedGpus device({ScriptedGpus::of_power(Watts(100), Seconds(0.03))}, Seconds(0.1));
  const GpuUse brief = uses_between(device, Seconds(0.5), Seconds(0.8)).front();
  CHECK(brief.ticks == 3);
  CHECK(brief.is_short());
  CHECK(std::abs(brief.energy_error.value() - 20) < 1e-6);  // 100 W for a tick at each end
  ScriptedGpus same({ScriptedGpus::of_power(Watts(100), Seconds(0.03))}, Seconds(0.1));
  const GpuUse longer = uses_between(same, Seconds(0.5), Seconds(2.5)).front();
  CHECK(longer.ticks == 20);
  CHECK_FALSE(longer.is_short());
}

TEST_CASE("power log: hours are as exact as seconds, with a bounded memory of the ticks", "[measure]") {
  ScriptedGpus device({ScriptedGpus::of_power(Watts(250), Seconds(0.013))}, Seconds(0.1));
  const GpuUse use = uses_between(device, Seconds(1), Seconds(3601)).front();
  REQUIRE(use.energy);
  CHECK(std::abs(use.energy->value() - 250.0 * 3600) < 1e-4);
  CHECK(std::abs(use.sampled_energy->value() - 250.0 * 3600) < 1e-4);
  CHECK(use.ticks == 36000);
}

TEST_CASE("power log: clocks and reasons are weighted by time, and the peak is the hottest moment",
          "[measure]") {
  ScriptedGpus::Gpu gpu = ScriptedGpus::of_power(Watts(100));
  gpu.clock = [](Seconds t) { return Megahertz(t < Seconds(4) ? 1400 : 1000); };
  gpu.reasons = [](Seconds t) {
    EventReasons reasons;
    if (t >= Seconds(4)) reasons |= EventReason::kPowerCap;
    if (t >= Seconds(5)) reasons |= EventReason::kThermal;
    return reasons;
  };
  gpu.temperature = [](Seconds t) { return t < Seconds(6) ? 30 + 10 * t.value() : 20; };
  ScriptedGpus device({gpu}, Seconds(0.1));
  const GpuUse use = uses_between(device, Seconds(2), Seconds(12)).front();
  REQUIRE(use.clocks);
  CHECK(use.clocks->lowest == Megahertz(1000));
  CHECK(use.clocks->highest == Megahertz(1400));
  CHECK(std::abs(use.clocks->mean_mhz - 1080) < 4);
  REQUIRE(use.reasons.size() == 2);
  CHECK(std::abs(use.reasons.at(EventReason::kPowerCap) - 0.8) < 0.01);
  CHECK(std::abs(use.reasons.at(EventReason::kThermal) - 0.7) < 0.01);
  REQUIRE(use.peak_temperature);
  CHECK(*use.peak_temperature > 89);
  CHECK(*use.peak_temperature < 90);
}

TEST_CASE("power log: what is outside the window leaves no trace", "[measure]") {
  ScriptedGpus::Gpu gpu = ScriptedGpus::of_power(Watts(100));
  const auto is_inside = [](Seconds t) { return t >= Seconds(1.9) && t < Seconds(3.1); };
  gpu.clock = [=](Seconds t) { return Megahertz(is_inside(t) ? 1200 : 500); };
  gpu.temperature = [=](Seconds t) { return is_inside(t) ? 40.0 : 90.0; };
  gpu.reasons = [=](Seconds t) { return is_inside(t) ? EventReasons() : EventReasons(4); };
  ScriptedGpus device({gpu}, Seconds(0.1));
  const GpuUse use = uses_between(device, Seconds(2), Seconds(3)).front();
  CHECK(use.clocks->lowest == Megahertz(1200));
  CHECK(std::abs(use.clocks->mean_mhz - 1200) < 1e-6);
  CHECK(use.peak_temperature == 40);
  CHECK(use.reasons.empty());
}

TEST_CASE("power log: a counter that disagrees with the power is found out, in long windows only",
          "[measure]") {
  for (const double factor : {0.5, 0.85, 0.95, 1.0, 1.05, 1.25}) {
    CAPTURE(factor);
    const auto gpu = [&] {
      ScriptedGpus::Gpu state = ScriptedGpus::of_power(Watts(100));
      state.energy = [factor](Seconds t) { return Watts(100 * factor) * t; };
      return state;
    };
    ScriptedGpus device({gpu()}, Seconds(0.1));
    const auto disagreement = uses_between(device, Seconds(1), Seconds(61)).front().disagreement();
    CHECK(disagreement.has_value() == (std::abs(1 / factor - 1) > 0.11));
    if (disagreement) CHECK(std::abs(*disagreement - (1 / factor - 1)) < 1e-6);
    ScriptedGpus brief({gpu()}, Seconds(0.1));
    CHECK_FALSE(uses_between(brief, Seconds(1), Seconds(1.5)).front().disagreement());
  }
}

TEST_CASE("power log: a driver that averages power over a second is not called wrong", "[measure]") {
  const auto energy = [](double t) { return t < 1 ? 50 * t : 50 + 500 * (t - 1); };
  ScriptedGpus::Gpu gpu;
  gpu.energy = [=](Seconds t) { return Joules(energy(t.value())); };
  gpu.power = [=](Seconds t) { return Watts(energy(t.value()) - energy(std::max(t.value() - 1, 0.0)) + 1); };
  ScriptedGpus device({gpu}, Seconds(0.1));
  const GpuUse use = uses_between(device, Seconds(1), Seconds(3.5)).front();
  CHECK(*use.sampled_energy < *use.energy * 0.9);
  CHECK_FALSE(use.disagreement());
}

TEST_CASE("power log: a counter that is reset voids the energy and nothing else", "[measure]") {
  ScriptedGpus::Gpu gpu = ScriptedGpus::of_power(Watts(100));
  gpu.energy = [](Seconds t) { return Watts(100) * (t < Seconds(5) ? t : t - Seconds(4.9)); };
  ScriptedGpus device({gpu, ScriptedGpus::of_power(Watts(70))}, Seconds(0.1));
  const std::vector<GpuUse> uses = uses_between(device, Seconds(1), Seconds(11));
  CHECK_FALSE(uses[0].energy);
  CHECK(uses[0].why_no_energy.find("reset") != std::string::npos);
  CHECK(std::abs(uses[0].sampled_energy->value() - 1000) < 1e-6);
  CHECK(uses[0].clocks);
  CHECK(std::abs(uses[0].mean_power()->value() - 100) < 1e-6);
  CHECK(std::abs(uses[1].energy->value() - 700) < 1e-6);
}

TEST_CASE("power log: readings that fail now and then are left out", "[measure]") {
  Dice dice(13);
  ScriptedGpus::Gpu gpu = ScriptedGpus::of_power(Watts(100));
  const auto fails = [&dice] { return dice.number(0, 4) == 0; };
  gpu.power = [=](Seconds t) {
    if (t > Seconds(0) && fails()) throw DeviceError("read power", "GPU 0", "not supported");
    return t > Seconds(0) && fails() ? Watts(0) : Watts(100);
  };
  gpu.energy = [=](Seconds t) {
    if (t > Seconds(0) && fails()) throw DeviceError("read energy", "GPU 0", "not supported");
    return t > Seconds(0) && fails() ? Joules(0) : Joules(1e6) + Watts(100) * t;
  };
  gpu.clock = [=](Seconds t) {
    if (t > Seconds(0) && fails()) throw DeviceError("read clock", "GPU 0", "not supported");
    return Megahertz(1300);
  };
  ScriptedGpus device({gpu}, Seconds(0.1));
  const GpuUse use = uses_between(device, Seconds(0.5), Seconds(20.5)).front();
  REQUIRE(use.energy);
  CHECK(std::abs(use.energy->value() - 2000) < 1e-6);
  CHECK(std::abs(use.sampled_energy->value() - 2000) < 1e-6);
  CHECK(std::abs(use.clocks->mean_mhz - 1300) < 1e-6);
}

TEST_CASE("power log: what cannot be read is empty and says why; the rest, and the other GPUs, stand",
          "[measure]") {
  ScriptedGpus::Gpu lost = ScriptedGpus::of_power(Watts(100));
  lost.energy = [](Seconds t) -> Joules {
    if (t > Seconds(2)) throw DeviceError("read energy", "GPU 0", "GPU is lost");
    return Watts(100) * t;
  };
  ScriptedGpus::Gpu frozen = ScriptedGpus::of_power(Watts(100));
  frozen.phase = Seconds(1e6);  // never ticks
  ScriptedGpus::Gpu poor = ScriptedGpus::of_power(Watts(100));
  poor.abilities.energy.why_not = "no counter before Volta";
  poor.abilities.power.why_not = "no sensor";
  poor.abilities.temperature.why_not = "no sensor";
  poor.abilities.event_reasons.why_not = "an old driver";
  ScriptedGpus device({lost, frozen, poor, ScriptedGpus::of_power(Watts(100))}, Seconds(0.1));
  const std::vector<GpuUse> uses = uses_between(device, Seconds(1), Seconds(4));
  CHECK_FALSE(uses[0].energy);
  CHECK(uses[0].why_no_energy == "read energy on GPU 0: GPU is lost");
  CHECK(uses[0].sampled_energy);
  CHECK_FALSE(uses[1].energy);
  CHECK(uses[1].why_no_energy == "the energy counter stands still");
  CHECK_FALSE(uses[2].energy);
  CHECK(uses[2].why_no_energy == "no counter before Volta");
  CHECK(uses[2].why_no_power == "no sensor");
  CHECK(uses[2].why_no_reasons == "an old driver");
  CHECK_FALSE(uses[2].sampled_energy);
  CHECK_FALSE(uses[2].mean_power());
  CHECK_FALSE(uses[2].peak_temperature);
  CHECK(uses[2].clocks);
  CHECK(std::abs(uses[3].energy->value() - 300) < 1e-6);
}

TEST_CASE("power log: an ended log that was never finished stops by itself", "[measure]") {
  ScriptedGpus device({ScriptedGpus::of_power(Watts(100))}, Seconds(0.1));
  PowerLog log(device, all_gpus(device), std::make_unique<ScriptedGpus::Time>(device));
  device.let_run();
}

TEST_CASE("counter refresh: the intervals are the counter's, to within a poll", "[measure]") {
  Dice dice(14);
  for (int round = 0; round < 10; ++round) {
    const Seconds period(dice.between(0.02, 0.12));
    CAPTURE(period.value());
    ScriptedGpus device({ScriptedGpus::of_power(Watts(100), period * dice.part())}, period);
    device.let_run();
    ScriptedGpus::Time time(device);
    const CounterRefresh seen = watch_counter(device, GpuId(0), time, Seconds(5));
    CHECK(seen.intervals + 3 > static_cast<std::size_t>(Seconds(5) / period));
    for (const Seconds interval : {seen.shortest, seen.median, seen.longest}) {
      CHECK(std::abs((interval - period).value()) <= 0.0021);
    }
  }
}

TEST_CASE("counter refresh: a counter that does not tick has no interval, one that fails says so",
          "[measure]") {
  ScriptedGpus device({ScriptedGpus::of_power(Watts(0))}, Seconds(0.1));
  device.let_run();
  ScriptedGpus::Time time(device);
  CHECK(watch_counter(device, GpuId(0), time, Seconds(2)).intervals == 0);
  ScriptedGpus::Gpu lost = ScriptedGpus::of_power(Watts(100));
  lost.energy = [](Seconds) -> Joules { throw DeviceError("read energy", "GPU 0", "GPU is lost"); };
  ScriptedGpus lost_device({lost}, Seconds(0.1));
  lost_device.let_run();
  ScriptedGpus::Time lost_time(lost_device);
  const CounterRefresh none = watch_counter(lost_device, GpuId(0), lost_time, Seconds(2));
  CHECK(none.intervals == 0);
  CHECK(none.fault == "read energy on GPU 0: GPU is lost");
}

TEST_CASE("reading cost: each reading has a cost, or says why it has none", "[measure]") {
  ScriptedGpus::Gpu gpu = ScriptedGpus::of_power(Watts(100));
  gpu.abilities.power_cap.why_not = "no cap";
  gpu.temperature = [](Seconds) -> double {
    throw DeviceError("read temperature", "GPU 0", "unknown error");
  };
  ScriptedGpus device({gpu}, Seconds(0.1));
  const std::vector<ReadingCost> costs = reading_costs(device, GpuId(0), 10);
  REQUIRE(costs.size() == 6);
  for (const ReadingCost& cost : costs) {
    CAPTURE(cost.reading);
    CHECK(cost.median <= cost.longest);
    if (cost.reading == "power cap") {
      CHECK(cost.why_not == "no cap");
    } else if (cost.reading == "temperature") {
      CHECK(cost.why_not == "read temperature on GPU 0: unknown error");
    } else {
      CHECK(cost.why_not.empty());
      CHECK(cost.longest > Seconds(0));
    }
  }
}

}  // namespace
}  // namespace slackline
