#include "slackline/profile/profile.h"

#include "catch.h"
#include "comma_locale.h"
#include "dice.h"
#include "scratch_folder.h"
#include "slackline/base/error.h"
#include "slackline/base/number_text.h"
#include "slackline/profile/derive.h"
#include "slackline/profile/profile_io.h"

namespace slackline {
namespace {

const std::string kSource = SLACKLINE_SOURCE_DIR;
constexpr auto kForwardKind = InstructionKind::kForward;

double any_positive(Dice& dice) {
  return dice.between(1e-6, 1) * (dice.number(0, 1) == 0 ? 1 : 1e9);
}

/// Gives the last measurement a label, or puts one with a label behind it.
void label(Dice& dice, Profile& profile, std::vector<Measurement>& options) {
  if (dice.number(0, 1) == 0) options.push_back(options.back());
  options.back().config = config_of(profile.configs, "c" + std::to_string(dice.number(0, 3)));
}

SwitchTimes random_switch_times(Dice& dice) {
  SwitchTimes times;
  times.call_ms = any_positive(dice);
  times.first_change_ms = any_positive(dice);
  times.stable_ms = times.first_change_ms + any_positive(dice);
  for (int clock = 1000 + dice.number(0, 3); clock > 1000; --clock) {
    const double first_change_ms = any_positive(dice);
    times.pairs.push_back(
        {Megahertz(clock), Megahertz(clock - 1), first_change_ms, first_change_ms + any_positive(dice)});
  }
  return times;
}

Profile random_profile(Dice& dice) {
  Profile profile{"a: 'model' # \"x\"", "GPU\n80GB", "", "yes", {}};
  for (int s = dice.number(1, 4); s > 0; --s) {
    StageProfile stage;
    stage.tensor_parallel = dice.number(1, 8);
    if (dice.number(0, 1) == 1) stage.blocking_power = Watts(any_positive(dice));
    if (dice.number(0, 1) == 1) stage.transfer = Seconds(any_positive(dice));
    if (dice.number(0, 1) == 1) stage.gpu = "another";
    for (const InstructionKind kind : kInstructionKinds) {
      if (is_fixed_time(kind)) {
        stage.instructions[kind] = {{Megahertz(0), Seconds(any_positive(dice)), Joules(any_positive(dice))}};
        continue;
      }
      for (int clock = 2000; clock > 0; clock -= dice.number(1, 900)) {
        stage.instructions[kind].push_back(
            {Megahertz(clock), Seconds(any_positive(dice)), Joules(any_positive(dice))});
        if (dice.number(0, 3) == 0) {
          stage.instructions[kind].back().time_error = Seconds(any_positive(dice));
          stage.instructions[kind].back().energy_error = Joules(any_positive(dice));
        }
        if (dice.number(0, 5) == 0) label(dice, profile, stage.instructions[kind]);
      }
    }
    profile.stages.push_back(stage);
  }
  if (dice.number(0, 1) == 1) profile.switch_times = random_switch_times(dice);
  return profile;
}

/// What a CSV file can say: no names, powers and degrees.
std::string to_csv(const Profile& profile) {
  std::string text = "stage,instruction,frequency,config,time,energy\n";
  for (std::size_t s = 0; s < profile.stages.size(); ++s) {
    for (const auto& [kind, options] : profile.stages[s].instructions) {
      for (const Measurement& m : options) {
        text += std::to_string(s) + "," + std::string(name_of(kind)) + "," + std::to_string(m.clock.value()) +
                "," + label_of(profile.configs, m.config) + "," + exact_text(m.time.value()) + "," +
                exact_text(m.energy.value()) + "\n";
      }
    }
  }
  return text;
}

TEST_CASE("profile: YAML reads back exactly, and the same profile gives the same bytes", "[profile]") {
  Dice dice(3);
  for (int i = 0; i < 50; ++i) {
    const Profile profile = random_profile(dice);
    const std::string text = to_yaml(profile);
    const Profile read = parse_profile_yaml("p.yaml", text);
    CHECK(read == profile);
    CHECK(to_yaml(read) == text);
  }
}

TEST_CASE("profile: switch times are put into a profile's file, or take the place of older ones",
          "[profile]") {
  Dice dice(5);
  const ScratchFolder scratch;
  const std::string path = scratch.file("p.yaml");
  for (int i = 0; i < 10; ++i) {
    Profile profile = random_profile(dice);
    spill(path, to_yaml(profile));
    profile.switch_times = random_switch_times(dice);
    write_switch_times(path, *profile.switch_times);
    CHECK(read_profile(path) == profile);
    CHECK(scratch.entries() == 1);
  }
  spill(scratch.file("p.csv"), "stage,instruction,frequency,time,energy\n");
  CHECK_THROWS_AS(write_switch_times(scratch.file("p.csv"), {}), InputError);
  CHECK_THROWS_AS(write_switch_times(scratch.file("missing.yaml"), {}), InputError);
}

TEST_CASE("profile: CSV reads back exactly, whatever the order of its rows and line ends", "[profile]") {
  Dice dice(4);
  for (int i = 0; i < 20; ++i) {
    Profile profile = random_profile(dice);
    profile.model = profile.gpu = profile.licence = "";
    profile.switch_times.reset();
    for (StageProfile& stage : profile.stages) {
      stage.tensor_parallel = 1;
      stage.blocking_power.reset();
      stage.transfer = Seconds(0);
      for (auto& [kind, options] : stage.instructions) {
        for (Measurement& m : options) m.time_error = Seconds(0), m.energy_error = Joules(0);
      }
      stage.gpu = "";
    }
    const std::string text = to_csv(profile);
    CHECK(parse_profile_csv("p.csv", text) == profile);

    std::string windows;
    for (const char c : text) windows += c == '\n' ? std::string("\r\n") : std::string(1, c);
    CHECK(parse_profile_csv("p.csv", windows) == profile);
    CHECK(parse_profile_csv("p.csv", text.substr(0, text.size() - 1)) == profile);
    CHECK(parse_profile_csv("p.csv", text + "\n") == profile);

    std::vector<std::string> rows;
    std::istringstream lines(text.substr(text.find('\n') + 1));
    for (std::string line; std::getline(lines, line);) rows.push_back(line);
    std::string shuffled = text.substr(0, text.find('\n') + 1);
    while (!rows.empty()) {
      const auto pick = rows.begin() + dice.number(0, static_cast<int>(rows.size()) - 1);
      shuffled += *pick + "\n";
      rows.erase(pick);
    }
    CHECK(parse_profile_csv("p.csv", shuffled) == profile);
  }
}

TEST_CASE("profile: further CSV columns make one label", "[profile]") {
  const Profile profile =
      parse_profile_csv("p.csv",
                        "stage,config_sms,instruction,frequency,time,energy,config_block,config\n"
                        "0,12,forward,1400,1,1,,\n0,,forward,1400,2,1,,fused\n0,16,forward,1400,3,1,1024,"
                        "x\n0,,backward,1400,1,1,,\n");
  const auto& forward = profile.stages[0].instructions.at(InstructionKind::kForward);
  REQUIRE(forward.size() == 3);
  std::vector<std::string> labels;
  for (const Measurement& m : forward) labels.push_back(label_of(profile.configs, m.config));
  CHECK(labels == std::vector<std::string>{"fused", "sms=12", "sms=16 block=1024 x"});
  CHECK(label_of(profile.configs, profile.stages[0].instructions.at(InstructionKind::kBackward)[0].config) ==
        "");
}

std::string derive_error(Profile profile, const std::string& request) {
  try {
    derive_kinds(profile, request);
  } catch (const InputError& error) {
    return error.what();
  }
  return "accepted";
}

TEST_CASE("derive: kinds are made of what was measured, clock by clock", "[profile]") {
  const Profile measured =
      parse_profile_csv("p.csv",
                        "stage,instruction,frequency,time,energy\n"
                        "0,forward,1400,1,10\n0,backward,1400,2,20\n0,backward,1300,3,15\n"
                        "1,forward,1400,1,10\n1,backward,1400,2,20\n1,backward,1300,3,15\n");
  Profile split = measured;
  derive_kinds(split, "split-backward=0.25");
  CHECK(split.stages[1].instructions.at(InstructionKind::kBackwardInput)[0] ==
        Measurement{Megahertz(1400), Seconds(0.5), Joules(5)});
  CHECK(split.stages[1].instructions.at(InstructionKind::kBackwardWeight)[1] ==
        Measurement{Megahertz(1300), Seconds(2.25), Joules(11.25)});
  // The first stage has no input gradient to compute.
  CHECK(split.stages[0].instructions.at(InstructionKind::kBackwardInput)[0].time == Seconds(0.002));
  for (StageProfile& stage : split.stages) stage.instructions.erase(InstructionKind::kBackward);
  derive_kinds(split, "backward");
  for (std::size_t s = 0; s < 2; ++s) {
    const auto& joined = split.stages[s].instructions.at(InstructionKind::kBackward);
    REQUIRE(joined.size() == 2);
    CHECK(std::abs(joined[1].time.value() - 3) < 1e-12);
    CHECK(std::abs(joined[1].energy.value() - 15) < 1e-12);
  }
  Profile recompute = measured;
  derive_kinds(recompute, "recompute");
  const auto& kinds = recompute.stages[0].instructions;
  CHECK(kinds.at(InstructionKind::kRecompute) == kinds.at(kForwardKind));
  CHECK(kinds.at(InstructionKind::kForwardBackward) ==
        std::vector<Measurement>{{Megahertz(1400), Seconds(3), Joules(30)}});
  CHECK(recompute.derived == std::vector<std::string>{"recompute"});

  CHECK(derive_error(measured, "split-backward=1").find("'1' is not a share above 0 and below 1") !=
        std::string::npos);
  CHECK(derive_error(measured, "split-backward=x").find("--derive") == 0);
  CHECK(derive_error(measured, "magic").find("unknown request 'magic'") != std::string::npos);
  CHECK(derive_error(split, "split-backward=0.5").find("'split-backward' is asked for twice") !=
        std::string::npos);
  Profile half = measured;
  half.stages[1].instructions[InstructionKind::kBackwardWeight] = {{Megahertz(1400), Seconds(1), Joules(1)}};
  CHECK(derive_error(half, "split-backward=0.5").find("only one half") != std::string::npos);
  Profile without = measured;
  without.stages[1].instructions.erase(InstructionKind::kBackward);
  CHECK(derive_error(without, "recompute").find("stage 1 has no 'backward'") != std::string::npos);
}

TEST_CASE("profile: ranks of a stage become one, with the slowest time and the mean energy", "[profile]") {
  // A stage in lockstep is as fast as its slowest rank, and a measurement is of one GPU of the stage.
  const Profile profile = read_profile(kSource + "/tests/data/toy-profile.csv");
  REQUIRE(profile.stages.size() == 2);
  const auto& forward = profile.stages[0].instructions.at(InstructionKind::kForward);
  REQUIRE(forward.size() == 2);
  CHECK(forward[0] == Measurement{Megahertz(1400), Seconds(0.011), Joules(3.5)});
  CHECK(forward[1] == Measurement{Megahertz(1200), Seconds(0.013), Joules(3.0)});
  CHECK(profile.stages[0].instructions.at(InstructionKind::kBackward)[0] ==
        Measurement{Megahertz(1400), Seconds(0.020), Joules(6.5)});
  CHECK(profile.stages[1].instructions.at(InstructionKind::kForward)[0] ==
        Measurement{Megahertz(1400), Seconds(0.030), Joules(9)});
  CHECK(profile.stages[0].tensor_parallel == 1);
  CHECK_FALSE(profile.stages[0].blocking_power.has_value());
}

TEST_CASE("profile: tp_rank tells how many GPUs a stage has, other ranks do not", "[profile]") {
  const auto gpus = [](const std::string& header, const std::string& first, const std::string& second) {
    return parse_profile_csv("p.csv", header + ",stage,instruction,frequency,time,energy\n" + first +
                                          ",0,forward,1400,1,1\n" + second + ",0,forward,1400,1,1\n" + first +
                                          ",0,backward,1400,1,1\n")
        .stages[0]
        .tensor_parallel;
  };
  CHECK(gpus("rank,tp_rank", "0,0", "1,1") == 2);
  CHECK(gpus("rank,tp_rank", "0,0", "1,0") == 1);
  CHECK(gpus("rank,dp_rank", "0,0", "1,1") == 1);
}

TEST_CASE("profile: clocks fall, whatever the file's order, and the first is the highest", "[profile]") {
  for (const char* name : {"gpt3-175b", "bloom-176b"}) {
    const Profile profile = read_profile(kSource + "/profiles/" + name + "-a100-sxm.csv");
    REQUIRE(profile.stages.size() == 8);
    for (const StageProfile& stage : profile.stages) {
      CHECK(highest_clock(stage) == Megahertz(1410));
      for (const InstructionKind kind : {InstructionKind::kForward, InstructionKind::kBackward}) {
        const auto& options = stage.instructions.at(kind);
        CHECK(options.size() == 38);
        for (std::size_t i = 1; i < options.size(); ++i) CHECK(options[i].clock < options[i - 1].clock);
        for (const Measurement& option : options)
          CHECK(find_measurement(stage, kind, option.clock) == &option);
        CHECK(find_measurement(stage, kind, Megahertz(1)) == nullptr);
      }
    }
    CHECK(gpu_count(profile) == 8);
  }
}

TEST_CASE("profile: the shipped YAML files are the published measurements at full size", "[profile]") {
  // The published files are shrunk: time and energy by 10, and a measurement stands for one of 8 GPUs a
  // stage.
  for (const std::string name : {"gpt3-175b", "bloom-176b"}) {
    CAPTURE(name);
    const std::string stem = kSource + "/profiles/" + name + "-a100-sxm";
    const Profile published = read_profile(stem + ".csv");
    const Profile full = read_profile(stem + ".yaml");
    CHECK_FALSE(full.model.empty());
    CHECK_FALSE(full.gpu.empty());
    CHECK_FALSE(full.origin.empty());
    REQUIRE(full.stages.size() == published.stages.size());
    for (std::size_t s = 0; s < full.stages.size(); ++s) {
      CHECK(full.stages[s].tensor_parallel == 8);
      REQUIRE(full.stages[s].blocking_power.has_value());
      CHECK(full.stages[s].blocking_power->value() == 83.64);
      for (const InstructionKind kind : {InstructionKind::kForward, InstructionKind::kBackward}) {
        const auto& small = published.stages[s].instructions.at(kind);
        const auto& large = full.stages[s].instructions.at(kind);
        REQUIRE(large.size() == small.size());
        for (std::size_t i = 0; i < small.size(); ++i) {
          CHECK(large[i].clock == small[i].clock);
          CHECK(std::abs(large[i].time / small[i].time - 10) < 1e-6);
          CHECK(std::abs(large[i].energy / small[i].energy - 10) < 1e-6);
        }
      }
    }
  }
}

TEST_CASE("profile: a file does not depend on the locale it was written in", "[profile]") {
  const Profile profile = read_profile(kSource + "/tests/data/toy-profile.yaml");
  const std::string expected = to_yaml(profile);
  const CommaLocale locale;
  const std::string text = to_yaml(profile);
  const Profile read = parse_profile_yaml("p.yaml", expected);
  CHECK(text == expected);
  CHECK(read == profile);
}

TEST_CASE("profile: an error in text names the file it was told, and the line", "[profile]") {
  try {
    (void)parse_profile_csv("x.csv", "stage,instruction,frequency,time,energy\n0,forward,1400,oops,1\n");
    FAIL("accepted");
  } catch (const InputError& error) {
    CHECK(error.file() == "x.csv");
    CHECK(error.line() == 2);
    CHECK(error.key() == "time");
    CHECK(error.reason() == "'oops' is not a finite number");
  }
}

}  // namespace
}  // namespace slackline
