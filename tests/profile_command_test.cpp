// `slackline profile` as a user runs it: interrupted, in trouble, by several ranks, with a few clocks only.
#include <nlohmann/json.hpp>

#include "slackline/measure/clock_order.h"
#include "workplace.h"

namespace slackline {
namespace {

constexpr int kStages = 3;
constexpr int kMicrobatches = 6;

/// Three stages of GPT-3 on one GPU each, with a dozen clocks.
Profile small_truth() {
  Profile profile = published(kStages);
  for (StageProfile& stage : profile.stages) {
    stage.tensor_parallel = 1;
    for (auto& [kind, options] : stage.instructions) {
      std::vector<Measurement> few;
      for (std::size_t i = 0; i < options.size(); i += 4) few.push_back(options[i]);
      options = few;
    }
  }
  return profile;
}

ChildResult profile(const Workplace& place, const std::string& options, std::vector<std::string> more = {},
                    int steps = 0) {
  std::vector<std::string> arguments{"profile", "--device", place.device(small_truth(), options), "-o",
                                     place.file("mine.yaml")};
  arguments.insert(arguments.end(), more.begin(), more.end());
  return place.with_job(arguments, kMicrobatches, steps, kStages);
}

bool exists(const std::string& path) {
  return std::filesystem::exists(path);
}

int rounds_kept(const Workplace& place) {
  const std::string path = place.file("mine.yaml.part");
  return rounds_done(parse_recording(path, read_file(path)));
}

TEST_CASE("profile command: what a job that ends early has shown is kept, and the next run goes on",
          "[profile_command]") {
  const Workplace place;
  const ChildResult first = profile(place, "", {}, 12);
  CHECK(first.status == 1);
  CHECK(first.err.find("the job ended after") != std::string::npos);
  CHECK(first.err.find("mine.yaml.part, the same command goes on") != std::string::npos);
  CHECK_FALSE(exists(place.file("mine.yaml")));
  const int rounds = rounds_kept(place);
  CHECK(rounds > 1);
  const ChildResult second = profile(place, "");
  INFO(second.err);
  REQUIRE(second.status == 0);
  CHECK(second.err.find("going on from") != std::string::npos);
  CHECK_FALSE(exists(place.file("mine.yaml.part")));
  const Profile mine = read_profile(place.file("mine.yaml"));
  for (const StageProfile& stage : mine.stages) {
    CHECK(stage.instructions.at(InstructionKind::kForward).size() == 10);
  }
}

TEST_CASE("profile command: Ctrl-C and kill -9 keep what was measured", "[profile_command]") {
  for (const int signal : {SIGINT, SIGKILL}) {
    CAPTURE(signal);
    const Workplace place;
    std::vector<std::string> command{SLACKLINE_BINARY,
                                     "profile",
                                     "--device",
                                     place.device(small_truth(), ",pace=60,tick_ms=1000"),
                                     "-o",
                                     place.file("mine.yaml"),
                                     "--",
                                     SLACKLINE_TRAIN,
                                     "--stages",
                                     "3",
                                     "--microbatches",
                                     "6",
                                     "--steps",
                                     "0"};
    RunningProgram program(command);
    const std::string part = place.file("mine.yaml.part");
    REQUIRE(wait_until([&] { return exists(part) && rounds_kept(place) >= 2; }, std::chrono::seconds(60)));
    program.signal(signal);
    const int status = program.wait();
    CHECK(status == (signal == SIGINT ? 130 : 128 + SIGKILL));
    CHECK(rounds_kept(place) >= 2);
    CHECK_FALSE(exists(place.file("mine.yaml")));
    if (signal == SIGINT) CHECK(program.err().find("interrupted after") != std::string::npos);
  }
}

TEST_CASE("profile command: what was measured on other GPUs or in another order is not mixed in",
          "[profile_command]") {
  const Workplace place;
  CHECK(profile(place, "", {}, 12).status == 1);
  const ChildResult other_order = profile(place, "", {"--clocks", "random"});
  CHECK(other_order.status == 2);
  CHECK(other_order.err.find("mine.yaml.part: order: what was measured before has another one") !=
        std::string::npos);
  CHECK(profile(place, ",seed=7").status == 2);
  CHECK(exists(place.file("mine.yaml.part")));
  const ChildResult restarted = profile(place, ",seed=7", {"--restart"});
  INFO(restarted.err);
  CHECK(restarted.status == 0);
}

TEST_CASE("profile command: each trouble has its message, and keeps what was measured", "[profile_command]") {
  const Workplace place;
  const auto check = [&](const std::string& options, int status, const std::string& message) {
    const ChildResult result = profile(place, options, {"--restart"});
    INFO(result.err);
    CHECK(result.status == status);
    CHECK(result.err.find(message) != std::string::npos);
    CHECK(exists(place.file("mine.yaml.part")) == (status == 3));
    std::filesystem::remove(place.file("mine.yaml"));
  };
  SECTION("a counter that stops") {
    check(",counter_stops_s=100", 3, "its energy counter has stood still for 5 s");
  }
  SECTION("a GPU that is lost") {
    check(",lost_s=100", 3, "GPU is lost");
  }
  SECTION("a counter that is reset is left out") {
    check(",counter_resets_s=100", 0, "");
  }
  SECTION("a clock that never comes") {
    check(",stuck_mhz=1100", 0, "clocks that never came: stages 0-2");
  }
  SECTION("somebody else on the GPU") {
    check(",intruder=0.1", 0, "another process was on the GPU over 1 %");
  }
  SECTION("throttling") {
    check(",throttle=0.2", 0, "throttled over 10 % of the time");
  }
}

TEST_CASE("profile command: a GPU that others slow down is measured as if they did not",
          "[profile_command]") {
  const Workplace place;
  const ChildResult result = profile(place, ",intruder=0.1,throttle=0.1,counter_resets_s=200");
  INFO(result.err);
  REQUIRE(result.status == 0);
  const Profile truth = small_truth();
  const Profile mine = read_profile(place.file("mine.yaml"));
  for (std::size_t s = 0; s < kStages; ++s) {
    for (const auto& [kind, options] : mine.stages[s].instructions) {
      for (const Measurement& m : options) {
        const Measurement& real = *find_measurement(truth.stages[s], kind, m.clock);
        CHECK(relative_error(m.time.value(), real.time.value()) < 0.005);
        CHECK(relative_error(m.energy.value(), real.energy.value()) < 0.01);
      }
    }
  }
}

TEST_CASE("profile command: a disk that is full is said, and measuring goes on", "[profile_command]") {
  SLACKLINE_NEEDS(::access("/dev/full", W_OK) == 0, "/dev/full");
  const Workplace place;
  std::vector<std::string> arguments{"profile", "--device", place.device(small_truth(), ""), "-o", "-"};
  const ChildResult result = place.with_job(arguments, kMicrobatches, 0, kStages);
  CHECK(result.status == 0);
  CHECK(result.out.rfind("slackline: profile/1", 0) == 0);
  // A folder where the part should be: nothing can be kept, all is measured.
  std::filesystem::create_directories(place.file("mine.yaml.part/x"));
  const ChildResult unkept = profile(place, "", {"--restart"});
  INFO(unkept.err);
  CHECK(unkept.status == 0);
  CHECK(unkept.err.find("measuring goes on, but nothing of it is kept") != std::string::npos);
  CHECK(exists(place.file("mine.yaml")));
}

TEST_CASE("profile command: a budget measures that many clocks, and marks the others", "[profile_command]") {
  const Workplace place;
  const ChildResult result = profile(place, "", {"--budget", "4", "--regret", "0"});
  INFO(result.err);
  REQUIRE(result.status == 0);
  for (const StageProfile& stage : read_profile(place.file("mine.yaml")).stages) {
    for (const auto& [kind, options] : stage.instructions) {
      CHECK(options.size() == 10);
      CHECK(std::ranges::count(options, false, &Measurement::is_modelled) == 4);
      CHECK_FALSE(options.front().is_modelled);
      CHECK_FALSE(options.back().is_modelled);
    }
  }
}

TEST_CASE("profile command: flags that do not go together are refused", "[profile_command]") {
  const Workplace place;
  const auto refused = [&](const std::vector<std::string>& more, const std::string& message) {
    const ChildResult result = profile(place, "", more);
    CHECK(result.status == 2);
    CHECK(result.err.find(message) != std::string::npos);
  };
  refused({"--budget", "4", "--read-only"}, "--read-only excludes --budget");
  refused({"--budget", "4", "--clocks", "random"}, "--budget excludes --clocks");
  refused({"--budget", "4", "--order", "2f2b"}, "--order: '2f2b' is unknown");
  refused({"--regret", "1"}, "--regret requires --budget");
  refused({"--order", "gpipe"}, "--order requires --budget");
  refused({"--seed", "7"}, "--seed: is of --clocks random");
  refused({"--steps", "3", "--most-steps", "9"}, "--most-steps excludes --steps");
  refused({"--steps", "3", "--precision", "1"}, "--precision excludes --steps");
  refused({"--isolated", "--warm-up-steps", "2"}, "--isolated excludes --warm-up-steps");
  refused({"--clocks", "up"}, "--clocks: 'up' is unknown");
  refused({"--blocking-wait", "5", "--isolated"}, "--isolated excludes --blocking-wait");
  refused({"--merge", place.file("nowhere")}, "--merge: takes no --device");
  const ChildResult nowhere = place.slackline({"profile", "--merge", place.file("nowhere"), "-o", "-"});
  CHECK(nowhere.status == 2);
  CHECK(nowhere.err.find("nowhere: No such file or directory") != std::string::npos);
}

/// Sets what torchrun would for one rank, and takes it back.
class RankVariables {
 public:
  RankVariables(int rank, int ranks) {
    ::setenv("RANK", std::to_string(rank).c_str(), 1);
    ::setenv("WORLD_SIZE", std::to_string(ranks).c_str(), 1);
    ::setenv("LOCAL_RANK", std::to_string(rank).c_str(), 1);
  }
  RankVariables(const RankVariables&) = delete;
  RankVariables& operator=(const RankVariables&) = delete;
  ~RankVariables() {
    for (const char* name : {"RANK", "WORLD_SIZE", "LOCAL_RANK"}) ::unsetenv(name);
  }
};

TEST_CASE("profile command: ranks that measure apart make the profile of the whole", "[profile_command]") {
  const Workplace place;
  const std::string device = place.device(small_truth(), ",noise=0.005,node=" + place.file("node"));
  const std::string socket = place.file("agent.sock");
  write_file(place.file("policy.yaml"), "slackline: policy/1\nallow:\n  - users: [" +
                                            std::to_string(::geteuid()) + "]\n    gpus: all\n");
  RunningProgram agent({SLACKLINE_BINARY, "agent", "--device", device, "--policy", place.file("policy.yaml"),
                        "--socket", socket, "--runtime-dir", place.file("run")});
  INFO(agent.err());
  REQUIRE(wait_until([&] { return exists(socket); }, std::chrono::seconds(20)));
  std::filesystem::create_directories(place.file("meet"));
  const std::string pieces = place.file("pieces") + "/";
  std::vector<std::unique_ptr<RunningProgram>> ranks;
  for (int rank = 0; rank < kStages; ++rank) {
    const RankVariables variables(rank, kStages);
    ranks.push_back(std::make_unique<RunningProgram>(std::vector<std::string>{SLACKLINE_BINARY,
                                                                              "profile",
                                                                              "--device",
                                                                              device,
                                                                              "--agent",
                                                                              socket,
                                                                              "--steps",
                                                                              "2",
                                                                              "-o",
                                                                              pieces,
                                                                              "--",
                                                                              SLACKLINE_TRAIN,
                                                                              "--stages",
                                                                              "3",
                                                                              "--microbatches",
                                                                              "6",
                                                                              "--steps",
                                                                              "0",
                                                                              "--rendezvous",
                                                                              place.file("meet")}));
  }
  for (const auto& rank : ranks) {
    CHECK(rank->wait() == 0);
    INFO(rank->err());
    CHECK(rank->err().find("error") == std::string::npos);
  }
  const ChildResult merged = place.slackline({"profile", "--merge", pieces, "-o", place.file("mine.yaml")});
  INFO(merged.err);
  REQUIRE(merged.status == 0);
  const Profile truth = small_truth();
  const Profile mine = read_profile(place.file("mine.yaml"));
  REQUIRE(mine.stages.size() == kStages);
  for (std::size_t s = 0; s < kStages; ++s) {
    for (const auto& [kind, options] : mine.stages[s].instructions) {
      CHECK(options.size() == 10);
      for (const Measurement& m : options) {
        const Measurement& real = *find_measurement(truth.stages[s], kind, m.clock);
        CHECK(relative_error(m.time.value(), real.time.value()) < 0.01);
        CHECK(relative_error(m.energy.value(), real.energy.value()) < 0.015);
      }
    }
  }
  std::filesystem::remove(pieces + "rank-1-of-3.yaml");
  const ChildResult torn = place.slackline({"profile", "--merge", pieces, "-o", "-"});
  CHECK(torn.status == 2);
  CHECK(torn.err.find("the piece of rank 1 of 3 is missing") != std::string::npos);
}

TEST_CASE("profile command: several ranks and one file, or a folder and no rank, are refused",
          "[profile_command]") {
  const Workplace place;
  {
    const RankVariables variables(1, 4);
    const ChildResult result = profile(place, "");
    CHECK(result.status == 2);
    CHECK(result.err.find("this is one of 4 ranks; name a folder") != std::string::npos);
  }
  for (const char* flag : {"--most-steps", "--precision"}) {
    const RankVariables variables(1, 3);
    const ChildResult apart = place.with_job(
        {"profile", "--device", place.device(small_truth()), "-o", place.file("pieces") + "/", flag, "2"}, 6,
        0, kStages);
    CHECK(apart.status == 2);
    CHECK(apart.err.find(std::string(flag) + ": ranks that measure apart") != std::string::npos);
  }
  const ChildResult result = place.with_job(
      {"profile", "--device", place.device(small_truth()), "-o", place.file("pieces") + "/"}, 6, 0, kStages);
  CHECK(result.status == 2);
  CHECK(result.err.find("nothing here says which rank this is") != std::string::npos);
}

}  // namespace
}  // namespace slackline
