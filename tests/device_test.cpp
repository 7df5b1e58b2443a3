#include <signal.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <atomic>
#include <chrono>
#include <functional>
#include <thread>

#include "catch.h"
#include "dice.h"
#include "mailbox.h"
#include "scratch_folder.h"
#include "slackline/base/error.h"
#include "slackline/device/open_device.h"
#include "slackline/device/sim_world.h"

namespace slackline {
namespace {

constexpr double kNanosecond = 1e-9;
constexpr Megahertz kHigh(1400);
constexpr Megahertz kMiddle(1000);
constexpr Megahertz kLow(700);
constexpr double kBlockingW = 60;
constexpr double kHighW = 300;    // 30 J in 0.1 s
constexpr double kMiddleW = 180;  // 27 J in 0.15 s

/// A stage whose figures are easy to reckon with. The switch latency of SimOptions is 10 ms, a tick 100 ms.
SimRank easy_stage(int gpus = 1) {
  const std::vector<SimOption> forward{{kHigh, Seconds(0.1), Joules(30)},
                                       {kMiddle, Seconds(0.15), Joules(27)},
                                       {kLow, Seconds(0.2), Joules(28)}};
  std::vector<SimOption> backward = forward;
  for (SimOption& option : backward) {
    option.time = option.time * 2.0;
    option.energy = option.energy * 2.0;
  }
  return {gpus,
          Watts(kBlockingW),
          {{InstructionKind::kForward, forward}, {InstructionKind::kBackward, backward}}};
}

/// A node of simulated GPUs in a folder of its own.
struct Node {
  explicit Node(const std::vector<SimRank>& stages, const SimOptions& options = {}) {
    SimWorld::create(path, stages, options);
    world.emplace(path);
  }
  ScratchFolder folder;
  std::string path = folder.file("gpus");
  std::optional<SimWorld> world;
};

Seconds run_once(SimWorld& world, SimWorld::Participant& participant, InstructionKind kind) {
  const Seconds begin = world.now();
  participant.launch(kind);
  participant.synchronize();
  return world.now() - begin;
}

bool within_nanoseconds(Seconds a, double b, double nanoseconds = 2) {
  return std::abs(a.value() - b) <= nanoseconds * kNanosecond;
}

void pass_wall_time(int milliseconds) {
  std::this_thread::sleep_for(std::chrono::milliseconds(milliseconds));
}

/// The hand-made truth about a GPU: from when it draws what.
struct PowerTrace {
  struct Piece {
    double from;
    double watts;
  };
  std::vector<Piece> pieces;

  [[nodiscard]] double joules_until(double time) const {
    double joules = 0;
    for (std::size_t i = 0; i < pieces.size() && pieces[i].from < time; ++i) {
      const double end = i + 1 < pieces.size() ? std::min(pieces[i + 1].from, time) : time;
      joules += pieces[i].watts * (end - pieces[i].from);
    }
    return joules;
  }
};

TEST_CASE("device: a request that the next one takes back at once leaves no trace, to the bit", "[device]") {
  const auto energies_of = [](bool asks) {
    SimOptions options;
    options.noise = options.energy_noise = 0.01;
    Node node({easy_stage()}, options);
    SimWorld& world = *node.world;
    SimWorld::Participant stage = world.join_as_rank(0);
    std::vector<double> energies;
    for (int run = 0; run < 50; ++run) {
      if (asks) {
        world.lock_clock(GpuId(0), kLow);
        world.lock_clock(GpuId(0), kHigh);
      }
      run_once(world, stage, InstructionKind::kForward);
      stage.sleep_until(world.now() + Seconds(0.0317));
      energies.push_back(world.energy(GpuId(0)).total.value());
    }
    return energies;
  };
  CHECK(energies_of(true) == energies_of(false));
}

TEST_CASE("device: an instruction takes the time that was measured at its clock", "[device]") {
  Node node({easy_stage()});
  SimWorld& world = *node.world;
  SimWorld::Participant stage = world.join_as_rank(0);
  const std::vector<std::pair<Megahertz, double>> expected{{kHigh, 0.1}, {kMiddle, 0.15}, {kLow, 0.2}};
  for (const auto& [clock, seconds] : expected) {
    CAPTURE(clock.value());
    world.lock_clock(GpuId(0), clock);
    stage.sleep_until(world.now() + Seconds(0.010));
    CHECK(within_nanoseconds(run_once(world, stage, InstructionKind::kForward), seconds));
    CHECK(within_nanoseconds(run_once(world, stage, InstructionKind::kBackward), 2 * seconds));
  }
}

TEST_CASE("device: a rank runs the instructions of each of its stages", "[device]") {
  SimRank rank = easy_stage();
  const auto forward = rank.instructions.at(InstructionKind::kForward);
  rank.instructions.erase(InstructionKind::kForward);
  rank.instructions[{InstructionKind::kForward, StageId(3)}] = {{kHigh, Seconds(0.4), Joules(90)}};
  rank.instructions[{InstructionKind::kForward, StageId(1)}] = forward;
  Node node({rank});
  SimWorld& world = *node.world;
  SimWorld::Participant participant = world.join_as_rank(0);
  const auto run = [&](std::optional<StageId> stage) {
    const Seconds begin = world.now();
    participant.launch(InstructionKind::kForward, stage);
    participant.synchronize();
    return world.now() - begin;
  };
  CHECK(within_nanoseconds(run(StageId(1)), 0.1));
  CHECK(within_nanoseconds(run(StageId(3)), 0.4));
  CHECK(within_nanoseconds(run({}), 0.1));  // the first that has it
  CHECK_THROWS_AS(run(StageId(2)), DeviceError);
}

TEST_CASE("device: a straggler takes so many times as long, from one time to another, and draws no more",
          "[device]") {
  SimOptions options;
  options.straggler = 1.5;
  options.straggler_from = Seconds(1.05);
  options.straggler_until = Seconds(2);
  for (const bool may_straggle : {false, true}) {
    CAPTURE(may_straggle);
    SimRank rank = easy_stage();
    rank.may_straggle = may_straggle;
    Node node({rank}, options);
    SimWorld& world = *node.world;
    SimWorld::Participant participant = world.join_as_rank(0);
    const auto seconds_at = [&](double begin) {
      participant.sleep_until(Seconds(begin));
      participant.launch(InstructionKind::kForward);
      CHECK(world.power(GpuId(0)).value() == Approx(kHighW));
      participant.synchronize();
      return world.now() - Seconds(begin);
    };
    CHECK(within_nanoseconds(seconds_at(0.5), 0.1));
    CHECK(within_nanoseconds(seconds_at(1), may_straggle ? 0.125 : 0.1));  // half of it before
    CHECK(within_nanoseconds(seconds_at(1.5), may_straggle ? 0.15 : 0.1));
    CHECK(within_nanoseconds(seconds_at(2), 0.1));
  }
}

TEST_CASE("device: a clock arrives after the switch latency and work in flight goes on at its rate",
          "[device]") {
  Node node({easy_stage()});
  SimWorld& world = *node.world;
  SimWorld::Participant stage = world.join_as_rank(0);
  // Asked for at the start: a tenth done at the high clock when it arrives, nine tenths at the middle one.
  world.lock_clock(GpuId(0), kMiddle);
  CHECK(world.observed_clock(GpuId(0)) == kHigh);
  CHECK(within_nanoseconds(run_once(world, stage, InstructionKind::kForward), 0.010 + 0.9 * 0.15));
  CHECK(world.observed_clock(GpuId(0)) == kMiddle);

  // Asked for from outside, 30 ms into an instruction; and upwards: 40 of 150 ms done, the rest at the high.
  const Seconds begin = world.now();
  SimWorld::Participant observer = world.join_as_observer();
  std::thread owner([&] {
    observer.sleep_until(begin + Seconds(0.030));
    world.unlock_clock(GpuId(0));
    observer.sleep_until(begin + Seconds(100));
  });
  CHECK(within_nanoseconds(run_once(world, stage, InstructionKind::kForward),
                           0.040 + (1 - 0.040 / 0.15) * 0.1));
  CHECK(world.observed_clock(GpuId(0)) == kHigh);
  world.shut_down();
  owner.join();
}

TEST_CASE("device: of several requests the last wins, and asking again for the same delays nothing",
          "[device]") {
  Node node({easy_stage()});
  SimWorld& world = *node.world;
  SimWorld::Participant stage = world.join_as_rank(0);
  const auto at = [&](double time) { return stage.sleep_until(Seconds(time)); };

  world.lock_clock(GpuId(0), kMiddle);
  at(0.004);
  world.lock_clock(GpuId(0), kLow);
  at(0.0139);
  CHECK(world.observed_clock(GpuId(0)) == kHigh);  // the middle clock was given up
  at(0.0141);
  CHECK(world.observed_clock(GpuId(0)) == kLow);

  at(1);
  world.lock_clock(GpuId(0), kMiddle);
  at(1.004);
  world.lock_clock(GpuId(0), kMiddle);
  at(1.0101);
  CHECK(world.observed_clock(GpuId(0)) == kMiddle);

  // There and back within the latency: the clock never changes.
  at(2);
  world.lock_clock(GpuId(0), kHigh);
  at(2.004);
  world.lock_clock(GpuId(0), kMiddle);
  CHECK(within_nanoseconds(run_once(world, stage, InstructionKind::kForward), 0.15));
}

TEST_CASE("device: the counter stands between ticks and at a tick shows the integral of power", "[device]") {
  Node node({easy_stage(3)});
  SimWorld& world = *node.world;
  const std::vector<PowerTrace::Piece> pieces{{0, kBlockingW},  {0.25, kHighW},    {0.35, kBlockingW},
                                              {0.60, kHighW},   {0.61, kMiddleW},  {0.745, kBlockingW},
                                              {1.00, kMiddleW}, {1.30, kBlockingW}};
  const PowerTrace trace{pieces};
  struct Sample {
    Seconds now;
    EnergyReading reading;
  };
  std::array<std::vector<Sample>, 3> samples;
  SimWorld::Participant stage = world.join_as_rank(0);
  SimWorld::Participant observer = world.join_as_observer();
  std::thread sampler([&] {
    for (int i = 1; i < 200; ++i) {
      observer.sleep_until(Seconds(0.0093 * i));
      for (int g = 0; g < 3; ++g)
        samples[static_cast<std::size_t>(g)].push_back({world.now(), world.energy(GpuId(g))});
    }
    SimWorld::Participant last = std::move(observer);
  });
  stage.sleep_until(Seconds(0.25));
  run_once(world, stage, InstructionKind::kForward);
  stage.sleep_until(Seconds(0.60));
  for (int g = 0; g < 3; ++g) world.lock_clock(GpuId(g), kMiddle);
  run_once(world, stage, InstructionKind::kForward);
  stage.sleep_until(Seconds(1.00));
  run_once(world, stage, InstructionKind::kBackward);
  stage.sleep_until(Seconds(3));
  sampler.join();

  std::array<double, 3> phases{};
  for (std::size_t g = 0; g < 3; ++g) {
    CAPTURE(g);
    REQUIRE(samples[g].size() == 199);
    std::size_t ticks = 0;
    double first_tick = 0;
    for (std::size_t i = 0; i < samples[g].size(); ++i) {
      const auto& [now, reading] = samples[g][i];
      CAPTURE(now.value(), reading.at.value(), reading.total.value());
      CHECK(reading.at <= now);
      CHECK(now - reading.at < Seconds(0.1));
      CHECK(std::abs(reading.total.value() - trace.joules_until(reading.at.value())) < 1e-5);
      if (reading.at == Seconds(0)) continue;
      if (ticks == 0) first_tick = reading.at.value();
      if (i > 0 && reading.at == samples[g][i - 1].reading.at) {
        CHECK(reading.total == samples[g][i - 1].reading.total);
        continue;
      }
      CHECK(within_nanoseconds(reading.at, first_tick + 0.1 * static_cast<double>(ticks)));
      ++ticks;
    }
    CHECK(ticks >= 18);
    phases[g] = first_tick;
  }
  // Counters of different GPUs do not tick together.
  CHECK(std::abs(phases[0] - phases[1]) > 0.01);
  CHECK(std::abs(phases[1] - phases[2]) > 0.01);
}

TEST_CASE("device: one GPU at a lower clock slows its whole stage, and the others wait for it", "[device]") {
  Node node({easy_stage(4)});
  SimWorld& world = *node.world;
  SimWorld::Participant stage = world.join_as_rank(0);
  world.lock_clock(GpuId(2), kMiddle);
  stage.sleep_until(Seconds(1));
  CHECK(within_nanoseconds(run_once(world, stage, InstructionKind::kForward), 0.15));
  stage.sleep_until(Seconds(2));
  for (int g = 0; g < 4; ++g) {
    CAPTURE(g);
    const EnergyReading reading = world.energy(GpuId(g));
    const double work = g == 2 ? 27 : 30 + kBlockingW * 0.05;
    const double waiting = kBlockingW * (reading.at.value() - 0.15);
    CHECK(std::abs(reading.total.value() - work - waiting) < 1e-6);
  }
}

TEST_CASE("device: a lock survives the process that set it, until somebody unlocks", "[device]") {
  Node node({easy_stage(2)});
  SimWorld& world = *node.world;
  const pid_t child = ::fork();
  if (child == 0) {
    SimWorld own(node.path);
    own.lock_clock(GpuId(1), kMiddle);
    ::_exit(0);
  }
  int status = 0;
  REQUIRE(::waitpid(child, &status, 0) == child);
  REQUIRE(status == 0);
  CHECK(world.locked_clock(GpuId(0)) == std::nullopt);
  CHECK(world.locked_clock(GpuId(1)) == kMiddle);
  SimWorld::Participant stage = world.join_as_rank(0);
  stage.sleep_until(Seconds(1));
  CHECK(world.observed_clock(GpuId(1)) == kMiddle);

  open_device("simnode:" + node.path)->restore(GpuId(1), "");
  CHECK(world.locked_clock(GpuId(1)) == std::nullopt);
  stage.sleep_until(Seconds(2));
  CHECK(world.observed_clock(GpuId(1)) == kHigh);
}

TEST_CASE("device: a simulated GPU is found again by its device's spec and its UUID", "[device]") {
  auto node = std::make_unique<Node>(std::vector{easy_stage(2)});
  SimDevice device(std::make_shared<SimWorld>(node->path));
  CHECK(all_gpus(device) == std::vector{GpuId(0), GpuId(1)});
  device.lock_clock(GpuId(1), kLow);
  const std::string uuid = device.identity(GpuId(1)).uuid;
  CHECK(uuid != device.identity(GpuId(0)).uuid);
  CHECK(uuid.find_first_not_of("ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_.") ==
        std::string::npos);
  REQUIRE(is_device_spec(device.spec()));
  const auto again = open_device(device.spec());
  const auto gpu = find_gpu(*again, uuid);
  REQUIRE(gpu == GpuId(1));
  again->restore(*gpu, device.state(GpuId(1)));
  CHECK(node->world->locked_clock(GpuId(1)) == std::nullopt);
  CHECK(find_gpu(*again, "GPU-8f6d") == std::nullopt);
  node.reset();
  CHECK_THROWS_AS(open_device(device.spec()), DeviceError);
}

TEST_CASE("device: a clock that the GPU does not have is refused and changes nothing", "[device]") {
  Node node({easy_stage()});
  SimWorld& world = *node.world;
  CHECK(world.supported_clocks(GpuId(0)) == std::vector{kHigh, kMiddle, kLow});
  CHECK_THROWS_AS(world.lock_clock(GpuId(0), Megahertz(999)), DeviceError);
  CHECK_THROWS_AS(world.lock_clock(GpuId(0), Megahertz(0)), DeviceError);
  CHECK(world.locked_clock(GpuId(0)) == std::nullopt);
}

/// Three stages in three threads that pass eight microbatches on and back. Ends of all instructions, in the
/// order of the stages, and what the counters show at the end; the host's delays come from `delays`.
std::vector<double> results_of_pipeline(const SimOptions& options, std::uint64_t delays) {
  constexpr int kStages = 3;
  constexpr int kMicrobatches = 8;
  Node node({easy_stage(2), easy_stage(1), easy_stage(2)}, options);
  SimWorld& world = *node.world;
  std::vector<std::unique_ptr<Mailbox>> down;
  std::vector<std::unique_ptr<Mailbox>> up;
  std::vector<SimWorld::Participant> participants;
  for (int s = 0; s < kStages; ++s) {
    down.push_back(std::make_unique<Mailbox>(world, 2 * static_cast<SimWorld::Channel>(s)));
    up.push_back(std::make_unique<Mailbox>(world, 2 * static_cast<SimWorld::Channel>(s) + 1));
    participants.push_back(world.join_as_rank(s));
  }
  std::array<std::vector<double>, kStages> ends;
  std::vector<std::thread> threads;
  for (int s = 0; s < kStages; ++s) {
    threads.emplace_back([&, s] {
      const auto i = static_cast<std::size_t>(s);
      SimWorld::Participant self = std::move(participants[i]);
      Dice dice(delays + i);
      const auto work = [&](InstructionKind kind) {
        std::this_thread::sleep_for(std::chrono::microseconds(dice.number(0, 300)));
        run_once(world, self, kind);
        ends[i].push_back(world.now().value());
      };
      for (int m = 0; m < kMicrobatches; ++m) {
        if (s > 0) down[i]->receive(self);
        if (m == 3) world.lock_clock(GpuId(s == 0 ? 0 : s == 1 ? 2 : 3), kMiddle);
        work(InstructionKind::kForward);
        if (s + 1 < kStages) down[i + 1]->send();
      }
      for (int m = 0; m < kMicrobatches; ++m) {
        if (s + 1 < kStages) up[i]->receive(self);
        work(InstructionKind::kBackward);
        if (s > 0) up[i - 1]->send();
      }
      self.sleep_until(Seconds(20));  // the same moment for all, so that nobody leaves earlier
      for (int g = 0; g < 5; ++g) {
        const EnergyReading reading = world.energy(GpuId(g));
        if (s == 0) ends[i].insert(ends[i].end(), {reading.total.value(), reading.at.value()});
      }
    });
  }
  for (std::thread& thread : threads) thread.join();
  std::vector<double> all;
  for (const auto& list : ends) all.insert(all.end(), list.begin(), list.end());
  return all;
}

TEST_CASE("device: results repeat to the bit, whatever the host does; another seed gives other noise",
          "[device]") {
  SimOptions quiet;
  const std::vector<double> reference = results_of_pipeline(quiet, 1);
  CHECK(results_of_pipeline(quiet, 2) == reference);
  quiet.seed = 77;
  CHECK(results_of_pipeline(quiet, 3) == reference);  // without noise there is nothing to seed

  SimOptions noisy;
  noisy.noise = 0.02;
  noisy.seed = 5;
  const std::vector<double> first = results_of_pipeline(noisy, 4);
  CHECK(results_of_pipeline(noisy, 5) == first);
  CHECK(first != reference);
  noisy.seed = 6;
  CHECK(results_of_pipeline(noisy, 4) != first);

  SimOptions troubled;
  troubled.noise = 0.02;
  troubled.energy_noise = 0.03;
  troubled.throttling = {0.2, Seconds(0.3)};
  troubled.intruder = {0.1, Seconds(0.2)};
  troubled.leakage = 0.05;
  troubled.counter_resets = Seconds(1.3);
  troubled.seed = 5;
  const std::vector<double> trouble = results_of_pipeline(troubled, 6);
  CHECK(results_of_pipeline(troubled, 7) == trouble);
  troubled.seed = 6;
  CHECK(results_of_pipeline(troubled, 6) != trouble);
}

TEST_CASE("device: noise changes single times, not their mean", "[device]") {
  SimOptions options;
  options.noise = 0.02;
  Node node({easy_stage()}, options);
  SimWorld::Participant stage = node.world->join_as_rank(0);
  constexpr int kRuns = 2000;
  double sum = 0;
  double squares = 0;
  for (int i = 0; i < kRuns; ++i) {
    const double relative = run_once(*node.world, stage, InstructionKind::kForward).value() / 0.1 - 1;
    sum += relative;
    squares += relative * relative;
  }
  CHECK(std::abs(sum / kRuns) < 5 * 0.02 / std::sqrt(kRuns));
  CHECK(std::abs(std::sqrt(squares / kRuns) - 0.02) < 0.002);
}

/// A counter that shows the energy until now.
SimOptions with_exact_counter() {
  SimOptions options;
  options.counter_period = Seconds(kNanosecond);
  return options;
}

struct Execution {
  double seconds;
  double joules;
};

/// On a node with such a counter.
Execution execute(SimWorld& world, SimWorld::Participant& participant, InstructionKind kind) {
  const Joules before = world.energy(GpuId(0)).total;
  const Seconds time = run_once(world, participant, kind);
  return {time.value(), (world.energy(GpuId(0)).total - before).value()};
}

/// Sleeps until `is_so` in steps of a millisecond.
void sleep_until_so(SimWorld& world, SimWorld::Participant& participant, const std::function<bool()>& is_so) {
  while (!is_so()) participant.sleep_until(world.now() + Seconds(0.001));
}

bool is_throttled(SimWorld& world, int gpu = 0) {
  return world.event_reasons(GpuId(gpu)).has(EventReason::kThermal);
}

bool is_intruded(SimWorld& world) {
  const std::vector<int> processes = world.processes(GpuId(0));
  return std::find(processes.begin(), processes.end(), 0) != processes.end();
}

TEST_CASE("device: noise of energy changes single energies, not their mean, and no time's noise changes them",
          "[device]") {
  SimOptions options = with_exact_counter();
  options.noise = 0.02;
  options.energy_noise = 0.05;
  Node node({easy_stage()}, options);
  SimWorld::Participant stage = node.world->join_as_rank(0);
  constexpr int kRuns = 2000;
  double sum = 0;
  double squares = 0;
  double with_time = 0;
  for (int i = 0; i < kRuns; ++i) {
    const Execution execution = execute(*node.world, stage, InstructionKind::kForward);
    const double relative = execution.joules / 30 - 1;
    sum += relative;
    squares += relative * relative;
    with_time += relative / 0.05 * (execution.seconds / 0.1 - 1) / 0.02;
  }
  CHECK(std::abs(sum / kRuns) < 5 * 0.05 / std::sqrt(kRuns));
  CHECK(std::abs(std::sqrt(squares / kRuns) - 0.05) < 0.005);
  CHECK(std::abs(with_time / kRuns) < 5 / std::sqrt(kRuns));
}

TEST_CASE("device: noise of time alone leaves an instruction's energy as it was measured", "[device]") {
  SimOptions options = with_exact_counter();
  options.noise = 0.1;
  Node node({easy_stage(2)}, options);
  SimWorld::Participant stage = node.world->join_as_rank(0);
  for (int i = 0; i < 20; ++i) {
    CHECK(std::abs(execute(*node.world, stage, InstructionKind::kForward).joules - 30) < 1e-5);
  }
}

TEST_CASE("device: an execution keeps its noise when its clock changes", "[device]") {
  SimOptions options = with_exact_counter();
  options.noise = 0.02;
  options.energy_noise = 0.05;
  Node steady({easy_stage()}, options);
  Node changing({easy_stage()}, options);
  SimWorld::Participant steady_stage = steady.world->join_as_rank(0);
  SimWorld::Participant changing_stage = changing.world->join_as_rank(0);
  const Execution all = execute(*steady.world, steady_stage, InstructionKind::kForward);
  changing.world->lock_clock(GpuId(0), kMiddle);
  const Execution part = execute(*changing.world, changing_stage, InstructionKind::kForward);
  const double done = 0.010 / all.seconds;  // of the work, when the clock arrives
  CHECK(std::abs(part.seconds - all.seconds * (done + (1 - done) * 0.15 / 0.1)) < 3 * kNanosecond);
  CHECK(std::abs(part.joules - all.joules * (done + (1 - done) * 27 / 30)) < 1e-5);
}

TEST_CASE("device: a stage is throttled for its share of the time, by the episode, all its GPUs together",
          "[device]") {
  SimOptions options;
  options.throttling = {0.2, Seconds(1)};
  Node node({easy_stage(2), easy_stage()}, options);
  SimWorld& world = *node.world;
  SimWorld::Participant stage = world.join_as_rank(0);
  SimWorld::Participant other = world.join_as_rank(1);
  other.wait_begin(7);
  constexpr int kSamples = 20'000;
  std::array<int, 3> throttled{};
  std::array<int, 3> episodes{};
  std::array<bool, 3> before{};
  int together = 0;
  for (int i = 1; i <= kSamples; ++i) {
    stage.sleep_until(Seconds(0.01 * i));
    std::array<bool, 3> is{};
    for (std::size_t g = 0; g < is.size(); ++g) {
      const GpuId gpu(static_cast<int>(g));
      is[g] = world.observed_clock(gpu) == kMiddle;
      REQUIRE(is_throttled(world, gpu.value()) == is[g]);
      throttled[g] += is[g] ? 1 : 0;
      episodes[g] += is[g] && !before[g] ? 1 : 0;
    }
    REQUIRE(is[0] == is[1]);
    together += is[0] && is[2] ? 1 : 0;
    before = is;
  }
  for (std::size_t g = 0; g < throttled.size(); ++g) {
    CAPTURE(g);
    CHECK(std::abs(throttled[g] / double(kSamples) - 0.2) < 0.005);
    CHECK(episodes[g] == 40);
  }
  CHECK(together < throttled[0] / 2);  // each stage has moments of its own
  other.wait_end(7);
}

TEST_CASE("device: what is throttled runs as at the throttled clock, work in flight for its part",
          "[device]") {
  SimOptions options = with_exact_counter();
  options.throttling = {0.3, Seconds(0.7)};
  Node node({easy_stage()}, options);
  SimWorld& world = *node.world;
  SimWorld::Participant stage = world.join_as_rank(0);
  int whole = 0;
  int in_part = 0;
  for (int i = 0; i < 500; ++i) {
    const bool throttled = is_throttled(world);
    const auto [seconds, joules] = execute(world, stage, InstructionKind::kForward);
    CAPTURE(i, seconds, joules);
    const double share = (seconds - 0.1) / 0.05;  // of the work
    CHECK(share > -1e-6);
    CHECK(share < 1 + 1e-6);
    CHECK(std::abs(joules - (30 - 3 * share)) < 1e-4);
    if (share > 1 - 1e-6) CHECK(throttled);
    whole += share > 1 - 1e-6 ? 1 : 0;
    in_part += share > 1e-6 && share < 1 - 1e-6 ? 1 : 0;
  }
  CHECK(whole > 50);
  CHECK(in_part > 20);

  // Who runs more slowly already is not slowed.
  world.lock_clock(GpuId(0), kLow);
  stage.sleep_until(world.now() + Seconds(0.020));
  sleep_until_so(world, stage, [&] { return is_throttled(world); });
  CHECK(world.observed_clock(GpuId(0)) == kLow);
  CHECK(std::abs(execute(world, stage, InstructionKind::kForward).joules - 28) < 1e-5);
}

TEST_CASE("device: throttled below all its clocks a GPU runs at its lowest", "[device]") {
  SimOptions options;
  options.throttling = {0.5, Seconds(1)};
  options.throttled_clock = Megahertz(300);
  Node node({easy_stage()}, options);
  SimWorld& world = *node.world;
  SimWorld::Participant stage = world.join_as_rank(0);
  sleep_until_so(world, stage, [&] { return is_throttled(world); });
  CHECK(world.observed_clock(GpuId(0)) == kLow);
}

TEST_CASE("device: leakage makes all power grow with time, and energy is its integral", "[device]") {
  SimOptions options;
  options.leakage = 0.1;
  options.leakage_time = Seconds(60);
  Node node({easy_stage()}, options);
  SimWorld& world = *node.world;
  SimWorld::Participant stage = world.join_as_rank(0);
  const auto integral = [](double watts, double from, double to) {
    return watts * (to - from) * (1 + 0.1 / 60 * (from + to) / 2);
  };
  stage.sleep_until(Seconds(30));
  CHECK(std::abs(world.power(GpuId(0)).value() - kBlockingW * 1.05) < 1e-9);
  stage.launch(InstructionKind::kBackward);
  CHECK(std::abs(world.power(GpuId(0)).value() - kHighW * 1.05) < 1e-9);
  stage.synchronize();
  const double work = integral(kHighW, 30, 30.2);
  for (const double until : {31.0, 60.07, 1e3, 1e6, 1e8}) {
    stage.sleep_until(Seconds(until));
    const auto [total, at] = world.energy(GpuId(0));
    CAPTURE(until, at.value());
    CHECK(Seconds(until) - at < Seconds(0.1));
    const double expected = integral(kBlockingW, 0, 30) + work + integral(kBlockingW, 30.2, at.value());
    CHECK(std::abs(total.value() / expected - 1) < 1e-12);
  }
}

TEST_CASE("device: leakage adds half its share to the energy of its time", "[device]") {
  SimOptions options = with_exact_counter();
  options.leakage = 0.1;
  options.leakage_time = Seconds(20);
  Node node({easy_stage()}, options);
  SimWorld::Participant stage = node.world->join_as_rank(0);
  for (int i = 0; i < 200; ++i) run_once(*node.world, stage, InstructionKind::kForward);
  CHECK(within_nanoseconds(node.world->now(), 20, 400));
  CHECK(std::abs(node.world->energy(GpuId(0)).total.value() - 200 * 30 * 1.05) < 1e-3);
}

TEST_CASE("device: an intruder slows work, draws power and is among the processes", "[device]") {
  SimOptions options = with_exact_counter();
  options.intruder = {0.3, Seconds(0.7)};
  Node node({easy_stage()}, options);
  SimWorld& world = *node.world;
  SimDevice device(std::make_shared<SimWorld>(node.path));
  SimWorld::Participant stage = world.join_as_rank(0);
  const int self = ::getpid();
  int whole = 0;
  int in_part = 0;
  for (int i = 0; i < 500; ++i) {
    const bool intruded = is_intruded(world);
    CHECK(device.processes(GpuId(0)) == (intruded ? std::vector{self, 0} : std::vector{self}));
    CHECK(world.power(GpuId(0)) == Watts(intruded ? 1.2 * kBlockingW : kBlockingW));
    const auto [seconds, joules] = execute(world, stage, InstructionKind::kForward);
    CAPTURE(i, seconds, joules);
    const double share = (seconds - 0.1) / 0.03;  // of the work
    CHECK(share > -1e-6);
    CHECK(share < 1 + 1e-6);
    CHECK(std::abs(joules - 30 * (1 + share * (1.3 * 1.2 - 1))) < 1e-4);
    whole += share > 1 - 1e-6 ? 1 : 0;
    in_part += share > 1e-6 && share < 1 - 1e-6 ? 1 : 0;
    CHECK(world.event_reasons(GpuId(0)) == EventReasons());
  }
  CHECK(whole > 50);
  CHECK(in_part > 20);
}

TEST_CASE("device: the processes of a GPU are those that drive its stage", "[device]") {
  Node node({easy_stage(), easy_stage()});
  SimWorld& world = *node.world;
  SimWorld::Participant observer = world.join_as_observer();
  CHECK(world.processes(GpuId(1)).empty());
  {
    SimWorld::Participant stage = world.join_as_rank(1);
    CHECK(world.processes(GpuId(0)).empty());
    CHECK(world.processes(GpuId(1)) == std::vector{static_cast<int>(::getpid())});
  }
  CHECK(world.processes(GpuId(1)).empty());
}

TEST_CASE("device: episodes alone do not let virtual time go on", "[device]") {
  SimOptions options;
  options.throttling = {0.5, Seconds(0.1)};
  options.counter_resets = Seconds(1);
  Node node({easy_stage()}, options);
  SimWorld::Participant stage = node.world->join_as_rank(0);
  stage.wait_begin(7);
  CHECK(node.world->now() == Seconds(0));
  stage.wait_end(7);
}

TEST_CASE("device: in paced time episodes come while nobody does anything", "[device]") {
  SimOptions options;
  options.pace = 200;
  options.intruder = {0.5, Seconds(0.05)};
  Node node({easy_stage()}, options);
  pass_wall_time(60);
  const auto [total, at] = node.world->energy(GpuId(0));
  REQUIRE(at > Seconds(10));
  CHECK(std::abs(total / at / Watts(1.1 * kBlockingW) - 1) < 0.002);
}

TEST_CASE("device: a counter that stops shows its last tick for ever, and others go on", "[device]") {
  SimOptions options;
  options.counter_stops = Seconds(1.05);
  Node node({easy_stage(2)}, options);
  SimWorld& world = *node.world;
  SimWorld::Participant stage = world.join_as_rank(0);
  stage.sleep_until(Seconds(1.05));
  const EnergyReading last = world.energy(GpuId(0));
  CHECK(last.at > Seconds(0.95));
  CHECK(std::abs(last.total.value() - kBlockingW * last.at.value()) < 1e-6);
  for (const double time : {1.5, 2.5, 100.0}) {
    run_once(world, stage, InstructionKind::kForward);
    stage.sleep_until(Seconds(time));
    CHECK(world.energy(GpuId(0)).total == last.total);
    CHECK(world.energy(GpuId(0)).at == last.at);
    CHECK(Seconds(time) - world.energy(GpuId(1)).at < Seconds(0.1));
  }
}

TEST_CASE("device: a counter that is reset starts again from zero; the device says so once", "[device]") {
  SimOptions options;
  options.counter_resets = Seconds(5);
  Node node({easy_stage(2)}, options);
  SimWorld& world = *node.world;
  SimDevice device(std::make_shared<SimWorld>(node.path));
  SimWorld::Participant stage = world.join_as_rank(0);
  stage.sleep_until(Seconds(4.95));
  stage.launch(InstructionKind::kForward);
  CHECK(device.energy(GpuId(0)).total > Joules(280));
  stage.synchronize();
  CHECK_THROWS_WITH(device.energy(GpuId(0)), has_text("the counter was reset"));
  stage.sleep_until(Seconds(6));
  const auto [total, at] = device.energy(GpuId(0));
  CHECK(Seconds(6) - at < Seconds(0.1));
  CHECK(std::abs(total.value() - (kHighW * 0.05 + kBlockingW * (at.value() - 5.05))) < 1e-5);
  CHECK(device.energy(GpuId(1)).total > Joules(300));
}

TEST_CASE("device: a lost GPU answers nothing, its neighbour and the job go on", "[device]") {
  SimOptions options;
  options.lost = Seconds(1);
  Node node({easy_stage(2)}, options);
  SimWorld& world = *node.world;
  SimDevice device(std::make_shared<SimWorld>(node.path));
  SimWorld::Participant stage = world.join_as_rank(0);
  device.lock_clock(GpuId(0), kMiddle);
  CHECK(device.abilities(GpuId(0)).set_clock);
  stage.sleep_until(Seconds(1));
  const std::vector<std::function<void(GpuId)>> calls{
      [&](GpuId gpu) { device.lock_clock(gpu, kLow); },
      [&](GpuId gpu) { device.restore(gpu, ""); },
      [&](GpuId gpu) { (void)device.supported_clocks(gpu); },
      [&](GpuId gpu) { (void)device.observed_clock(gpu); },
      [&](GpuId gpu) { (void)device.event_reasons(gpu); },
      [&](GpuId gpu) { (void)device.energy(gpu); },
      [&](GpuId gpu) { (void)device.power(gpu); },
      [&](GpuId gpu) { (void)device.processes(gpu); },
  };
  for (const auto& call : calls) {
    CHECK_THROWS_WITH(call(GpuId(0)), has_text("GPU is lost"));
    CHECK_NOTHROW(call(GpuId(1)));
  }
  CHECK(device.abilities(GpuId(0)).energy.why_not == "GPU is lost");
  CHECK(device.abilities(GpuId(1)).energy);
  CHECK(world.locked_clock(GpuId(0)) == kMiddle);
  CHECK(within_nanoseconds(run_once(world, stage, InstructionKind::kForward), 0.15));
}

TEST_CASE("device: a stuck clock takes requests below it only, and tells no reason", "[device]") {
  SimOptions options;
  options.stuck_clock = Megahertz(1200);
  Node node({easy_stage()}, options);
  SimWorld& world = *node.world;
  SimWorld::Participant stage = world.join_as_rank(0);
  const auto clock_after = [&](const std::function<void()>& request) {
    request();
    stage.sleep_until(world.now() + Seconds(0.020));
    return world.observed_clock(GpuId(0));
  };
  CHECK(clock_after([] {}) == kMiddle);
  CHECK(clock_after([&] { world.lock_clock(GpuId(0), kHigh); }) == kMiddle);
  CHECK(world.locked_clock(GpuId(0)) == kHigh);
  CHECK_FALSE(world.event_reasons(GpuId(0)).throttles());
  CHECK(within_nanoseconds(run_once(world, stage, InstructionKind::kForward), 0.15));
  CHECK(clock_after([&] { world.lock_clock(GpuId(0), kLow); }) == kLow);
  CHECK(clock_after([&] { world.unlock_clock(GpuId(0)); }) == kMiddle);
}

TEST_CASE("device: time stands still until every stage has joined and while any runs its own code",
          "[device]") {
  Node node({easy_stage(), easy_stage()});
  SimWorld& world = *node.world;
  std::atomic<bool> done = false;
  std::thread computing([&] {
    SimWorld::Participant first = world.join_as_rank(0);
    run_once(world, first, InstructionKind::kForward);
    done = true;
  });
  const auto stands_still = [&] {
    pass_wall_time(20);
    return !done && world.now() == Seconds(0);
  };
  CHECK(stands_still());  // the other stage is missing
  {
    SimWorld::Participant second = world.join_as_rank(1);
    CHECK(stands_still());  // it runs its own code
    world.send(7);
    second.wait_begin(7);
    CHECK(stands_still());  // its message has been sent but not taken
    second.wait_end(7);
    CHECK(stands_still());
    second.wait_begin(7);  // nobody has sent this one
    computing.join();
    CHECK(within_nanoseconds(world.now(), 0.1));
    second.wait_end(7);
  }
}

TEST_CASE("device: time stands still while a stage's request waits for the owner of the clocks", "[device]") {
  Node node({easy_stage()});
  SimWorld& world = *node.world;
  SimWorld::Participant owner = world.join_as_observer();
  owner.serve_requests({GpuId(0)});
  std::atomic<bool> done = false;
  std::thread job([&] {
    SimWorld::Participant stage = world.join_as_rank(0);
    world.post_request(GpuId(0));
    world.post_request(GpuId(0));
    run_once(world, stage, InstructionKind::kForward);
    done = true;
  });
  pass_wall_time(20);
  CHECK_FALSE(done);
  world.take_requests(GpuId(0), 1);
  pass_wall_time(20);
  CHECK_FALSE(done);
  world.lock_clock(GpuId(0), kMiddle);  // what was asked for counts from the moment of asking
  world.take_requests(GpuId(0), 1);
  job.join();
  CHECK(within_nanoseconds(world.now(), 0.010 + 0.9 * 0.15));
}

TEST_CASE("device: the last request of a stage that leaves is served before time goes on", "[device]") {
  Node node({easy_stage(), easy_stage()});
  SimWorld& world = *node.world;
  SimWorld::Participant owner = world.join_as_observer();
  owner.serve_requests({GpuId(0), GpuId(1)});
  std::atomic<bool> done = false;
  SimWorld::Participant other = world.join_as_rank(1);
  {
    SimWorld::Participant leaving = world.join_as_rank(0);
    world.post_request(GpuId(0));
  }
  std::thread job([&] {
    run_once(world, other, InstructionKind::kForward);
    done = true;
  });
  pass_wall_time(20);
  CHECK_FALSE(done);
  world.take_requests(GpuId(0), 1);
  job.join();
  CHECK(within_nanoseconds(world.now(), 0.1));
}

TEST_CASE(
    "device: time ends with the job unless the observers are let to run on; a shutdown ends every sleep",
    "[device]") {
  Node node({easy_stage()});
  SimWorld& world = *node.world;
  SimWorld::Participant observer = world.join_as_observer();
  { SimWorld::Participant stage = world.join_as_rank(0); }
  std::atomic<int> slept = 0;
  std::atomic<bool> last = true;
  std::thread sleeper([&] {
    observer.sleep_until(Seconds(5));
    ++slept;
    SimWorld::Participant another = world.join_as_observer();  // never sleeps: time stands still again
    last = observer.sleep_until(Seconds(9));
  });
  pass_wall_time(20);
  CHECK(slept == 0);
  world.let_observers_run_on();
  while (slept == 0) pass_wall_time(1);
  CHECK(within_nanoseconds(world.now(), 5));
  world.shut_down();
  sleeper.join();
  CHECK_FALSE(last);
  CHECK(within_nanoseconds(world.now(), 5));
}

TEST_CASE("device: a process that is killed leaves, the others go on, and its stage can be joined again",
          "[device]") {
  for (const bool computing : {false, true}) {
    CAPTURE(computing);
    Node node({easy_stage(), easy_stage()});
    SimWorld& world = *node.world;
    std::array<int, 2> ends{};
    REQUIRE(::pipe(ends.data()) == 0);
    const pid_t child = ::fork();
    if (child == 0) {
      SimWorld own(node.path);
      SimWorld::Participant second = own.join_as_rank(1);
      if (computing) second.launch(InstructionKind::kBackward);
      [[maybe_unused]] const ssize_t count = ::write(ends[1], "x", 1);
      while (true) ::pause();
    }
    char byte = 0;
    REQUIRE(::read(ends[0], &byte, 1) == 1);
    std::atomic<bool> done = false;
    std::thread first([&] {
      SimWorld::Participant stage = world.join_as_rank(0);
      run_once(world, stage, InstructionKind::kForward);
      done = true;
    });
    pass_wall_time(20);
    CHECK_FALSE(done);
    CHECK_THROWS_AS(world.join_as_rank(1), DeviceError);  // it is driven already
    ::kill(child, SIGKILL);
    first.join();
    CHECK(within_nanoseconds(world.now(), 0.1));
    ::waitpid(child, nullptr, 0);
    SimWorld::Participant again = world.join_as_rank(1);
    // What the dead process had begun is not finished for its successor.
    CHECK(within_nanoseconds(run_once(world, again, InstructionKind::kForward), 0.1));
    ::close(ends[0]);
    ::close(ends[1]);
  }
}

TEST_CASE("device: processes killed at random moments never stop the world", "[device]") {
  const auto seed = std::random_device{}();
  CAPTURE(seed);
  Dice dice(seed);
  for (int round = 0; round < 10; ++round) {
    Node node({easy_stage(), easy_stage()});
    const pid_t child = ::fork();
    if (child == 0) {
      SimWorld own(node.path);
      SimWorld::Participant second = own.join_as_rank(1);
      while (true) {
        own.lock_clock(GpuId(1), kMiddle);
        second.launch(InstructionKind::kForward);
        second.synchronize();
        own.unlock_clock(GpuId(1));
      }
    }
    // Its death may come while it holds the world's lock.
    std::thread killer([&, delay = dice.number(0, 8000)] {
      std::this_thread::sleep_for(std::chrono::microseconds(delay));
      ::kill(child, SIGKILL);
      ::waitpid(child, nullptr, 0);
    });
    SimWorld& world = *node.world;
    SimWorld::Participant stage = world.join_as_rank(0);
    killer.join();
    SimWorld::Participant successor = world.join_as_rank(1);
    std::thread other([&] { run_once(world, successor, InstructionKind::kBackward); });
    CHECK(within_nanoseconds(run_once(world, stage, InstructionKind::kForward), 0.1, 1e9));
    SimWorld::Participant left = std::move(stage);
    left.wait_begin(99);
    other.join();
  }
}

TEST_CASE("device: a stage has one driver, and only stages and instructions of the profile exist",
          "[device]") {
  SimRank forward_only = easy_stage();
  forward_only.instructions.erase(InstructionKind::kBackward);
  Node node({easy_stage(), forward_only});
  SimWorld& world = *node.world;
  SimWorld::Participant second = world.join_as_rank(1);
  CHECK_THROWS_AS(world.join_as_rank(1), DeviceError);
  CHECK_THROWS_AS(world.join_as_rank(2), DeviceError);
  CHECK_THROWS_AS(world.join_as_rank(-1), DeviceError);
  CHECK_THROWS_AS(second.launch(InstructionKind::kBackward), DeviceError);
}

TEST_CASE("device: a file that is not a node, is cut short or is missing is refused", "[device]") {
  Node node({easy_stage(2)});
  const std::string whole = slurp(node.path);
  const auto refuses = [](const std::string& path) { CHECK_THROWS_AS(SimWorld(path), DeviceError); };
  refuses(node.folder.file("missing"));
  refuses(node.folder.file("."));
  const std::string other = node.folder.file("other");
  spill(other, "");
  refuses(other);
  spill(other, "slackline: profile/1\n");
  refuses(other);
  spill(other, std::string(whole.size(), 'x'));
  refuses(other);
  for (const std::size_t bytes : {std::size_t{1}, whole.size() / 2, whole.size() - 1}) {
    spill(other, whole.substr(0, bytes));
    refuses(other);
  }
  spill(other, whole + "x");
  refuses(other);
  const std::string link = node.folder.file("link");
  REQUIRE(::symlink(node.path.c_str(), link.c_str()) == 0);
  refuses(link);
  CHECK_THROWS_AS(SimWorld::create(node.path, {easy_stage()}, {}), DeviceError);
  CHECK_THROWS_AS(SimWorld::create(node.folder.file("no/such/folder"), {easy_stage()}, {}), DeviceError);
}

TEST_CASE("device: paced time follows the host's clock", "[device]") {
  SimOptions options;
  options.pace = 10;
  Node node({easy_stage()}, options);
  SimWorld& world = *node.world;
  CHECK_FALSE(world.is_virtual());
  SimWorld::Participant stage = world.join_as_rank(0);
  const auto begin = std::chrono::steady_clock::now();
  CHECK(run_once(world, stage, InstructionKind::kForward) >= Seconds(0.1 - kNanosecond));
  CHECK(std::chrono::steady_clock::now() - begin >= std::chrono::duration<double>(0.1 / 10 - 1e-6));
  // Waits need no announcement: time goes on while nobody has said anything.
  const Seconds before = world.now();
  pass_wall_time(5);
  CHECK(world.now() - before >= Seconds(0.049));
}

}  // namespace
}  // namespace slackline
