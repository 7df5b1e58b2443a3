#include "slackline/measure/clock_sweep.h"

#include <array>
#include <atomic>
#include <cmath>
#include <thread>

#include "catch.h"
#include "dice.h"
#include "mailbox.h"
#include "scratch_folder.h"
#include "slackline/measure/combine.h"
#include "test_device.h"

namespace slackline {
namespace {

using Options = std::vector<SimOption>;

/// Two stages that pass microbatches on and back, step after step, and repeat or wait as a sweep asks.
class SweptPipeline : public SweepControl {
 public:
  explicit SweptPipeline(const std::vector<SimRank>& stages, const SimOptions& options = {}) {
    SimWorld::create(path_, stages, options);
    world_ = std::make_shared<SimWorld>(path_);
    int gpu = 0;
    for (const SimRank& stage : stages) {
      stage_gpus_.emplace_back();
      StageRecording recording;
      recording.stages = {static_cast<int>(begun_.stages.size())};
      recording.gpus = stage.gpus;
      recording.clocks = world_->supported_clocks(GpuId(gpu));
      begun_.stages.push_back(recording);
      for (int g = 0; g < stage.gpus; ++g) stage_gpus_.back().emplace_back(gpu++);
    }
    begun_.pipeline_stages = 2;
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
  void hold(int stage, Seconds time) override { hold_[static_cast<std::size_t>(stage)] = time.value(); }
  bool has_stranger(GpuId) override { return false; }
  void keep(const Recording& recording) override {
    kept_ = recording;
    ++keeps_;
  }

  SimWorld& world() { return *world_; }
  [[nodiscard]] const Recording& begun() const { return begun_; }
  [[nodiscard]] const std::optional<Recording>& kept() const { return kept_; }
  [[nodiscard]] int keeps() const { return keeps_; }
  /// Both stages compute by themselves, and wait for nobody.
  void uncouple() { is_coupled_ = false; }
  void mark_no_steps() { marks_steps_ = false; }

  struct Result {
    Recording recording;
    bool complete = false;
    Seconds end;
  };
  /// Sweeps while the pipeline runs, at most until `limit`.
  Result sweep(const SweepOptions& options = {}, Seconds limit = Seconds(1e9),
               const std::optional<Recording>& begun = {}) {
    SimDevice device(world_);
    ClockSweep sweep(device, stage_gpus_, begun.value_or(begun_), *this, options);
    trace_ = &sweep.trace();
    std::optional<SimTimeline> timeline(world_);
    SimWorld::Participant watcher = world_->join_as_observer();
    std::thread stop([this, limit, self = std::move(watcher)]() mutable {
      SimWorld::Participant participant = std::move(self);
      if (participant.sleep_until(limit)) world_->shut_down();
    });
    for (int s = 0; s < 2; ++s) {
      threads_.emplace_back([this, s, participant = world_->join_as_rank(s)]() mutable {
        SimWorld::Participant self = std::move(participant);
        run_stage(s, self);
      });
    }
    std::exception_ptr failure;
    try {
      sweep.run(*timeline);
    } catch (...) {
      failure = std::current_exception();
    }
    Result result{sweep.recording(), sweep.is_complete(), world_->now()};
    timeline.reset();  // time stands still while it looks on
    ending_ = true;
    world_->shut_down();
    stop.join();
    forward_->close();
    backward_->close();
    for (std::thread& thread : threads_) thread.join();
    threads_.clear();
    if (failure) std::rethrow_exception(failure);
    return result;
  }

 private:
  static constexpr int kMicrobatches = 6;

  void run_stage(int stage, SimWorld::Participant& self) {
    const auto own = static_cast<std::size_t>(stage);
    while (!ending_) {
      if (const double seconds = hold_[own].exchange(0); seconds > 0) {
        if (!self.sleep_until(world_->now() + Seconds(seconds))) return;
      }
      if (marks_steps_) trace_->step_begin(stage, world_->now());
      for (int m = 0; m < kMicrobatches; ++m) {
        if (is_coupled_ && stage == 1 && !forward_->receive(self)) return;
        compute(stage, self, InstructionKind::kForward);
        if (is_coupled_ && stage == 0) forward_->send();
        if (is_coupled_ && stage == 0 && !backward_->receive(self)) return;
        compute(stage, self, InstructionKind::kBackward);
        if (is_coupled_ && stage == 1) backward_->send();
      }
      if (marks_steps_) trace_->step_end(stage, world_->now());
    }
  }
  void compute(int stage, SimWorld::Participant& self, InstructionKind kind) {
    trace_->begin(stage, kind, world_->now());
    self.launch(kind);
    self.synchronize();
    const std::uint32_t bit = 1U << static_cast<unsigned>(kind);
    while (!ending_ && (repeat_[static_cast<std::size_t>(stage)] & bit) != 0) {
      trace_->again(stage, world_->now());
      self.launch(kind);
      self.synchronize();
    }
    trace_->end(stage, world_->now());
  }

  ScratchFolder folder_;
  std::string path_ = folder_.file("gpus");
  std::shared_ptr<SimWorld> world_;
  std::vector<std::vector<GpuId>> stage_gpus_;
  Recording begun_;
  std::optional<Recording> kept_;
  int keeps_ = 0;
  JobTrace* trace_ = nullptr;
  std::optional<Mailbox> forward_;
  std::optional<Mailbox> backward_;
  std::array<std::atomic<std::uint32_t>, 2> repeat_{};
  std::array<std::atomic<double>, 2> hold_{};
  std::atomic<bool> ending_ = false;
  bool is_coupled_ = true;
  bool marks_steps_ = true;
  std::vector<std::thread> threads_;
};

SimRank stage_of(int gpus, double blocking, const Options& forward, const Options& backward) {
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

const std::vector<SimRank>& two_stages() {
  static const std::vector<SimRank> kStages{
      stage_of(2, 80, falling_options(0.05, 15), falling_options(0.11, 30)),
      stage_of(1, 65, falling_options(0.23, 60), falling_options(0.017, 4))};
  return kStages;
}

double relative_error(double measured, double truth) {
  return std::abs(measured / truth - 1);
}

void check_stage(const SimRank& truth, const StageProfile& measured, double tolerance) {
  if (measured.blocking_power) {
    CHECK(relative_error(measured.blocking_power->value(), truth.blocking_power.value()) < tolerance);
  }
  CHECK(measured.tensor_parallel == truth.gpus);
  for (const auto& [task, options] : truth.instructions) {
    const auto& found = measured.instructions.at(task.kind);
    CHECK(found.size() == options.size());
    for (const Measurement& m : found) {
      CAPTURE(name_of(task.kind), m.clock.value());
      const auto option = std::ranges::find(options, m.clock, &SimOption::clock);
      REQUIRE(option != options.end());
      CHECK(relative_error(m.time.value(), option->time.value()) < tolerance);
      CHECK(relative_error(m.energy.value(), option->energy.value()) < tolerance);
      if (m.second_energy == Joules(0)) continue;  // it could not tell
      CHECK(std::abs((m.second_energy - option->energy).value()) <
            tolerance * option->energy.value() + 4 * m.second_energy_error.value());
    }
  }
}

void check_profile(const std::vector<SimRank>& truth, const SweptPipeline::Result& result, double tolerance) {
  CHECK(result.complete);
  const std::vector<StageProfile> profiles = combine({result.recording});
  REQUIRE(profiles.size() == truth.size());
  for (std::size_t s = 0; s < truth.size(); ++s) {
    CAPTURE(s);
    check_stage(truth[s], profiles[s], tolerance);
  }
}

std::vector<int> clocks_visited(const Recording& recording, std::size_t stage) {
  std::vector<int> clocks;
  for (const Visit& visit : recording.stages[stage].visits) clocks.push_back(visit.clock.value());
  return clocks;
}

TEST_CASE("sweep: quiet GPUs are found as they are at every clock, whatever the order", "[sweep]") {
  SweepOptions options;
  SECTION("down and up again") {}
  SECTION("down only") {
    options.order.revisits = false;
  }
  SECTION("in a random order") {
    options.order.is_random = true;
    options.order.seed = 5;
  }
  SECTION("isolated") {
    options.is_isolated = true;
  }
  SweptPipeline pipeline(two_stages());
  check_profile(two_stages(), pipeline.sweep(options), 3e-3);
}

TEST_CASE("sweep: the second pass is the first one backwards", "[sweep]") {
  for (const bool is_random : {false, true}) {
    SweepOptions options;
    options.order.is_random = is_random;
    SweptPipeline pipeline(two_stages());
    const std::vector<int> clocks = clocks_visited(pipeline.sweep(options).recording, 1);
    REQUIRE(clocks.size() == 16);
    CHECK(std::equal(clocks.begin(), clocks.end(), clocks.rbegin()));
    CHECK(std::is_sorted(clocks.begin(), clocks.begin() + 8, std::greater<>()) != is_random);
  }
}

TEST_CASE("sweep: noisy GPUs are found to within their errors", "[sweep]") {
  SimOptions noisy;
  noisy.noise = 0.01;
  noisy.seed = 31;
  SweptPipeline pipeline(two_stages(), noisy);
  check_profile(two_stages(), pipeline.sweep(), 0.025);
}

TEST_CASE("sweep: an interrupted one goes on where it was, and finds the same clocks", "[sweep]") {
  const std::vector<int> whole = [] {
    SweptPipeline pipeline(two_stages());
    return clocks_visited(pipeline.sweep().recording, 0);
  }();
  std::optional<Recording> kept;
  int rounds = 0;
  for (const double limit : {20.0, 40.0, 1e9}) {
    CAPTURE(limit);
    SweptPipeline pipeline(two_stages());
    const SweptPipeline::Result result = pipeline.sweep({}, Seconds(limit), kept);
    CHECK(result.complete == (limit == 1e9));
    REQUIRE(pipeline.kept());
    CHECK(rounds_done(*pipeline.kept()) > rounds);
    rounds = rounds_done(*pipeline.kept());
    // It is kept as text.
    kept = parse_recording("kept", to_yaml(*pipeline.kept()));
    CHECK(to_yaml(*kept) == to_yaml(*pipeline.kept()));
    for (int g = 0; g < pipeline.world().gpus(); ++g) {
      CHECK(pipeline.world().locked_clock(GpuId(g)) == std::nullopt);
    }
  }
  CHECK(clocks_visited(*kept, 0) == whole);
  for (const StageRecording& stage : kept->stages) {
    for (std::size_t v = 1; v < stage.visits.size(); ++v) {
      CHECK(stage.visits[v].span.begin >= stage.visits[v - 1].span.end);
    }
  }
  check_profile(two_stages(), {*kept, true, {}}, 3e-3);
}

TEST_CASE("sweep: stages that never wait are made to, for their blocking power", "[sweep]") {
  // Stage 0 waits for stage 1 in every step; stage 1, which is late, only for what it is held up by.
  SweepOptions options;
  options.blocking_wait = Seconds(7);
  SweptPipeline pipeline(two_stages());
  const SweptPipeline::Result result = pipeline.sweep(options);
  for (const StageRecording& stage : result.recording.stages) {
    double longest = 0;
    for (const Visit& visit : stage.visits) {
      if (visit.is_wait) longest = std::max(longest, visit.estimate.waited.value());
    }
    CHECK(longest > 6);
  }
  check_profile(two_stages(), result, 3e-3);
}

TEST_CASE("sweep: stages that wait for nobody have no blocking power, and the rest is measured", "[sweep]") {
  SweptPipeline pipeline(two_stages());
  pipeline.uncouple();
  const SweptPipeline::Result result = pipeline.sweep();
  for (const StageProfile& stage : combine({result.recording})) CHECK_FALSE(stage.blocking_power);
  check_profile(two_stages(), result, 3e-3);
}

TEST_CASE("sweep: a stage is through after five rises of all its effective costs in a row", "[sweep]") {
  // Time rises throughout; e - p t falls until `turn`, from then on it rises.
  constexpr double kBlocking = 70;
  const auto turning = [](int turn) {
    Options options;
    for (int i = 0; i < 20; ++i) {
      const double time = 0.3 * (1 + 0.05 * i);
      const double cost = 30 - 0.6 * std::min(i, turn) + 0.6 * std::max(i - turn, 0);
      options.push_back({Megahertz(1400 - 15 * i), Seconds(time), Joules(cost + kBlocking * time)});
    }
    return options;
  };
  SweptPipeline pipeline(
      {stage_of(1, kBlocking, turning(4), turning(9)), stage_of(1, kBlocking, turning(0), turning(30))});
  const SweptPipeline::Result result = pipeline.sweep();
  CHECK(result.complete);
  CHECK(clocks_visited(result.recording, 0).size() == 2 * (9 + 1 + 5));
  CHECK(clocks_visited(result.recording, 1).size() == 2 * 20);
}

TEST_CASE("sweep: where one stage is through the others go on, and it is at its own clock", "[sweep]") {
  const Options short_list{{Megahertz(1400), Seconds(0.1), Joules(30)},
                           {Megahertz(1300), Seconds(0.11), Joules(29)}};
  SweptPipeline pipeline({stage_of(1, 70, short_list, short_list), two_stages()[1]});
  const SweptPipeline::Result result = pipeline.sweep();
  CHECK(clocks_visited(result.recording, 0).size() == 4);
  CHECK(clocks_visited(result.recording, 1).size() == 16);
}

TEST_CASE("sweep: a budget measures what it is told to choose, twice, and no more", "[sweep]") {
  SweepOptions options;
  options.order.budget = 3;
  std::vector<int> rounds_asked;
  options.order.choose = [&](const Recording& so_far) -> std::optional<RoundClocks> {
    rounds_asked.push_back(rounds_done(so_far));
    const std::array choices{1400, 700, 1000};
    const auto round = static_cast<std::size_t>(rounds_done(so_far));
    return RoundClocks{Megahertz(choices.at(round)), Megahertz(round == 2 ? 0 : choices.at(round))};
  };
  SweptPipeline pipeline(two_stages());
  const SweptPipeline::Result result = pipeline.sweep(options);
  CHECK(clocks_visited(result.recording, 0) == std::vector<int>{1400, 700, 1000, 1000, 700, 1400});
  CHECK(clocks_visited(result.recording, 1) == std::vector<int>{1400, 700, 700, 1400});
  CHECK(rounds_asked == std::vector<int>{0, 1, 2});
}

TEST_CASE("sweep: a job that marks no steps is told so", "[sweep]") {
  SweptPipeline pipeline(two_stages());
  pipeline.mark_no_steps();
  CHECK_THROWS_WITH(pipeline.sweep(), has_text("marked no step") && has_text("--isolated"));
}

}  // namespace
}  // namespace slackline
