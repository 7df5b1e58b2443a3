// A whole job on GPUs behind a vendor's driver: apply and profile on the fake NVML library, as on a real
// node.
#include <algorithm>
#include <cmath>
#include <nlohmann/json.hpp>
#include <set>

#include "catch.h"
#include "child.h"
#include "fake_nvml.h"
#include "running_program.h"
#include "runtime_variable.h"
#include "slackline/profile/profile_io.h"

namespace slackline {
namespace {

const std::string kBinary = SLACKLINE_BINARY;
const std::string kTrain = SLACKLINE_TRAIN;
const std::string kDevice = "nvml,library=" FAKE_NVML;

/// Two stages of one GPU with clocks that the fake driver has; the first is light, so that it slows down.
const std::string kProfile = R"(slackline: profile/1
stages:
  - stage: 0
    tensor_parallel: 1
    blocking_power_w: 60
    instructions:
      - kind: forward
        options: [{clock_mhz: 1980, time_s: 0.01, energy_j: 3}, {clock_mhz: 1500, time_s: 0.013, energy_j: 2}]
      - kind: backward
        options: [{clock_mhz: 1980, time_s: 0.01, energy_j: 3}, {clock_mhz: 1200, time_s: 0.014, energy_j: 2}]
  - stage: 1
    tensor_parallel: 1
    blocking_power_w: 60
    instructions:
      - kind: forward
        options: [{clock_mhz: 1980, time_s: 0.02, energy_j: 6}, {clock_mhz: 1500, time_s: 0.026, energy_j: 5}]
      - kind: backward
        options: [{clock_mhz: 1980, time_s: 0.02, energy_j: 6}, {clock_mhz: 1200, time_s: 0.028, energy_j: 5}]
)";

struct Workplace {
  ScratchFolder folder;
  RuntimeVariable runtime{folder.file("run")};
  FakeNvml node{3};

  [[nodiscard]] ChildResult run(std::vector<std::string> arguments) const {
    arguments.insert(arguments.begin(), kBinary);
    return run_child(arguments, folder.file(""));
  }
  /// s.yaml, which fits job().
  void make_schedule() const {
    spill(folder.file("profile.yaml"), kProfile);
    REQUIRE(run({"plan", "profile.yaml", "--microbatches", "3", "--slowdown", "30", "-o", "s.yaml"}).status ==
            0);
  }
  [[nodiscard]] std::vector<std::string> job(const std::string& steps) const {
    return {"--", kTrain, "--stages", "2", "--microbatches", "3", "--compute-ms", "4", "--steps", steps};
  }
  [[nodiscard]] ChildResult run_job(std::vector<std::string> arguments, const std::string& steps) const {
    for (const std::string& word : job(steps)) arguments.push_back(word);
    return run(arguments);
  }
  /// Clocks that a GPU was locked to, in their order.
  [[nodiscard]] std::vector<std::string> locks(int gpu) const {
    std::vector<std::string> locks;
    const std::string begin = "SetGpuLockedClocks " + std::to_string(gpu) + " ";
    for (const std::string& change : node.changes()) {
      if (change.starts_with(begin)) locks.push_back(change.substr(begin.size()));
    }
    return locks;
  }
};

TEST_CASE("vendor job: a schedule runs on a vendor's GPUs, in its order, and every GPU is given back",
          "[vendor]") {
  const Workplace place;
  place.make_schedule();
  const ChildResult result =
      place.run_job({"apply", "s.yaml", "--device", kDevice, "--baseline-steps", "2", "--json"}, "6");
  INFO(result.err);
  CHECK(result.status == 0);
  const auto report = nlohmann::json::parse(result.out);
  CHECK(report.dump().find("planned") != std::string::npos);
  for (int gpu = 0; gpu < 3; ++gpu) CHECK(place.node.locked(gpu) == std::nullopt);
  CHECK(std::filesystem::is_empty(place.folder.file("run/journal")));
  const std::set<std::string> known{"1980 1980", "1500 1500", "1200 1200"};
  for (int gpu = 0; gpu < 2; ++gpu) {
    const std::vector<std::string> locks = place.locks(gpu);
    CHECK(locks.size() >= 4);
    for (const std::string& lock : locks) CHECK(known.contains(lock));
  }
  CHECK(place.locks(2).empty());  // not of this job
  // Nothing but locks of the core clock was ever changed, and who changed it is no process of the job.
  for (const std::string& change : place.node.changes())
    CHECK(change.find("GpuLockedClocks") != std::string::npos);
}

TEST_CASE("vendor job: a driver that refuses costs the saving, not the job", "[vendor]") {
  const Workplace place;
  place.make_schedule();
  place.node.script("SetGpuLockedClocks 1 error=4\n");
  const ChildResult result = place.run_job({"apply", "s.yaml", "--device", kDevice}, "4");
  INFO(result.err);
  CHECK(result.status == 0);
  CHECK(result.err.find("run at their own clocks") != std::string::npos);
  for (int gpu = 0; gpu < 2; ++gpu) CHECK(place.node.locked(gpu) == std::nullopt);
  CHECK(std::filesystem::is_empty(place.folder.file("run/journal")));
}

TEST_CASE("vendor job: without setting a clock a job is profiled at the one that it has", "[vendor]") {
  const Workplace place;
  const ChildResult result = place.run_job({"profile", "--device", "nvml:0,1,library=" FAKE_NVML,
                                            "--read-only", "-o", "p.yaml", "--model", "pretended"},
                                           "0");
  INFO(result.err);
  REQUIRE(result.status == 0);
  CHECK(place.node.changes().empty());
  const Profile profile = read_profile(place.folder.file("p.yaml"));
  CHECK(profile.gpu == "Fake H100");
  REQUIRE(profile.stages.size() == 2);
  for (const StageProfile& stage : profile.stages) {
    for (const auto& [kind, options] : stage.instructions) {
      REQUIRE(options.size() == 1);
      CHECK(options[0].clock == Megahertz(1980));
      CHECK(options[0].time.value() > 0.004);
      // The fake draws 400 W whatever happens.
      CHECK(std::abs((options[0].energy / options[0].time).value() - 400) < 40);
    }
  }
}

TEST_CASE("vendor job: a profile goes on where a GPU never reads the clock that was asked for", "[vendor]") {
  const Workplace place;
  // Power-capped: the second GPU stays at 1725 MHz whatever is asked. The sweep must come down the clocks.
  place.node.script("nvmlDeviceGetClockInfo 1 value=1725\n");
  std::vector<std::string> command{
      kBinary, "profile", "--device", "nvml:0,1,library=" FAKE_NVML, "-o", place.folder.file("p.yaml")};
  for (const std::string& word : place.job("0")) command.push_back(word);
  RunningProgram profile(command);
  const auto has_come_down = [&] {
    const std::vector<std::string> locks = place.locks(1);
    return std::ranges::find(locks, "1965 1965") != locks.end();
  };
  CHECK(wait_until(has_come_down, std::chrono::seconds(60)));
  profile.signal(SIGTERM);
  CHECK(profile.wait() == 128 + SIGTERM);
  CHECK(place.node.locked(1) == std::nullopt);
}

TEST_CASE("vendor job: a profile ends when the clocks are no longer its own", "[vendor]") {
  const Workplace place;
  place.node.script("SetGpuLockedClocks 1 error=4 after=1\n");
  const ChildResult result =
      place.run_job({"profile", "--device", "nvml:0,1,library=" FAKE_NVML, "-o", "p.yaml"}, "0");
  INFO(result.err);
  CHECK(result.status == 3);
  CHECK(result.err.find("the agent has ended") != std::string::npos);
  CHECK_FALSE(std::filesystem::exists(place.folder.file("p.yaml")));
  for (int gpu = 0; gpu < 2; ++gpu) CHECK(place.node.locked(gpu) == std::nullopt);
}

TEST_CASE("vendor job: a GPU that could not be given back is said and shows in the status", "[vendor]") {
  const Workplace place;
  place.make_schedule();
  place.node.script("ResetGpuLockedClocks 0 error=999\n");
  const ChildResult result = place.run_job({"apply", "s.yaml", "--device", kDevice}, "2");
  INFO(result.err);
  CHECK(result.status == 3);
  CHECK(result.err.find("cannot restore " + FakeNvml::uuid(0)) != std::string::npos);
  CHECK(place.node.locked(1) == std::nullopt);
  place.node.script("");
  CHECK(place.run({"restore"}).status == 0);
  CHECK(place.node.locked(0) == std::nullopt);
}

/// Energy of an all-max step, as `apply` measures it, and what it says. Two GPUs draw 400 W each whatever
/// happens.
struct Measured {
  double power_w = 0;
  ChildResult result;
};
Measured all_max_power(const Workplace& place, const std::string& script, int steps = 30) {
  place.make_schedule();
  place.node.script(script);
  Measured measured;
  measured.result = place.run_job(
      {"apply", "s.yaml", "--device", kDevice, "--baseline-steps", std::to_string(steps), "--json"},
      std::to_string(steps + 3));
  INFO(measured.result.err);
  REQUIRE(measured.result.status == 0);
  const auto report = nlohmann::json::parse(measured.result.out);
  REQUIRE(report[0]["phase"] == "all-max");
  const auto& energy = report[0]["energy_j"];
  if (!energy.is_null()) measured.power_w = energy.get<double>() / report[0]["time_s"].get<double>();
  return measured;
}

TEST_CASE("vendor job: the first steps count with all their energy, though the counter has to be known first",
          "[vendor]") {
  const Workplace place;
  const Measured measured = all_max_power(place, "");
  CHECK(std::abs(measured.power_w - 800) < 40);  // a tick in some seventy
  CHECK(measured.result.err == "");
}

TEST_CASE("vendor job: readings of the energy that fail now and then cost nothing", "[vendor]") {
  const Workplace place;
  const Measured measured = all_max_power(place, "Field83Scope0 0 error=999 after=60 times=1\n");
  CHECK(std::abs(measured.power_w - 800) < 40);
  CHECK(measured.result.err == "");
}

TEST_CASE("vendor job: a counter that stops costs the energy of the steps that follow, which is said",
          "[vendor]") {
  const Workplace place;
  const Measured measured = all_max_power(place, "Field83Scope0 0 stale after=150\n", 80);
  CHECK(std::abs(measured.power_w - 800) < 40);
  CHECK(measured.result.err.find("of 82 steps is not known") != std::string::npos);
}

TEST_CASE("vendor job: a profile goes on after a reading that fails", "[vendor]") {
  const Workplace place;
  place.node.script("Field83Scope0 1 error=999 after=30 times=2\n");
  const ChildResult result = place.run_job(
      {"profile", "--device", "nvml:0,1,library=" FAKE_NVML, "--read-only", "-o", "p.yaml"}, "0");
  INFO(result.err);
  CHECK(result.status == 0);
}

TEST_CASE("vendor job: what a profile should be read with is said, and stands in it", "[vendor]") {
  const Workplace place;
  place.node.script(
      "Field83Scope0 0 error=2\nField191Scope0 0 error=2\nnvmlDeviceGetCurrentClocksEventReasons 1 value=4\n"
      "GetPersistenceMode * value=1\n");
  const ChildResult result = place.run_job(
      {"profile", "--device", "nvml:0,1,library=" FAKE_NVML, "--read-only", "-o", "p.yaml"}, "0");
  INFO(result.err);
  REQUIRE(result.status == 0);
  CHECK(result.err.find("warning: throttled at most visits of a clock: stage 1") != std::string::npos);
  CHECK(result.err.find("throttled now: power-cap") != std::string::npos);
  CHECK(read_profile(place.folder.file("p.yaml")).origin.find("throttled now: power-cap") !=
        std::string::npos);
}

TEST_CASE("vendor job: a job ends in order though the runtime folder is gone and the agent was killed",
          "[vendor]") {
  const Workplace place;
  place.make_schedule();
  // Its parent is apply, whose other child is the agent.
  const ChildResult result =
      place.run({"apply", "s.yaml", "--device", kDevice, "--", "sh", "-c",
                 "rm -rf \"$SLACKLINE_RUNTIME_DIR\"; for p in $(cat /proc/$PPID/task/$PPID/children); do "
                 "[ $p = $$ ] || kill -9 $p; done; sleep 0.5; echo trained"});
  CHECK(result.status == 3);
  CHECK(result.out.find("trained") != std::string::npos);
  CHECK(result.err.find("the agent was killed") != std::string::npos);
  CHECK(result.err.find("cannot tell whether every GPU is restored") != std::string::npos);
}

TEST_CASE("vendor job: a baseline that a GPU does not have keeps the agent from starting", "[vendor]") {
  const Workplace place;
  spill(place.folder.file("policy.yaml"),
        "slackline: policy/1\nbaselines:\n  - gpus: all\n    clock_mhz: 1400\n");
  const ChildResult result = place.run({"agent", "--device", kDevice, "--policy", "policy.yaml"});
  CHECK(result.status == 3);
  CHECK(result.err.find("the nearest is 1395") != std::string::npos);
  CHECK(place.node.changes().empty());
}

}  // namespace
}  // namespace slackline
