#pragma once
#include <cmath>
#include <string>
#include <vector>

#include "catch.h"
#include "running_program.h"
#include "runtime_variable.h"
#include "slackline/base/file.h"
#include "slackline/profile/profile_io.h"

namespace slackline {

inline double relative_error(double measured, double expected) {
  return std::abs(measured / expected - 1);
}

/// The published GPT-3 profile, its first stages.
inline Profile published(std::size_t stages) {
  Profile profile = read_profile(std::string(SLACKLINE_SOURCE_DIR) + "/profiles/gpt3-175b-a100-sxm.yaml");
  profile.stages.resize(stages);
  return profile;
}

/// A folder to work in with a runtime folder of its own.
struct Workplace {
  ScratchFolder folder;
  RuntimeVariable runtime{folder.file("run")};

  [[nodiscard]] std::string file(const std::string& name) const { return folder.file(name); }
  [[nodiscard]] ChildResult slackline(std::vector<std::string> arguments) const {
    arguments.insert(arguments.begin(), SLACKLINE_BINARY);
    return run_child(arguments, folder.file(""));
  }
  /// The arguments and a training job behind them.
  [[nodiscard]] ChildResult with_job(std::vector<std::string> arguments, int microbatches, int steps,
                                     int stages) const {
    const std::vector<std::string> job{"--",
                                       SLACKLINE_TRAIN,
                                       "--stages",
                                       std::to_string(stages),
                                       "--microbatches",
                                       std::to_string(microbatches),
                                       "--steps",
                                       std::to_string(steps)};
    arguments.insert(arguments.end(), job.begin(), job.end());
    return slackline(arguments);
  }
  /// Plans `profile` and returns the schedule's file.
  std::string plan(const Profile& profile, int microbatches, const std::string& slowdown = "0") const {
    write_file(file("planned.yaml"), to_yaml(profile));
    const ChildResult result =
        slackline({"plan", file("planned.yaml"), "--microbatches", std::to_string(microbatches), "--slowdown",
                   slowdown, "-o", file("schedule.yaml")});
    INFO(result.err);
    REQUIRE(result.status == 0);
    return file("schedule.yaml");
  }
  [[nodiscard]] std::string device(const Profile& truth, const std::string& options = "") const {
    write_file(file("truth.yaml"), to_yaml(truth));
    return "sim:" + file("truth.yaml") + options;
  }
};

}  // namespace slackline
