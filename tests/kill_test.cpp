// Whoever is killed, at whatever moment: GPUs do not stay locked. The simulated GPUs run in paced time and
// outlive every process, as real ones do; the test looks at them through a mapping of its own.
#include <memory>
#include <random>

#include "catch.h"
#include "dice.h"
#include "running_program.h"
#include "runtime_variable.h"
#include "slackline/base/error.h"
#include "slackline/device/sim_world.h"

namespace slackline {
namespace {

using std::chrono::milliseconds;

const std::string kBinary = SLACKLINE_BINARY;
const std::string kTrain = SLACKLINE_TRAIN;
const std::string kProfile = std::string(SLACKLINE_SOURCE_DIR) + "/tests/data/toy-profile.yaml";
constexpr std::size_t kStages = 2;
/// A killed process's GPUs are free after this.
constexpr milliseconds kRestored(2000);
/// For what has no bound of its own, on however loaded a machine.
constexpr milliseconds kPatience(60'000);
constexpr int kRepetitions = 5;

/// A third of a second of wall time for a step of the toy profile.
const std::string kPacedDevice = "sim:" + kProfile + ",pace=0.5,switch_ms=1,tick_ms=10";

std::vector<std::string> with_job(std::vector<std::string> arguments, const std::string& steps) {
  const std::vector<std::string> job{"--", kTrain,    "--stages", std::to_string(kStages), "--microbatches",
                                     "3",  "--steps", steps};
  arguments.insert(arguments.begin(), kBinary);
  arguments.insert(arguments.end(), job.begin(), job.end());
  return arguments;
}

class Workplace {
 public:
  Workplace() {
    const ChildResult result =
        run({"plan", kProfile, "--microbatches", "3", "--slowdown", "10", "-o", schedule()});
    INFO(result.err);
    REQUIRE(result.status == 0);
  }
  [[nodiscard]] std::string file(const std::string& name) const { return folder_.file(name); }
  [[nodiscard]] std::string schedule() const { return file("schedule.yaml"); }
  [[nodiscard]] ChildResult run(std::vector<std::string> arguments) const {
    arguments.insert(arguments.begin(), kBinary);
    return run_child(arguments, file(""));
  }
  /// A whole job under the schedule in virtual time.
  [[nodiscard]] ChildResult quick_apply() const {
    return run_child(with_job({"apply", schedule(), "--device", "sim:" + kProfile}, "2"), file(""));
  }
  /// Without what a process that was killed has left half written.
  [[nodiscard]] std::size_t journal_entries() const {
    std::size_t entries = 0;
    std::error_code error;
    for (const auto& entry : std::filesystem::directory_iterator(file("run/journal"), error))
      entries += entry.path().extension() == ".yaml" ? 1 : 0;
    return entries;
  }
  /// The folders of simulated nodes that are there now.
  [[nodiscard]] std::vector<std::string> nodes() const {
    std::vector<std::string> found;
    std::error_code error;
    for (const auto& entry : std::filesystem::directory_iterator(file("run"), error)) {
      const std::string name = entry.path().filename();
      if (name.rfind("sim-", 0) == 0) found.push_back(entry.path());
    }
    return found;
  }

 private:
  ScratchFolder folder_;
  RuntimeVariable runtime_{folder_.file("run")};
};

/// `apply` or `profile` in the middle of its work, and the GPUs that it works on.
class RunInProgress {
 public:
  RunInProgress(const Workplace& place, const std::vector<std::string>& command) : program_(command) {
    // Mapped before anything is killed: the file may be removed, the GPUs stay.
    REQUIRE(wait_until([&] { return map_world(place); }, kPatience));
    REQUIRE(wait_until([&] { return locked() > 0; }, kPatience));
  }
  static std::unique_ptr<RunInProgress> of_apply(const Workplace& place) {
    return std::make_unique<RunInProgress>(
        place, with_job({"apply", place.schedule(), "--device", kPacedDevice}, "0"));
  }

  /// The same, with a agent that the scheduler keeps waiting before it has left the process group.
  static std::unique_ptr<RunInProgress> with_late_agent(const Workplace& place) {
    std::vector<std::string> command = with_job({"apply", place.schedule(), "--device", kPacedDevice}, "0");
    const std::vector<std::string> environment{"/usr/bin/env", "LD_PRELOAD=" LATE_AGENT,
                                               "ASAN_OPTIONS=verify_asan_link_order=0"};
    command.insert(command.begin(), environment.begin(), environment.end());
    return std::make_unique<RunInProgress>(place, command);
  }

  RunningProgram& program() { return program_; }
  [[nodiscard]] int gpus() const { return world_->gpus(); }
  [[nodiscard]] int locked() const {
    int count = 0;
    for (int g = 0; g < world_->gpus(); ++g) count += world_->locked_clock(GpuId(g)) ? 1 : 0;
    return count;
  }
  /// Nothing is locked any more, and nothing comes back.
  void check_restored() const {
    CHECK(wait_until([&] { return locked() == 0; }, kRestored));
    std::this_thread::sleep_for(milliseconds(20));
    CHECK(locked() == 0);
  }
  [[nodiscard]] pid_t agent() const {
    for (const ProcessEntry& child : children_of(program_.pid())) {
      if (child.command.size() > 1 && child.command[1] == "private-agent") return child.pid;
    }
    return 0;
  }
  [[nodiscard]] std::vector<pid_t> ranks() const {
    for (const ProcessEntry& child : children_of(program_.pid())) {
      if (child.is("slackline-demo-train")) return ranks_of(child.pid);
    }
    return {};
  }
  [[nodiscard]] pid_t job() const {
    for (const ProcessEntry& child : children_of(program_.pid())) {
      if (child.is("slackline-demo-train")) return child.pid;
    }
    return 0;
  }
  static std::vector<pid_t> ranks_of(pid_t job) {
    std::vector<pid_t> ranks;
    for (const ProcessEntry& child : children_of(job)) ranks.push_back(child.pid);
    return ranks;
  }

 private:
  bool map_world(const Workplace& place) {
    for (const std::string& node : place.nodes()) {
      try {
        world_ = std::make_unique<SimWorld>(node + "/gpus");
        return true;
      } catch (const DeviceError&) {  // not there yet
      }
    }
    return false;
  }

  RunningProgram program_;
  std::unique_ptr<SimWorld> world_;
};

/// Calls `kill_and_check` at several random moments of a run.
template <class KillAndCheck>
void at_random_moments(KillAndCheck kill_and_check) {
  const auto seed = std::random_device{}();
  CAPTURE(seed);
  Dice dice(seed);
  for (int repetition = 0; repetition < kRepetitions; ++repetition) {
    CAPTURE(repetition);
    const Workplace place;
    const auto run = RunInProgress::of_apply(place);
    std::this_thread::sleep_for(milliseconds(dice.number(0, 300)));
    kill_and_check(place, *run, dice);
  }
}

TEST_CASE("kill: a training process that is killed ends the job, and its GPUs are free", "[kill]") {
  at_random_moments([](const Workplace& place, RunInProgress& run, Dice& dice) {
    const std::vector<pid_t> ranks = run.ranks();
    REQUIRE(ranks.size() == kStages);
    ::kill(ranks[static_cast<std::size_t>(dice.number(0, kStages - 1))], SIGKILL);
    run.check_restored();
    const int status = run.program().wait();
    CHECK((status == 128 + SIGKILL || status == 1));  // its own death, or a neighbour's that misses it
    CHECK(place.journal_entries() == 0);
    CHECK(place.nodes().empty());
  });
}

TEST_CASE("kill: when apply is killed its GPUs are free, and the job trains on", "[kill]") {
  at_random_moments([](const Workplace& place, RunInProgress& run, Dice&) {
    // Every stage must be under way: one that has no GPUs yet has nothing to train on.
    REQUIRE(wait_until([&] { return place.journal_entries() == static_cast<std::size_t>(run.gpus()); },
                       kPatience));
    const pid_t job = run.job();
    const std::vector<pid_t> ranks = RunInProgress::ranks_of(job);
    REQUIRE(ranks.size() == kStages);
    run.program().signal(SIGKILL);
    run.check_restored();
    CHECK(wait_until([&] { return place.journal_entries() == 0; }, kPatience));
    CHECK(RunInProgress::ranks_of(job) == ranks);
  });
}

TEST_CASE("kill: when apply and its job are killed at once their GPUs are free", "[kill]") {
  at_random_moments([](const Workplace& place, RunInProgress& run, Dice&) {
    run.program().signal_group(SIGKILL);
    run.check_restored();
    CHECK(wait_until([&] { return place.journal_entries() == 0; }, kPatience));
  });
}

// Nothing is locked before the agent has left the group, however long it takes; so at the first lock it is
// safe.
TEST_CASE("kill: a agent that is slow to start is not killed with the group", "[kill]") {
  for (const bool whole_group : {true, false}) {
    CAPTURE(whole_group);
    const Workplace place;
    const auto run = RunInProgress::with_late_agent(place);
    if (whole_group) {
      run->program().signal_group(SIGKILL);
    } else {
      run->program().signal(SIGKILL);
    }
    run->check_restored();
    CHECK(wait_until([&] { return place.journal_entries() == 0; }, kPatience));
  }
}

TEST_CASE("kill: when the agent is killed too, the next start frees the GPUs", "[kill]") {
  int left_locked = 0;
  at_random_moments([&](const Workplace& place, RunInProgress& run, Dice&) {
    const pid_t agent = run.agent();
    REQUIRE(agent > 0);
    ::kill(agent, SIGKILL);
    run.program().signal_group(SIGKILL);
    CHECK(run.program().wait() == 128 + SIGKILL);
    left_locked += run.locked();
    const ChildResult next = place.quick_apply();
    INFO(next.err);
    CHECK(next.status == 0);
    CHECK(run.locked() == 0);
    CHECK(place.journal_entries() == 0);
    CHECK(place.nodes().empty());
  });
  CHECK(left_locked > 0);  // or nothing was shown
}

TEST_CASE("kill: restore frees the GPUs by hand, and no subcommand without a device touches them", "[kill]") {
  const Workplace place;
  const auto run = RunInProgress::of_apply(place);
  const pid_t agent = run->agent();
  REQUIRE(agent > 0);
  // Stopped, so that it is killed exactly when GPUs are locked.
  const auto stops_with_locks = [&] {
    ::kill(agent, SIGSTOP);
    std::this_thread::sleep_for(milliseconds(5));
    if (run->locked() > 0) return true;
    ::kill(agent, SIGCONT);
    return false;
  };
  REQUIRE(wait_until(stops_with_locks, kPatience));
  const auto restore = [&] { return place.run({"restore"}); };
  const int locked = run->locked();
  CHECK(restore().status == 0);
  CHECK(run->locked() == locked);  // their owner lives

  ::kill(agent, SIGKILL);
  run->program().signal_group(SIGKILL);
  run->program().wait();
  CHECK(run->locked() == locked);
  const std::size_t entries = place.journal_entries();
  const std::vector<std::string> nodes = place.nodes();
  CHECK(place.run({"plan", kProfile, "--microbatches", "3", "-o", place.file("other.yaml")}).status == 0);
  CHECK(place.run({"inspect", place.schedule()}).status == 0);
  CHECK(place.run({"verify", place.schedule(), "--profile", kProfile}).status == 0);
  CHECK(run->locked() == locked);
  CHECK(place.journal_entries() == entries);
  CHECK(place.nodes() == nodes);

  const ChildResult restored = restore();
  CHECK(restored.status == 0);
  if (entries > 0) CHECK(restored.err.find("restored SIM-") != std::string::npos);
  CHECK(run->locked() == 0);
  CHECK(place.journal_entries() == 0);
  CHECK(place.nodes().empty());
  CHECK(restore().err == "");
}

TEST_CASE("kill: a signal to apply ends the job, frees the GPUs, and is its status", "[kill]") {
  for (const int signal : {SIGINT, SIGTERM}) {
    for (const bool whole_group : {false, true}) {
      CAPTURE(signal, whole_group);
      const Workplace place;
      const auto run = RunInProgress::of_apply(place);
      // The first GPU may be locked before the last rank has been forked.
      REQUIRE(wait_until([&] { return run->ranks().size() == kStages; }, kPatience));
      const std::vector<pid_t> ranks = run->ranks();
      if (whole_group) {
        run->program().signal_group(signal);
      } else {
        run->program().signal(signal);
      }
      CHECK(run->program().wait() == 128 + signal);
      CHECK(run->locked() == 0);
      CHECK(place.journal_entries() == 0);
      CHECK(place.nodes().empty());
      for (const pid_t rank : ranks) {
        CHECK(wait_until([&] { return slurp("/proc/" + std::to_string(rank) + "/cmdline").empty(); },
                         kPatience));
      }
    }
  }
}

TEST_CASE("kill: a profile run that is killed in the middle of its sweep leaves no lock", "[kill]") {
  const auto seed = std::random_device{}();
  CAPTURE(seed);
  Dice dice(seed);
  for (int repetition = 0; repetition < kRepetitions; ++repetition) {
    CAPTURE(repetition);
    const Workplace place;
    RunInProgress run(place,
                      with_job({"profile", "--device", kPacedDevice, "-o", place.file("mine.yaml")}, "0"));
    std::this_thread::sleep_for(milliseconds(dice.number(0, 300)));
    if (repetition % 2 == 0) {
      run.program().signal(SIGKILL);
    } else {
      run.program().signal_group(SIGKILL);
    }
    run.check_restored();
    CHECK_FALSE(std::filesystem::exists(place.file("mine.yaml")));
  }
}

}  // namespace
}  // namespace slackline
