#include <algorithm>
#include <array>
#include <atomic>
#include <cmath>
#include <condition_variable>
#include <mutex>
#include <thread>

#include "catch.h"
#include "dice.h"
#include "mailbox.h"
#include "scratch_folder.h"
#include "slackline/measure/clock_sweep.h"
#include "slackline/measure/energy_meter.h"
#include "slackline/measure/line_fit.h"
#include "test_device.h"

namespace slackline {
namespace {

TEST_CASE("measure: a line through points of a line is that line, however far from the origin", "[measure]") {
  for (const double offset : {0.0, 1e3, 1e6, 1e9}) {
    for (const double slope : {150.0, -3.5, 0.0}) {
      CAPTURE(offset, slope);
      std::vector<double> x;
      std::vector<double> y;
      for (int i = 0; i < 25; ++i) {
        x.push_back(1e5 + 0.1 * i);
        y.push_back(offset + slope * 0.1 * i);
      }
      const LineFit fit = fit_line(x, y);
      // The last bit of the offset, over the seconds that the points span.
      const double rounding = 1e-9 + offset * 1e-15;
      CHECK(std::abs(fit.slope - slope) < rounding + 1e-9 * std::abs(slope));
      CHECK(fit.standard_error < rounding + 1e-9 * std::abs(slope));
    }
  }
  const LineFit two = fit_line({1, 3}, {10, 20});
  CHECK(two.slope == 5);
  CHECK(two.standard_error == 0);
}

TEST_CASE("measure: the standard error of a slope says how far it is from the truth", "[measure]") {
  Dice dice(20240611);
  constexpr int kRounds = 400;
  double squares = 0;
  for (int round = 0; round < kRounds; ++round) {
    CAPTURE(round);
    const double slope = dice.between(-300, 300);
    const double spread = dice.between(0.1, 20);
    std::vector<double> x;
    std::vector<double> y;
    for (int i = 0; i < 40; ++i) {
      x.push_back(0.1 * i + dice.between(0, 0.02));
      y.push_back(1e7 + slope * x.back() + spread * normal(dice));
    }
    const LineFit fit = fit_line(x, y);
    const double in_errors = (fit.slope - slope) / fit.standard_error;
    CHECK(std::abs(in_errors) < 6);
    squares += in_errors * in_errors;
  }
  CHECK(squares / kRounds > 0.8);
  CHECK(squares / kRounds < 1.3);
}

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

using Options = std::vector<SimOption>;

/// Two stages that pass microbatches on and back, and repeat what a sweep asks for.
class SweptPipeline : public SweepControl {
 public:
  explicit SweptPipeline(const std::vector<SimStage>& stages, const SimOptions& options = {}) {
    SimWorld::create(path_, stages, options);
    world_ = std::make_shared<SimWorld>(path_);
    int gpu = 0;
    for (const SimStage& stage : stages) {
      stage_gpus_.emplace_back();
      for (int g = 0; g < stage.gpus; ++g) stage_gpus_.back().emplace_back(gpu++);
    }
    forward_.emplace(*world_, 0);
    backward_.emplace(*world_, 1);
  }
  ~SweptPipeline() override {
    ending_ = true;
    forward_->close();
    backward_->close();
    for (std::thread& thread : threads_) thread.join();
  }
  void set_clock(int stage, Megahertz clock) override {
    for (const GpuId gpu : stage_gpus_[static_cast<std::size_t>(stage)]) {
      if (clock == Megahertz(0)) {
        world_->unlock_clock(gpu);
      } else {
        world_->lock_clock(gpu, clock);
      }
    }
  }
  void set_repeat(int stage, std::uint32_t kinds) override {
    repeat_[static_cast<std::size_t>(stage)] = kinds;
  }

  SimWorld& world() { return *world_; }
  /// From now on a stage waits for the other only while that repeats something and it does not.
  void uncouple() { is_coupled_ = false; }

  struct Result {
    std::vector<StageProfile> profiles;
    bool complete = false;
  };
  /// Sweeps while the pipeline runs, at most until `limit`.
  Result sweep(Seconds limit = Seconds(1e9)) {
    SimDevice device(world_);
    ClockSweep sweep(device, stage_gpus_, log_, *this);
    SimTimeline timeline(world_);
    SimWorld::Participant watcher = world_->join_as_observer();
    std::thread stop([this, limit, self = std::move(watcher)]() mutable {
      SimWorld::Participant participant = std::move(self);
      if (participant.sleep_until(limit)) world_->shut_down();
    });
    for (int s = 0; s < 2; ++s) {
      threads_.emplace_back([this, s, participant = world_->join_as_stage(s)]() mutable {
        SimWorld::Participant self = std::move(participant);
        run_stage(s, self);
      });
    }
    Result result{sweep.run(timeline), false};
    result.complete = sweep.complete();
    ending_ = true;
    world_->shut_down();
    stop.join();
    return result;
  }

 private:
  void run_stage(int stage, SimWorld::Participant& self) {
    while (!ending_) {
      if (!is_coupled_) {
        compute(stage, self, InstructionKind::kForward);
        compute(stage, self, InstructionKind::kBackward);
        const auto own = static_cast<std::size_t>(stage);
        while (!ending_ && repeat_[1 - own] != 0 && repeat_[own] == 0) {
          if (!self.sleep_until(world_->now() + Seconds(0.01))) return;
        }
        continue;
      }
      if (stage == 1 && !forward_->receive(self)) return;
      compute(stage, self, InstructionKind::kForward);
      if (stage == 0) forward_->send();
      if (stage == 0 && !backward_->receive(self)) return;
      compute(stage, self, InstructionKind::kBackward);
      if (stage == 1) backward_->send();
    }
  }
  void compute(int stage, SimWorld::Participant& self, InstructionKind kind) {
    log_.begin(stage, kind, world_->now());
    self.launch(kind);
    self.synchronize();
    const std::uint32_t bit = 1U << static_cast<unsigned>(kind);
    while (!ending_ && (repeat_[static_cast<std::size_t>(stage)] & bit) != 0) {
      log_.again(stage, world_->now());
      self.launch(kind);
      self.synchronize();
    }
    log_.end(stage, world_->now());
  }

  ScratchFolder folder_;
  std::string path_ = folder_.file("gpus");
  std::shared_ptr<SimWorld> world_;
  std::vector<std::vector<GpuId>> stage_gpus_;
  InstructionLog log_{2};
  std::optional<Mailbox> forward_;
  std::optional<Mailbox> backward_;
  std::array<std::atomic<std::uint32_t>, 2> repeat_{};
  std::atomic<bool> ending_ = false;
  bool is_coupled_ = true;
  std::vector<std::thread> threads_;
};

SimStage stage_of(int gpus, double blocking, const Options& forward, const Options& backward) {
  return {
      gpus, Watts(blocking), {{InstructionKind::kForward, forward}, {InstructionKind::kBackward, backward}}};
}

/// Options whose effective cost e - p t falls from clock to clock, so that no sweep ends early.
Options falling_options(double time, double energy) {
  Options options;
  for (int i = 0; i < 8; ++i) {
    options.push_back(
        {Megahertz(1400 - 100 * i), Seconds(time * (1 + 0.07 * i)), Joules(energy * (1 - 0.04 * i))});
  }
  return options;
}

double relative_error(double measured, double truth) {
  return std::abs(measured / truth - 1);
}

void check_profile(const SimStage& truth, const StageProfile& measured, double tolerance) {
  REQUIRE(measured.blocking_power);
  CHECK(relative_error(measured.blocking_power->value(), truth.blocking_power.value()) < tolerance);
  CHECK(measured.tensor_parallel == truth.gpus);
  for (const auto& [kind, options] : truth.instructions) {
    const auto& found = measured.instructions.at(kind);
    REQUIRE(found.size() <= options.size());
    for (std::size_t i = 0; i < found.size(); ++i) {
      CAPTURE(name_of(kind), found[i].clock.value());
      CHECK(found[i].clock == options[i].clock);
      CHECK(relative_error(found[i].time.value(), options[i].time.value()) < tolerance);
      CHECK(relative_error(found[i].energy.value(), options[i].energy.value()) < tolerance);
    }
  }
}

TEST_CASE("measure: a sweep of quiet GPUs finds the truth at every clock", "[measure]") {
  const std::vector<SimStage> truth{stage_of(2, 80, falling_options(0.05, 15), falling_options(0.11, 30)),
                                    stage_of(1, 65, falling_options(0.23, 60), falling_options(0.017, 4))};
  SweptPipeline pipeline(truth);
  const SweptPipeline::Result result = pipeline.sweep();
  CHECK(result.complete);
  REQUIRE(result.profiles.size() == 2);
  for (std::size_t s = 0; s < 2; ++s) {
    CAPTURE(s);
    check_profile(truth[s], result.profiles[s], 1e-4);
    for (const auto& [kind, options] : truth[s].instructions) {
      CHECK(result.profiles[s].instructions.at(kind).size() == options.size());
    }
  }
}

TEST_CASE("measure: a stage that never waits by itself is made to, for its blocking power", "[measure]") {
  // Equal stages that end every window together.
  const SimStage truth = stage_of(1, 72, falling_options(0.05, 15), falling_options(0.11, 30));
  SweptPipeline pipeline({truth, truth});
  pipeline.uncouple();
  const SweptPipeline::Result result = pipeline.sweep();
  CHECK(result.complete);
  REQUIRE(result.profiles.size() == 2);
  for (const StageProfile& profile : result.profiles) check_profile(truth, profile, 1e-4);
}

TEST_CASE("measure: a sweep of noisy GPUs is within five times its precision", "[measure]") {
  SimOptions noisy;
  noisy.noise = 0.01;
  noisy.seed = 31;
  const std::vector<SimStage> truth{stage_of(1, 80, falling_options(0.05, 15), falling_options(0.11, 30)),
                                    stage_of(1, 80, falling_options(0.04, 13), falling_options(0.09, 27))};
  SweptPipeline pipeline(truth, noisy);
  const SweptPipeline::Result result = pipeline.sweep();
  CHECK(result.complete);
  REQUIRE(result.profiles.size() == 2);
  for (std::size_t s = 0; s < 2; ++s)
    check_profile(truth[s], result.profiles[s], 5 * SweepOptions{}.precision);
}

TEST_CASE("measure: an instruction's sweep ends after five rises of its effective cost in a row",
          "[measure]") {
  // Time rises throughout; e - p t falls until `turn`, from then on it rises.
  constexpr double kBlocking = 70;
  const auto turning = [](int turn) {
    Options options;
    for (int i = 0; i < 20; ++i) {
      const double time = 0.05 * (1 + 0.05 * i);
      const double cost = 10 - 0.2 * std::min(i, turn) + 0.2 * std::max(i - turn, 0);
      options.push_back({Megahertz(1400 - 15 * i), Seconds(time), Joules(cost + kBlocking * time)});
    }
    return options;
  };
  SweptPipeline pipeline(
      {stage_of(1, kBlocking, turning(4), turning(9)), stage_of(1, kBlocking, turning(0), turning(30))});
  const SweptPipeline::Result result = pipeline.sweep();
  CHECK(result.complete);
  REQUIRE(result.profiles.size() == 2);
  const auto measured = [&](std::size_t stage, InstructionKind kind) {
    return result.profiles[stage].instructions.at(kind).size();
  };
  CHECK(measured(0, InstructionKind::kForward) == 4 + 1 + 5);
  CHECK(measured(0, InstructionKind::kBackward) == 9 + 1 + 5);
  CHECK(measured(1, InstructionKind::kForward) == 0 + 1 + 5);
  CHECK(measured(1, InstructionKind::kBackward) == 20);
}

TEST_CASE("measure: a sweep whose time ends early is incomplete, and gives the clocks back", "[measure]") {
  SweptPipeline pipeline({stage_of(1, 80, falling_options(0.05, 15), falling_options(0.11, 30)),
                          stage_of(1, 80, falling_options(0.04, 13), falling_options(0.09, 27))});
  const SweptPipeline::Result result = pipeline.sweep(Seconds(20));
  CHECK_FALSE(result.complete);
  REQUIRE(result.profiles.size() == 2);
  CHECK(result.profiles[0].instructions.at(InstructionKind::kForward).size() < 8);
  SimWorld& world = pipeline.world();
  for (int g = 0; g < world.gpus(); ++g) CHECK(world.locked_clock(GpuId(g)) == std::nullopt);
}

}  // namespace
}  // namespace slackline
