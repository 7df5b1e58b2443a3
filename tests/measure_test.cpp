#include <algorithm>
#include <cmath>
#include <condition_variable>
#include <mutex>
#include <thread>

#include "catch.h"
#include "dice.h"
#include "slackline/measure/energy_meter.h"
#include "test_device.h"

namespace slackline {
namespace {

/// GPUs of constant power behind counters that tick, and a time that goes as far as a test lets it.
class FakeGpus : public TestDevice {
 public:
  struct Gpu {
    Watts power;
    Seconds phase;
  };
  FakeGpus(std::vector<Gpu> gpus, Seconds period) : gpus_(std::move(gpus)), period_(period) {}

  [[nodiscard]] int gpu_count() const override { return static_cast<int>(gpus_.size()); }
  [[nodiscard]] EnergyReading energy(GpuId gpu) override {
    const Gpu& state = gpus_[gpu.index()];
    const std::lock_guard lock(mutex_);
    if (now_ >= fails_.first && now_ < fails_.second) {
      throw DeviceError("read energy", identity(gpu).uuid, "the GPU fell off the bus");
    }
    const double ticks = std::floor((now_ - state.phase) / period_);
    if (ticks < 0) return {Joules(1e6), Seconds(0)};
    const Seconds at = state.phase + period_ * ticks;
    const bool is_reset = at >= reset_;
    return {is_reset ? state.power * (at - reset_) : Joules(1e6) + state.power * at, at};
  }
  // Before anything runs.
  void start_at(Seconds time) { now_ = allowed_ = time; }
  void fail_between(Seconds begin, Seconds end) { fails_ = {begin, end}; }
  /// Counters begin at 0 again.
  void reset_at(Seconds time) { reset_ = time; }
  [[nodiscard]] Seconds energy_refresh_period() override { return period_; }

  /// Time goes on to `time`; returns when everybody has seen all of it.
  void let_run_until(Seconds time) {
    std::unique_lock lock(mutex_);
    allowed_ = time;
    changed_.notify_all();
    changed_.wait(lock, [&] { return wanted_ > time || ended_; });
  }
  void end() {
    const std::lock_guard lock(mutex_);
    ended_ = true;
    changed_.notify_all();
  }

  class Time : public Timeline {
   public:
    explicit Time(FakeGpus& gpus) : gpus_(gpus) {}
    [[nodiscard]] Seconds now() override {
      const std::lock_guard lock(gpus_.mutex_);
      return gpus_.now_;
    }
    bool sleep_until(Seconds time) override {
      std::unique_lock lock(gpus_.mutex_);
      gpus_.wanted_ = time;
      gpus_.changed_.notify_all();
      gpus_.changed_.wait(lock, [&] { return gpus_.allowed_ >= time || gpus_.ended_; });
      if (!gpus_.ended_) gpus_.now_ = time;
      return !gpus_.ended_;
    }

   private:
    FakeGpus& gpus_;
  };

 private:
  std::vector<Gpu> gpus_;
  Seconds period_;
  std::pair<Seconds, Seconds> fails_{Seconds(1e9), Seconds(1e9)};
  Seconds reset_{1e9};
  std::mutex mutex_;
  std::condition_variable changed_;
  Seconds now_;
  Seconds allowed_;
  Seconds wanted_;
  bool ended_ = false;
};

std::vector<GpuId> all_of(const Device& device) {
  std::vector<GpuId> gpus;
  for (int g = 0; g < device.gpu_count(); ++g) gpus.emplace_back(g);
  return gpus;
}

TEST_CASE("measure: energy over an interval is power times time at constant power, whatever the ticks",
          "[measure]") {
  Dice dice(7);
  for (int round = 0; round < 20; ++round) {
    CAPTURE(round);
    const Seconds period(dice.between(0.02, 0.1));
    std::vector<FakeGpus::Gpu> gpus;
    Watts power;
    for (int g = dice.number(1, 8); g > 0; --g) {
      gpus.push_back({Watts(dice.between(50, 400)), period * dice.part()});
      power += gpus.back().power;
    }
    FakeGpus device(gpus, period);
    EnergyMeter meter(device, all_of(device), std::make_unique<FakeGpus::Time>(device));
    std::vector<Seconds> moments;
    Seconds moment = period * 2.0;
    for (int i = 0; i < 30; ++i) {
      moment += Seconds(dice.between(0, 0.2));
      moments.push_back(moment);
      // As a job does: marked once it has happened, or announced, and answered when the ticks have passed it.
      if (dice.number(0, 1) == 0) device.let_run_until(moment);
      meter.mark(moment);
    }
    device.let_run_until(moment + period * 3.0);
    for (std::size_t a = 0; a < moments.size(); ++a) {
      for (std::size_t b = a; b < moments.size(); ++b) {
        const auto energy = meter.energy_between(moments[a], moments[b]);
        REQUIRE(energy);
        const Joules expected = power * (moments[b] - moments[a]);
        CHECK(std::abs((*energy - expected).value()) < 1e-6);
      }
    }
    device.end();
  }
}

TEST_CASE("measure: a moment is answered only when every counter has ticked after it", "[measure]") {
  FakeGpus device({{Watts(100), Seconds(0.01)}, {Watts(100), Seconds(0.09)}}, Seconds(0.1));
  EnergyMeter meter(device, all_of(device), std::make_unique<FakeGpus::Time>(device));
  meter.mark(Seconds(0.3));
  meter.mark(Seconds(0.5));
  device.let_run_until(Seconds(0.5));
  CHECK(meter.is_open(Seconds(0.5)));
  CHECK_FALSE(meter.energy_between(Seconds(0.3), Seconds(0.5)));
  device.let_run_until(Seconds(0.56));  // one has ticked
  CHECK(meter.is_open(Seconds(0.5)));
  CHECK_FALSE(meter.energy_between(Seconds(0.3), Seconds(0.5)));
  device.let_run_until(Seconds(0.7));
  CHECK_FALSE(meter.is_open(Seconds(0.5)));
  CHECK(meter.energy_between(Seconds(0.3), Seconds(0.5)));
  CHECK_FALSE(meter.energy_between(Seconds(0.3), Seconds(0.6)));  // never marked
  device.end();
}

TEST_CASE("measure: what was before the first reading is not known, rather than nothing", "[measure]") {
  FakeGpus device({{Watts(100), Seconds(0.03)}}, Seconds(0.1));
  device.start_at(Seconds(10));
  EnergyMeter meter(device, all_of(device), std::make_unique<FakeGpus::Time>(device));
  for (const double moment : {9.0, 9.5, 10.5, 11.0}) meter.mark(Seconds(moment));
  device.let_run_until(Seconds(12));
  CHECK_FALSE(meter.is_open(Seconds(9.5)));
  CHECK_FALSE(meter.energy_between(Seconds(9), Seconds(9.5)));
  CHECK_FALSE(meter.energy_between(Seconds(9.5), Seconds(10.5)));
  REQUIRE(meter.energy_between(Seconds(10.5), Seconds(11)));
  CHECK(std::abs(meter.energy_between(Seconds(10.5), Seconds(11))->value() - 50) < 1e-6);
  device.end();
}

TEST_CASE("measure: a reading that fails is left out, and a counter that was reset voids what spans that",
          "[measure]") {
  FakeGpus device({{Watts(100), Seconds(0.03)}, {Watts(50), Seconds(0.07)}}, Seconds(0.1));
  device.fail_between(Seconds(1), Seconds(2));
  device.reset_at(Seconds(5));
  EnergyMeter meter(device, all_of(device), std::make_unique<FakeGpus::Time>(device));
  for (const double moment : {0.5, 1.5, 2.5, 4.0, 6.0, 7.0}) meter.mark(Seconds(moment));
  device.let_run_until(Seconds(8));
  const auto energy = [&](double begin, double end) {
    const auto known = meter.energy_between(Seconds(begin), Seconds(end));
    return known ? known->value() : -1;
  };
  CHECK(std::abs(energy(0.5, 1.5) - 150) < 1e-6);
  CHECK(std::abs(energy(0.5, 4) - 525) < 1e-6);
  CHECK(energy(4, 6) == -1);
  CHECK(std::abs(energy(6, 7) - 150) < 1e-6);
  CHECK(meter.fault() == "");
  device.end();
}

TEST_CASE("measure: a GPU that cannot be read any more ends what is known, and says why", "[measure]") {
  FakeGpus device({{Watts(100), Seconds(0.03)}}, Seconds(0.1));
  device.fail_between(Seconds(2), Seconds(1e9));
  EnergyMeter meter(device, all_of(device), std::make_unique<FakeGpus::Time>(device));
  for (const double moment : {0.5, 1.5, 3.0}) meter.mark(Seconds(moment));
  device.let_run_until(Seconds(6));
  CHECK(meter.fault() == "");
  std::thread time([&] { device.let_run_until(Seconds(9)); });
  meter.finish();
  CHECK(meter.energy_between(Seconds(0.5), Seconds(1.5)));
  CHECK_FALSE(meter.energy_between(Seconds(1.5), Seconds(3)));
  CHECK(meter.fault().find("fell off") != std::string::npos);
  device.end();
  time.join();
}

TEST_CASE("measure: answers before a moment are forgotten, later ones are kept", "[measure]") {
  FakeGpus device({{Watts(100), Seconds(0.03)}}, Seconds(0.1));
  EnergyMeter meter(device, all_of(device), std::make_unique<FakeGpus::Time>(device));
  for (const double moment : {0.5, 0.6, 0.7}) meter.mark(Seconds(moment));
  device.let_run_until(Seconds(1));
  meter.forget_before(Seconds(0.6));
  CHECK_FALSE(meter.energy_between(Seconds(0.5), Seconds(0.6)));
  CHECK(meter.energy_between(Seconds(0.6), Seconds(0.7)));
  device.end();
}

TEST_CASE("measure: finishing waits for the answers, but not beyond the end of time", "[measure]") {
  FakeGpus device({{Watts(100), Seconds(0.03)}}, Seconds(0.1));
  EnergyMeter meter(device, all_of(device), std::make_unique<FakeGpus::Time>(device));
  meter.mark(Seconds(0.5));
  std::thread time([&] { device.let_run_until(Seconds(1)); });
  meter.finish();
  CHECK_FALSE(meter.is_open(Seconds(0.5)));
  time.join();
  meter.mark(Seconds(5));
  std::thread end([&] { device.end(); });
  meter.finish();
  CHECK(meter.is_open(Seconds(5)));
  end.join();
}

}  // namespace
}  // namespace slackline
