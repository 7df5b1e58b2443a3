// Profile, plan and apply as a user runs them, on simulated GPUs whose truth the programs do not know.
#include <nlohmann/json.hpp>
#include <random>

#include "catch.h"
#include "dice.h"
#include "hidden_truth.h"
#include "workplace.h"

namespace slackline {
namespace {

using Json = nlohmann::json;

constexpr int kStages = 4;

Json phase(const Json& report, const std::string& name) {
  for (const Json& each : report) {
    if (each.at("phase") == name) return each;
  }
  return {};
}

void check_phase_as_predicted(const Json& measured, double tolerance) {
  CAPTURE(measured.dump());
  REQUIRE_FALSE(measured.is_null());
  CHECK(relative_error(measured.at("time_s").get<double>(), measured.at("predicted_time_s").get<double>()) <
        tolerance);
  CHECK(relative_error(measured.at("energy_j").get<double>(),
                       measured.at("predicted_energy_j").get<double>()) < tolerance);
}

TEST_CASE("closed loop: a profile measured on unknown GPUs leads to the savings that were predicted",
          "[closed_loop]") {
  const auto seed = std::random_device{}();
  CAPTURE(seed);
  Dice dice(seed);
  const Workplace place;
  const Profile truth = hidden_truth(published(kStages), dice);
  const std::string device =
      place.device(truth, ",noise=0.005,seed=" + std::to_string(dice.number(1, 1 << 30)));

  const ChildResult profiled =
      place.with_job({"profile", "--device", device, "-o", place.file("mine.yaml")}, 8, 0, kStages);
  INFO(profiled.err);
  REQUIRE(profiled.status == 0);
  const Profile mine = read_profile(place.file("mine.yaml"));
  REQUIRE(mine.stages.size() == kStages);
  for (std::size_t s = 0; s < mine.stages.size(); ++s) {
    const StageProfile& stage = mine.stages[s];
    CHECK(stage.tensor_parallel == truth.stages[s].tensor_parallel);
    REQUIRE(stage.blocking_power);
    CHECK(relative_error(stage.blocking_power->value(), truth.stages[s].blocking_power->value()) < 0.01);
    for (const auto& [kind, options] : stage.instructions) {
      CHECK(options.size() >= 10);
      for (const Measurement& option : options) {
        const Measurement* const real = find_measurement(truth.stages[s], kind, option.clock);
        CAPTURE(s, name_of(kind), option.clock.value());
        REQUIRE(real != nullptr);
        CHECK(relative_error(option.time.value(), real->time.value()) < 0.01);
        CHECK(relative_error(option.energy.value(), real->energy.value()) < 0.03);
      }
    }
  }

  const std::string schedule = place.plan(mine, 12);
  const ChildResult applied = place.with_job(
      {"apply", schedule, "--baseline-steps", "3", "--json", "--device", device}, 12, 9, kStages);
  INFO(applied.err);
  REQUIRE(applied.status == 0);
  const Json report = Json::parse(applied.out);
  const Json planned = phase(report, "planned");
  CHECK(phase(report, "all-max").at("steps") == 3);
  CHECK(planned.at("steps") == 5);
  CHECK(phase(report, "released").is_null());
  check_phase_as_predicted(phase(report, "all-max"), 0.02);
  check_phase_as_predicted(planned, 0.02);
  CHECK(planned.at("saved_percent").get<double>() > 1);
  CHECK(std::abs(planned.at("saved_percent").get<double>() -
                 planned.at("predicted_saved_percent").get<double>()) < 1);
}

TEST_CASE("closed loop: a run under the schedule saves what it saves against a whole run without",
          "[closed_loop]") {
  const auto seed = std::random_device{}();
  CAPTURE(seed);
  Dice dice(seed);
  const Workplace place;
  const Profile truth = hidden_truth(published(kStages), dice);
  const std::string device = place.device(truth);
  const std::string schedule = place.plan(truth, 6, "5");
  const auto apply = [&](const std::string& baseline_steps) {
    const ChildResult result = place.with_job(
        {"apply", schedule, "--baseline-steps", baseline_steps, "--json", "--device", device}, 6, 5, kStages);
    INFO(result.err);
    REQUIRE(result.status == 0);
    return Json::parse(result.out);
  };
  const Json without = apply("4");
  const Json with = apply("0");
  REQUIRE(without.size() == 1);
  REQUIRE(with.size() == 1);
  CHECK(without[0].at("phase") == "all-max");
  CHECK(with[0].at("phase") == "planned");
  CHECK(with[0].at("saved_percent").is_null());  // there is nothing measured to compare with
  check_phase_as_predicted(without[0], 0.01);
  check_phase_as_predicted(with[0], 0.02);
  const double saved =
      100 * (1 - with[0].at("energy_j").get<double>() / without[0].at("energy_j").get<double>());
  CHECK(std::abs(saved - with[0].at("predicted_saved_percent").get<double>()) < 1);
}

TEST_CASE("closed loop: two runs with the same seed print the same bytes", "[closed_loop]") {
  const auto seed = std::random_device{}();
  CAPTURE(seed);
  Dice dice(seed);
  const Workplace place;
  const Profile truth = hidden_truth(published(kStages), dice);
  const std::string schedule = place.plan(truth, 6);
  const auto apply = [&](const std::string& options) {
    return place.with_job(
        {"apply", schedule, "--baseline-steps", "2", "--json", "--device", place.device(truth, options)}, 6,
        5, kStages);
  };
  const ChildResult first = apply(",noise=0.01,seed=4");
  CHECK(first.status == 0);
  CHECK(apply(",noise=0.01,seed=4").out == first.out);
  CHECK(apply(",noise=0.01,seed=5").out != first.out);
}

TEST_CASE("closed loop: a schedule that the GPUs cannot keep is released after five slow steps",
          "[closed_loop]") {
  const Workplace place;
  Profile slower = published(kStages);
  for (StageProfile& stage : slower.stages) {
    for (auto& [kind, options] : stage.instructions) {
      for (Measurement& option : options) option.time = option.time * 1.1;
    }
  }
  const std::string schedule = place.plan(published(kStages), 6);
  const ChildResult result =
      place.with_job({"apply", schedule, "--json", "--device", place.device(slower)}, 6, 13, kStages);
  CHECK(result.status == 0);
  CHECK(result.err.find("the schedule was released") != std::string::npos);
  const Json report = Json::parse(result.out);
  const Json planned = phase(report, "planned");
  const Json released = phase(report, "released");
  REQUIRE_FALSE(planned.is_null());
  REQUIRE_FALSE(released.is_null());
  CHECK(planned.at("steps") == 5);
  CHECK(released.at("steps") == 7);

  // What has changed since the profile is named.
  write_file(place.file("published.yaml"), to_yaml(published(kStages)));
  const ChildResult watched = place.with_job({"apply", schedule, "--tolerance", "50", "--profile",
                                              place.file("published.yaml"), "--device", place.device(slower)},
                                             6, 8, kStages);
  CHECK(watched.err.find("the profile does not hold any more: stage ") != std::string::npos);
  CHECK(watched.err.find("(+10.0 %)") != std::string::npos);
  const ChildResult same = place.with_job({"apply", schedule, "--profile", place.file("published.yaml"),
                                           "--device", place.device(published(kStages))},
                                          6, 8, kStages);
  CHECK(same.err.find("does not hold") == std::string::npos);

  // Against a measured baseline, which is as slow, the same schedule keeps its promise.
  const ChildResult measured =
      place.with_job({"apply", schedule, "--baseline-steps", "2", "--json", "--device", place.device(slower)},
                     6, 10, kStages);
  CHECK(measured.status == 0);
  CHECK(phase(Json::parse(measured.out), "released").is_null());
}

TEST_CASE("closed loop: a lost GPU ends the schedule and the measurement, not the job", "[closed_loop]") {
  const Workplace place;
  const std::string schedule = place.plan(published(kStages), 6);
  const ChildResult result = place.with_job(
      {"apply", schedule, "--json", "--device", place.device(published(kStages), ",lost_s=20")}, 6, 7,
      kStages);
  INFO(result.err);
  CHECK(result.status == 3);
  CHECK(result.err.find("read energy on sim:") != std::string::npos);
  CHECK(result.err.find("GPU is lost") != std::string::npos);
  int steps = 0;
  for (const Json& each : Json::parse(result.out)) steps += each.at("steps").get<int>();
  CHECK(steps == 6);
}

TEST_CASE("closed loop: what cannot run ends with its own status and message", "[closed_loop]") {
  const Workplace place;
  const std::string schedule = place.plan(published(kStages), 4);
  const std::string device = place.device(published(kStages));
  const auto apply = [&](const std::string& on, const std::vector<std::string>& command) {
    std::vector<std::string> arguments{"apply", schedule, "--device", on, "--"};
    arguments.insert(arguments.end(), command.begin(), command.end());
    return place.slackline(arguments);
  };
  const auto says = [](const ChildResult& result, const std::string& text) {
    INFO(result.err);
    CHECK(result.err.find(text) != std::string::npos);
  };
  SECTION("a command that is not found: 127") {
    const ChildResult result = apply(device, {"no-such-command"});
    CHECK(result.status == 127);
    says(result, "no-such-command: command not found");
    CHECK(place.slackline({"profile", "--device", device, "-o", place.file("out"), "--", "no-such-command"})
              .status == 127);
  }
  SECTION("a command that cannot be run: 126") {
    CHECK(apply(device, {place.file("truth.yaml")}).status == 126);
  }
  SECTION("a device that does not exist: 3") {
    CHECK(apply("sim:" + place.file("missing.yaml"), {"true"}).status == 3);
    CHECK(apply("abacus", {"true"}).status == 3);
    CHECK(place.slackline({"profile", "--device", "abacus", "-o", place.file("out"), "--", "true"}).status ==
          3);
  }
  SECTION("a device with a wrong key: 2") {
    CHECK(apply(device + ",speed=3", {"true"}).status == 2);
  }
  SECTION("a job with another number of stages: 2") {
    const ChildResult result = place.with_job({"apply", schedule, "--device", device}, 4, 2, 3);
    CHECK(result.status == 2);
    says(result, "the schedule is for 4 ranks, the job has 3");
  }
  SECTION("a device with another number of stages: 2") {
    Profile fewer = published(kStages);
    fewer.stages.pop_back();
    CHECK(apply(place.device(fewer), {"true"}).status == 2);
  }
  SECTION("a job with another number of microbatches: trains on without the schedule, and it is said") {
    const ChildResult result = place.with_job({"apply", schedule, "--device", device}, 5, 3, kStages);
    CHECK(result.status == 0);
    says(result, "where the schedule has");
    says(result, "the job left the schedule's order");
  }
  SECTION("the command's own status passes through") {
    CHECK(apply(device, {"sh", "-c", "exit 37"}).status == 37);
    CHECK(apply(device, {"sh", "-c", "kill -9 $$"}).status == 137);
    const ChildResult result = apply(device, {"true"});
    CHECK(result.status == 0);
    says(result, "no whole step was seen");
  }
  SECTION("a job that ends before it is measured: 1, and no profile") {
    const ChildResult result =
        place.with_job({"profile", "--device", device, "-o", place.file("out")}, 4, 1, kStages);
    CHECK(result.status == 1);
    CHECK_FALSE(std::filesystem::exists(place.file("out")));
  }
  // Nothing is left: no node, no lock.
  if (std::filesystem::exists(place.file("run"))) {
    for (const auto& entry : std::filesystem::directory_iterator(place.file("run"))) {
      CHECK(entry.path().filename() == "journal");
      CHECK(std::filesystem::is_empty(entry.path()));
    }
  }
}

}  // namespace
}  // namespace slackline
