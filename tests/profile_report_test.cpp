#include "slackline/report/profile_report.h"

#include <algorithm>
#include <cmath>
#include <functional>
#include <nlohmann/json.hpp>
#include <sstream>

#include "catch.h"
#include "dice.h"
#include "slackline/base/error.h"
#include "slackline/profile/profile_io.h"
#include "slackline/report/profile_plot.h"

namespace slackline {
namespace {

using Json = nlohmann::json;

constexpr double kTimeNoise = 0.002;
constexpr double kEnergyNoise = 0.005;

Profile published() {
  return read_profile(std::string(SLACKLINE_SOURCE_DIR) + "/profiles/gpt3-175b-a100-sxm.yaml");
}

/// One stage as a good measuring leaves it: noise that its errors state, two estimates, many runs.
StageProfile measured_stage(Dice& dice, double size = 1) {
  StageProfile stage;
  stage.blocking_power = Watts(80);
  stage.tensor_parallel = 4;
  stage.notes.emplace();
  stage.notes->duration = Seconds(1000);
  for (const InstructionKind kind : {InstructionKind::kForward, InstructionKind::kBackward}) {
    const double factor = size * (kind == InstructionKind::kForward ? 1 : 2);
    for (int clock = 1410; clock >= 900; clock -= 30) {
      const double time = factor * (0.1 + 500.0 / clock);
      const double energy = time * (60 + 300 * std::pow(clock / 1410.0, 3));
      Measurement m{Megahertz(clock), Seconds(time * (1 + kTimeNoise * normal(dice))),
                    Joules(energy * (1 + kEnergyNoise * normal(dice)))};
      m.time_error = Seconds(kTimeNoise * time);
      m.energy_error = Joules(kEnergyNoise * energy);
      m.second_energy = Joules(energy * (1 + kEnergyNoise * normal(dice)));
      m.second_energy_error = m.energy_error;
      m.runs = 20;
      stage.instructions[kind].push_back(m);
    }
  }
  return stage;
}

Profile measured_profile() {
  Dice dice(3);
  Profile profile{"A model", "A GPU", "", "", {}};
  for (int s = 0; s < 3; ++s) profile.stages.push_back(measured_stage(dice, 1 + 0.1 * s));
  return profile;
}

std::vector<Measurement>& forwards(Profile& profile, std::size_t stage) {
  return profile.stages[stage].instructions.at(InstructionKind::kForward);
}

void agree(StageProfile& stage) {
  for (auto& [kind, options] : stage.instructions) {
    for (Measurement& m : options) m.second_energy = m.energy;
  }
}

std::vector<std::string> warnings(const Profile& profile) {
  return profile_warnings(summarise(profile));
}

std::size_t count(const std::string& text, const std::string& part) {
  std::size_t found = 0;
  for (std::size_t at = text.find(part); at != std::string::npos; at = text.find(part, at + 1)) ++found;
  return found;
}

/// Enough for what we write: every tag is closed in turn.
bool is_well_formed(const std::string& xml) {
  std::vector<std::string> open;
  for (std::size_t at = xml.find('<'); at != std::string::npos; at = xml.find('<', at + 1)) {
    const std::size_t end = xml.find('>', at);
    if (end == std::string::npos) return false;
    const std::string tag = xml.substr(at + 1, end - at - 1);
    const std::string name = tag.substr(0, tag.find_first_of(" /", 1));
    if (tag.front() == '/') {
      if (open.empty() || "/" + open.back() != tag) return false;
      open.pop_back();
    } else if (tag.back() != '/') {
      open.push_back(name);
    }
  }
  return open.empty();
}

TEST_CASE("profile report: a good measuring warns of nothing", "[report]") {
  CHECK(warnings(measured_profile()).empty());
}

TEST_CASE("profile report: whatever a plan should not be built on has its line, and no other", "[report]") {
  struct Fault {
    std::function<void(Profile&)> make;
    std::string line;
  };
  const std::vector<Fault> faults{
      {[](Profile& p) {
         for (auto& [kind, options] : p.stages[1].instructions) options.resize(1);
       },
       "nothing to choose, fewer than 2 clocks: stage 1 forward; stage 1 backward"},
      {[](Profile& p) {
         for (Measurement& m : forwards(p, 2)) m.energy_error = m.energy * 0.03;
       },
       "energies are not known to 2 %: stage 2 forward (18 of 18 options, up to 3.0 %)"},
      {[](Profile& p) {
         for (Measurement& m : forwards(p, 0)) m.time_error = m.time * 0.012;
       },
       "times are not known to 1 %: stage 0 forward (18 of 18 options, up to 1.2 %)"},
      {[](Profile& p) {
         agree(p.stages[1]);
         for (std::size_t i = 0; i < 2; ++i) {
           Measurement& m = forwards(p, 1)[i];
           m.second_energy = m.energy + 4 * std::sqrt(2) * m.energy_error;
         }
       },
       "two estimates of the energy disagree beyond 3 joint standard errors: stage 1 (2 of 36 options, up to "
       "4.0)"},
      {[](Profile& p) {
         p.stages[0].blocking_power.reset();
         p.stages[1].blocking_power.reset();
       },
       "no blocking power: stages 0-1; give it with plan --blocking-power"},
      {[](Profile& p) { p.stages[1].notes->throttled_share = 0.12; },
       "throttled over 10 % of the time: stage 1 (12 %)"},
      {[](Profile& p) { p.stages[1].notes->foreign_share = 0.015; },
       "another process was on the GPU over 1 % of the time: stage 1 (1.5 %)"},
      {[](Profile& p) {
         p.stages[1].notes->drift = -0.06;
         p.stages[1].notes->drift_error = 0.004;
       },
       "energies drifted by over 5 %: stage 1 (-6.0 % +- 0.4 %)"},
      {[](Profile& p) {
         p.stages[2].notes->throttled_clocks = {Megahertz(1410), Megahertz(1380)};
       },
       "throttled at most visits of a clock: stage 2 (2 clocks, 1380 to 1410 MHz)"},
      {[](Profile& p) { p.stages[2].notes->missed_clocks = {Megahertz(1380)}; },
       "clocks that never came: stage 2 (1380 MHz)"},
      {[](Profile& p) {
         for (StageProfile& stage : p.stages) {
           for (auto& [kind, options] : stage.instructions) {
             for (std::size_t i = 2; i < options.size(); ++i) options[i].is_modelled = true;
           }
         }
       },
       "over 85 % of the options are predictions, not measurements: 96 of 108 options"},
      {[](Profile& p) { forwards(p, 0)[4].runs = 3; },
       "fewer than 5 runs an option: stage 0 forward (1 of 18 options, down to 3)"},
      {[](Profile& p) { forwards(p, 0).pop_back(); },
       "kinds of a stage are measured at different clocks: stage 0 (not all have 900 MHz)"},
      {[](Profile& p) {  // a power cap
         forwards(p, 0)[0] = forwards(p, 0)[2];
         forwards(p, 0)[0].clock = Megahertz(1410);
       },
       "the fastest option is not at the highest clock: stage 0 forward (1380 MHz is 1.2 % faster than 1410 "
       "MHz)"},
  };
  for (const Fault& fault : faults) {
    CAPTURE(fault.line);
    Profile profile = measured_profile();
    fault.make(profile);
    CHECK(warnings(profile) == std::vector<std::string>{fault.line});
  }
}

TEST_CASE("profile report: limits are not passed by standing on them", "[report]") {
  Profile profile = measured_profile();
  MeasuringNotes& notes = *profile.stages[0].notes;
  notes.throttled_share = 0.10;
  notes.foreign_share = 0.01;
  notes.drift = 0.05;
  for (Measurement& m : forwards(profile, 0)) m.runs = 5;
  // One of 36 options may be far off by chance, and a lower clock faster.
  forwards(profile, 1)[0].time = forwards(profile, 1)[1].time + Seconds(1e-6);
  forwards(profile, 1)[0].energy = forwards(profile, 1)[1].energy;
  agree(profile.stages[1]);
  forwards(profile, 1)[3].second_energy = forwards(profile, 1)[3].energy * 1.1;
  CHECK(warnings(profile) == std::vector<std::string>{});
}

TEST_CASE("profile report: a planted outlier is found, and none beside it", "[report]") {
  for (const bool knows_errors : {true, false}) {
    for (const bool is_time : {true, false}) {
      CAPTURE(knows_errors, is_time);
      Profile profile = measured_profile();
      for (Measurement& m : forwards(profile, 1)) {
        if (!knows_errors) m.time_error = Seconds(0), m.energy_error = m.second_energy_error = Joules(0);
      }
      Measurement& bad = forwards(profile, 1)[9];
      if (is_time) {
        bad.time = bad.time * 1.04;
      } else {
        bad.energy = bad.energy * 1.08;
        bad.second_energy = bad.energy;
      }
      const ProfileSummary summary = summarise(profile);
      for (const StageSummary& stage : summary.stages) {
        for (const KindSummary& kind : stage.kinds) {
          const bool is_here = &stage == &summary.stages[1] && kind.kind == InstructionKind::kForward;
          REQUIRE(kind.check);
          REQUIRE(kind.check->outliers.size() == (is_here ? 1u : 0u));
          if (!is_here) continue;
          const Outlier& outlier = kind.check->outliers.front();
          CHECK(outlier.option.mhz == bad.clock);
          CHECK(outlier.is_time == is_time);
          CHECK(std::abs(outlier.deviation - (is_time ? 0.04 : 0.08)) < (is_time ? 0.01 : 0.02));
          CHECK(outlier.sigmas > 4);
          CHECK(kind.check->time_residual < 2 * kTimeNoise);
          CHECK(kind.check->energy_residual < 2 * kEnergyNoise);
        }
      }
      const auto lines = profile_warnings(summary);
      CAPTURE(lines);
      REQUIRE(lines.size() == 1);
      CHECK(lines[0].find("outliers, off the convex fit: stage 1 forward (1140 MHz: ") == 0);
      bad.is_modelled = true;  // a prediction is no evidence
      CHECK(warnings(profile).empty());
    }
  }
}

TEST_CASE("profile report: noise that its errors state makes no outliers", "[report]") {
  std::size_t outliers = 0;
  for (std::uint64_t seed = 1; seed <= 40; ++seed) {
    Dice dice(seed);
    Profile profile;
    profile.stages.push_back(measured_stage(dice));
    const ProfileSummary summary = summarise(profile);
    for (const KindSummary& kind : summary.stages[0].kinds) outliers += kind.check->outliers.size();
  }
  CHECK(outliers <= 1);
}

TEST_CASE("profile report: labels are curves of their own", "[report]") {
  Profile profile = measured_profile();
  profile.configs = {"fused", "plain"};
  std::vector<Measurement> both;
  for (Measurement m : forwards(profile, 0)) {
    m.config = ConfigId(1);
    both.push_back(m);
    m.config = ConfigId(2);
    m.time = m.time * 1.2;
    both.push_back(m);
  }
  forwards(profile, 0) = both;
  const ProfileSummary summary = summarise(profile);
  const KindSummary& forward = summary.stages[0].kinds[0];
  CHECK(forward.options == 36);
  CHECK(forward.clocks.size() == 18);
  CHECK(forward.highest.config == ConfigId(1));
  CHECK(forward.check->outliers.empty());
  CHECK(profile_warnings(summary).empty());
  CHECK(profile_text(summary).find("clocks  options ") != std::string::npos);
}

TEST_CASE("profile report: the imbalance is that of passes at the highest clock", "[report]") {
  const auto stage = [](double forward, std::vector<std::pair<InstructionKind, double>> others) {
    StageProfile one;
    one.instructions[InstructionKind::kForward] = {{Megahertz(1400), Seconds(forward), Joules(1)}};
    for (const auto& [kind, time] : others) {
      one.instructions[kind] = {{Megahertz(1400), Seconds(time), Joules(1)},
                                {Megahertz(1200), Seconds(9 * time), Joules(1)}};
    }
    return one;
  };
  Profile profile;
  profile.stages = {stage(1, {{InstructionKind::kBackward, 2}}),
                    stage(2, {{InstructionKind::kForwardBackward, 4}}),
                    stage(1, {{InstructionKind::kBackwardInput, 1}, {InstructionKind::kBackwardWeight, 1}})};
  const ProfileSummary summary = summarise(profile);
  CHECK(summary.slowest_stage == 1);
  CHECK(summary.fastest_stage == 0);
  CHECK(std::abs(summary.slowest_over_mean - 1.5) < 1e-12);
  CHECK(std::abs(summary.slowest_over_fastest - 2) < 1e-12);
  CHECK(profile_text(summary).find("stage 1, 1.500 times the mean, 2.000 times the fastest (stage 0)\n") !=
        std::string::npos);
}

TEST_CASE("profile report: the tables show what the profile states, and only that", "[report]") {
  Profile toy = read_profile(std::string(SLACKLINE_SOURCE_DIR) + "/tests/data/toy-profile.yaml");
  CHECK(
      profile_text(summarise(toy)) ==
      "toy, toy, 2 stages, 4 GPUs\n"
      "slowest pass (forward and backward at the highest clock): stage 1, 1.130 times the mean, 1.300 times "
      "the fastest (stage 0)\n"
      "\n"
      "stage  GPUs  pass (s)  blocking (W)\n"
      "0         2   0.03000         60.00\n"
      "1         2   0.03900         60.00\n"
      "\n"
      "stage  kind      clocks        MHz  time (s)  lowest MHz  energy (J)  lowest MHz\n"
      "0      forward        3  1000-1400   0.01000     0.01500       3.000       2.500\n"
      "0      backward       2  1200-1400   0.02000     0.02300       6.100       5.400\n"
      "1      forward        2  1200-1400   0.01300     0.01500       3.900       3.500\n"
      "1      backward       2  1200-1400   0.02600     0.03000       8.000       7.200\n"
      "\n"
      "stage  kind      hull vertices\n"
      "0      forward               3\n"
      "0      backward              2\n"
      "1      forward               2\n"
      "1      backward              2\n");
  toy.stages[0].instructions[InstructionKind::kOptimizer] = {{Megahertz(0), Seconds(0.5), Joules(40)}};
  CHECK(profile_text(summarise(toy)).find("\n0      optimizer       -        any    0.5000           -") !=
        std::string::npos);
}

TEST_CASE("profile report: no table is wider than 100 columns", "[report]") {
  Profile profile = measured_profile();
  profile.stages[1].instructions[InstructionKind::kOverlapped] = forwards(profile, 1);
  profile.stages[1].gpu = "Another GPU with a name that is long";
  profile.stages[1].transfer = Seconds(0.001);
  forwards(profile, 0)[3].is_modelled = true;
  for (StageProfile& stage : profile.stages) {
    stage.notes =
        MeasuringNotes{Watts(0.4), Watts(81), Watts(0.7), Seconds(0.1), Seconds(4000),     0.01,
                       0.001,      0.0001,    -0.0123456, 0.00456,      {Megahertz(1410)}, {Megahertz(900)}};
  }
  const std::string text = profile_text(summarise(profile));
  std::istringstream lines(text);
  std::string line;
  std::getline(lines, line);
  std::getline(lines, line);  // prose
  std::size_t widest = 0;
  while (std::getline(lines, line)) widest = std::max(widest, line.size());
  CAPTURE(text);
  CHECK(widest <= 100);
  for (const char* name :
       {"GPU ", "transfer (ms)", "+- (W)", "second (W)", "counter period (ms)", "drift (%)", "throttled MHz",
        "missed MHz", "modelled", "apart (+-)", "outliers"}) {
    CAPTURE(name);
    CHECK(text.find(name) != std::string::npos);
  }
}

TEST_CASE("profile report: its JSON holds the same figures and the warnings", "[report]") {
  Profile profile = measured_profile();
  profile.stages[2].notes->foreign_share = 0.03;
  const ProfileSummary summary = summarise(profile);
  const Json json = Json::parse(profile_json(summary));
  CHECK(json["model"] == "A model");
  CHECK(json["imbalance"]["slowest_stage"] == 2);
  CHECK(json["stages"].size() == 3);
  CHECK(json["stages"][2]["measuring"]["foreign_share"] == 0.03);
  const Json& forward = json["stages"][0]["kinds"][0];
  CHECK(forward["kind"] == "forward");
  CHECK(forward["highest"]["clock_mhz"] == 1410);
  CHECK(forward["median_energy_error"] == summary.stages[0].kinds[0].energy_errors.median());
  CHECK(forward["fewest_runs"] == 20);
  CHECK(forward["outliers"].empty());
  CHECK(json["warnings"] == Json(profile_warnings(summary)));
}

TEST_CASE("profile report: what no plan can use is refused", "[report]") {
  Profile profile = measured_profile();
  forwards(profile, 1)[0].energy = Joules(1e300);
  try {
    (void)summarise(profile);
    FAIL("accepted");
  } catch (const InputError& error) {
    CHECK(error.key() == "energy_j");
    CHECK(error.reason() == "stage 1 is beyond what can be planned");
  }
}

TEST_CASE("profile plot: every option is a point, with bars where its errors are known", "[report]") {
  Profile profile = measured_profile();
  for (std::size_t i = 4; i < 9; ++i) forwards(profile, 0)[i].is_modelled = true;
  profile.stages[0].instructions[InstructionKind::kOptimizer] = {{Megahertz(0), Seconds(0.5), Joules(40)}};
  const std::string svg = profile_svg(profile);
  CHECK(svg == profile_svg(profile));
  CHECK(is_well_formed(svg));
  // The legend has one hollow point, a full one for "measured" and for each of two kinds, three lines of a
  // hull and two bars.
  CHECK(count(svg, "<circle class=\"hollow\"") == 5 + 1);
  CHECK(count(svg, "<circle class=\"full\"") == 3 * 36 - 5 + 3);
  CHECK(count(svg, "<line class=\"bar\"") == 2 * 3 * 36 + 2);
  CHECK(count(svg, "<polyline class=\"hull\"") == 6);
  CHECK(count(svg, "class=\"frame\"") == 3);
  CHECK(count(svg, ">time (s)<") == 3);
  CHECK(count(svg, ">energy (J)<") == 3);
  CHECK(svg.find("prefers-color-scheme:dark") != std::string::npos);
  CHECK(svg.find("nan") == std::string::npos);
  CHECK(svg.find("optimizer") == std::string::npos);
  for (const char* outside : {"http://", "https://", "@import", "url("}) {
    CAPTURE(outside);
    CHECK(count(svg, outside) == (outside == std::string("http://") ? 1u : 0u));  // the namespace
  }
}

TEST_CASE("profile plot: without errors and predictions there are no bars and no hollow points", "[report]") {
  const std::string svg = profile_svg(published());
  CHECK(is_well_formed(svg));
  CHECK(count(svg, "<line class=\"bar\"") == 0);
  CHECK(count(svg, "<circle class=\"hollow\"") == 0);
  CHECK(svg.find("modelled") == std::string::npos);
  CHECK(svg.find("GPT-3 175B, NVIDIA A100 SXM") != std::string::npos);
}

TEST_CASE("profile plot: text of the profile is text in the picture", "[report]") {
  Profile profile = measured_profile();
  profile.model = "<script>&\"\x01\xff\xed\xa0\x80 \xc3\xa4\xe2\x82\xac\xf0\x9f\x98\x80";
  profile.stages[0].gpu = "</text><b>";
  profile.configs = {"a<b"};
  forwards(profile, 0)[0].config = ConfigId(1);
  const std::string svg = profile_svg(profile);
  CHECK(is_well_formed(svg));
  const std::string bad = "\xef\xbf\xbd";
  CHECK(svg.find("&lt;script&gt;&amp;&quot;" + bad + bad) != std::string::npos);
  CHECK(svg.find(" \xc3\xa4\xe2\x82\xac\xf0\x9f\x98\x80, A GPU<") != std::string::npos);
  CHECK(svg.find("\xed\xa0\x80") == std::string::npos);
  CHECK(svg.find("&lt;/text&gt;&lt;b&gt;") != std::string::npos);
  CHECK(svg.find("a&lt;b: ") != std::string::npos);
}

TEST_CASE("profile plot: tiny, huge, single and free options stay in the panel", "[report]") {
  for (const double size : {1e-9, 1e-4, 1.0, 1e5}) {
    for (const double energy : {0.0, 1e-9, 1.0, 1e11}) {
      CAPTURE(size, energy);
      Profile profile;
      profile.stages.emplace_back();
      profile.stages[0].instructions[InstructionKind::kForward] = {
          {Megahertz(1400), Seconds(size), Joules(energy)}};
      profile.stages[0].instructions[InstructionKind::kBackward] = {
          {Megahertz(1400), Seconds(size), Joules(energy)}, {Megahertz(1200), Seconds(size * 2), Joules(0)}};
      const std::string svg = profile_svg(profile);
      CHECK(is_well_formed(svg));
      CHECK(svg.size() < 20'000);
      CHECK(svg.find("nan") == std::string::npos);
      CHECK(svg.find("inf") == std::string::npos);
      CHECK(count(svg, "<title>forward, 1400 MHz") == 1);
    }
  }
}

}  // namespace
}  // namespace slackline
