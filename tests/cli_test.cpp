#include <algorithm>
#include <filesystem>
#include <set>

#include "catch.h"
#include "child.h"

namespace slackline {
namespace {

const std::string kBinary = SLACKLINE_BINARY;
const std::string kData = std::string(SLACKLINE_SOURCE_DIR) + "/tests/data";
constexpr const char* kOld = "what was there before\n";

ChildResult run(std::vector<std::string> arguments, const std::string& folder = kData) {
  arguments.insert(arguments.begin(), kBinary);
  return run_child(arguments, folder);
}

struct BadFile {
  std::string name;
  /// What is said, with @ for the name.
  std::string message;

  [[nodiscard]] std::string error() const {
    return "slackline: " + (message.front() == '@' ? name + message.substr(1) : message) + "\n";
  }
};

/// One file a fault, named by it.
const std::vector<BadFile>& bad_files() {
  static const std::vector<BadFile> kFiles{
      // clang-format off
    {"a-folder.yaml", "@: is a directory, not a file"},
    {"csv-byte-order-mark.csv", "@:1: the file begins with a byte order mark; save it as plain UTF-8"},
    {"csv-clock-twice.csv", "@:3: frequency: 1400 MHz comes twice for forward of stage 0"},
    {"csv-clock-zero.csv", "@:3: frequency: '0' is not a whole number from 1 to 100000"},
    {"csv-decimal-comma.csv", "@:3: 6 values where the header names 5"},
    {"csv-empty-line.csv", "@:3: 1 values where the header names 5"},
    {"csv-empty.csv", "@: the file is empty"},
    {"csv-energy-negative.csv", "@:3: energy: '-2.6' must not be negative"},
    {"csv-header-column-twice.csv", "@:1: time: the column comes twice"},
    {"csv-header-lacks-a-column.csv", "@:1: energy: the header lacks this column; expected stage,instruction,frequency,time,energy"},
    {"csv-header-only.csv", "@:1: the file has a header but no measurements"},
    {"csv-header-unknown-column.csv", "@:1: colour: unknown column in the header"},
    {"csv-header-wrong.csv", "@:1: stage;instruction;frequency;time;energy: unknown column in the header"},
    {"csv-long-row.csv", "@:3: 6 values where the header names 5"},
    {"csv-no-blocking-power.csv", "--blocking-power: the profile does not say what a waiting GPU of stage 0 draws; give it in watts"},
    {"csv-no-header.csv", "@:1: 0: unknown column in the header"},
    {"csv-short-row.csv", "@:3: 4 values where the header names 5"},
    {"csv-space-in-a-number.csv", "@:3: time: ' 0.012' is not a finite number"},
    {"csv-stage-gap.csv", "@: stage: stage 1 is missing; stages are numbered from 0 without a gap"},
    {"csv-stage-negative.csv", "@:5: stage: '-1' is not a whole number from 0 to 4095"},
    {"csv-stage-without-a-kind.csv", "@: instruction: stage 1 has no 'backward'"},
    {"csv-text-in-a-number.csv", "@:3: time: '0.012s' is not a finite number"},
    {"csv-time-infinite.csv", "@:3: time: 'inf' is not a finite number"},
    {"csv-time-nan.csv", "@:3: time: 'nan' is not a finite number"},
    {"csv-time-negative.csv", "@:3: time: '-0.012' must not be negative"},
    {"csv-time-zero.csv", "@:3: time: '0' must be above 0"},
    {"csv-unknown-instruction.csv", "@:5: instruction: unknown instruction 'teleport'"},
    {"missing.yaml", "@: cannot read: No such file or directory"},
    {"profile-a-list.yaml", "@:1: not a slackline file: it does not begin with 'slackline: profile/1'"},
    {"profile-a-schedule.yaml", "@:1: slackline: this is a 'schedule/1' file; expected 'profile/1'"},
    {"profile-binary.yaml", "@:1: not a slackline file: it does not begin with 'slackline: profile/1'"},
    {"profile-blank.yaml", "@: the file is empty"},
    {"profile-blocking-power-absurd.yaml", "@: blocking_power_w: stage 0 is beyond what can be planned"},
    {"profile-blocking-power-missing.yaml", "--blocking-power: the profile does not say what a waiting GPU of stage 0 draws; give it in watts"},
    {"profile-blocking-power-negative.yaml", "@:7: blocking_power_w: '-60' must not be negative"},
    {"profile-clock-fraction.yaml", "@:12: clock_mhz: '1200.5' is not a whole number from 1 to 100000"},
    {"profile-clock-twice.yaml", "@:12: clock_mhz: the clock 1400 MHz comes twice"},
    {"profile-clock-zero.yaml", "@:12: clock_mhz: '0' is not a whole number from 1 to 100000"},
    {"profile-clocks-rise.yaml", "@:12: clock_mhz: clocks must fall from the highest to the lowest"},
    {"profile-deep.yaml", "@:2: not YAML: bad file"},
    {"profile-duplicate-key.yaml", "@:7: tensor_parallel: the key comes twice"},
    {"profile-empty.yaml", "@: the file is empty"},
    {"profile-energy-absurd.yaml", "@: energy_j: stage 0 is beyond what can be planned"},
    {"profile-energy-negative.yaml", "@:12: energy_j: '-2.6' must not be negative"},
    {"profile-kind-twice.yaml", "@:14: kind: 'forward' comes twice in stage 0"},
    {"profile-missing-key.yaml", "@:12: energy_j: the key is missing"},
    {"profile-no-stages.yaml", "@:4: stages: the list is empty"},
    {"profile-not-ours.yaml", "@:1: not a slackline file: it does not begin with 'slackline: profile/1'"},
    {"profile-not-yaml.yaml", "@:14: not YAML: illegal block entry"},
    {"profile-options-empty.yaml", "@:10: options: the list is empty"},
    {"profile-stage-gap.yaml", "@:18: stage: expected stage 1; stages are numbered from 0 without a gap"},
    {"profile-stage-twice.yaml", "@:18: stage: expected stage 1; stages are numbered from 0 without a gap"},
    {"profile-stage-without-a-kind.yaml", "@:9: instructions: stage 0 has no 'backward'"},
    {"profile-stages-not-a-list.yaml", "@:4: stages: expected a list"},
    {"profile-switch-a-number.yaml", "@:4: switch_ms: expected keys and values"},
    {"profile-switch-missing-key.yaml", "@:4: stable: the key is missing"},
    {"profile-switch-negative.yaml", "@:4: call: '-0.4' must not be negative"},
    {"profile-switch-pair-of-one-clock.yaml", "@:9: to_mhz: a switch goes to another clock"},
    {"profile-switch-pair-twice.yaml", "@:10: to_mhz: the pair of clocks comes twice"},
    {"profile-switch-pairs-empty.yaml", "@:4: pairs: the list is empty"},
    {"profile-switch-stable-before-change.yaml", "@:4: stable: a clock cannot be stable before the first change"},
    {"profile-switch-unknown-key.yaml", "@:4: median: unknown key"},
    {"profile-tensor-parallel-huge.yaml", "@:6: tensor_parallel: '99999999999' is not a whole number from 1 to 1024"},
    {"profile-tensor-parallel-zero.yaml", "@:6: tensor_parallel: '0' is not a whole number from 1 to 1024"},
    {"profile-time-infinite.yaml", "@:12: time_s: '.inf' is not a finite number"},
    {"profile-time-nan-text.yaml", "@:12: time_s: 'nan' is not a finite number"},
    {"profile-time-nan.yaml", "@:12: time_s: '.nan' is not a finite number"},
    {"profile-time-negative.yaml", "@:12: time_s: '-0.012' must be above 0"},
    {"profile-time-null.yaml", "@:12: time_s: expected a number"},
    {"profile-time-overflow.yaml", "@:12: time_s: '1e999' is not a finite number"},
    {"profile-time-text.yaml", "@:12: time_s: '12ms' is not a finite number"},
    {"profile-time-too-long.yaml", "@: time_s: stage 0 is beyond what can be planned"},
    {"profile-time-too-short.yaml", "@: time_s: a time of stage 0 is below one picosecond"},
    {"profile-time-zero.yaml", "@:12: time_s: '0' must be above 0"},
    {"profile-too-new.yaml", "@:1: slackline: 'profile/2' is too new for this slackline, which reads version 1"},
    {"profile-too-old.yaml", "@:1: slackline: 'profile/0' is too old for this slackline, which reads version 1"},
    {"profile-unknown-key-at-top.yaml", "@:4: colour: unknown key"},
    {"profile-unknown-key.yaml", "@:7: colour: unknown key"},
    {"profile-unknown-kind.yaml", "@:14: kind: unknown instruction kind 'sideways'"},
    {"profile-version-missing.yaml", "@:1: slackline: 'profile/one' has no version number"},
    {"schedule-a-profile.yaml", "@:1: slackline: this is a 'profile/1' file; expected 'schedule/1'"},
    {"schedule-bound-nan.yaml", "@:18: bound_j: 'nan' is not a finite number"},
    {"schedule-chosen-beyond-the-plans.yaml", "@:14: chosen: '3' is not a whole number from 0 to 1"},
    {"schedule-chosen-negative.yaml", "@:14: chosen: '-1' is not a whole number from 0 to 1"},
    {"schedule-duplicate-key.yaml", "@:6: microbatches: the key comes twice"},
    {"schedule-empty.yaml", "@: the file is empty"},
    {"schedule-microbatches-beyond-the-limit.yaml", "@:4: order: 2 stages x 2000000 microbatches are more than the 2000000 instructions that can be planned"},
    {"schedule-microbatches-huge.yaml", "@:5: microbatches: '1000000000' is not a whole number from 1 to 2000000"},
    {"schedule-microbatches-zero.yaml", "@:5: microbatches: '0' is not a whole number from 1 to 2000000"},
    {"schedule-missing-key.yaml", "@:1: microbatches: the key is missing"},
    {"schedule-no-plans.yaml", "@:15: plans: the list is empty"},
    {"schedule-not-ours.yaml", "@:1: not a slackline file: it does not begin with 'slackline: schedule/1'"},
    {"schedule-plan-of-another-stage.yaml", "@:24: stage: the schedule has no such stage"},
    {"schedule-run-clock-zero.yaml", "@:23: mhz: '0x3' is not a clock in MHz or CLOCKxCOUNT"},
    {"schedule-run-count-beyond-64-bits.yaml", "@:23: mhz: '1400x99999999999999999999' is not a clock in MHz or CLOCKxCOUNT"},
    {"schedule-run-count-overflow.yaml", "@:23: mhz: more than the 3 clocks that this stage and kind need"},
    {"schedule-run-empty.yaml", "@:23: mhz: 0 clocks where this stage and kind need 3"},
    {"schedule-run-negative-count.yaml", "@:23: mhz: '1400x-3' is not a clock in MHz or CLOCKxCOUNT"},
    {"schedule-run-text.yaml", "@:23: mhz: '1400*3' is not a clock in MHz or CLOCKxCOUNT"},
    {"schedule-run-too-long.yaml", "@:23: mhz: more than the 3 clocks that this stage and kind need"},
    {"schedule-run-too-short.yaml", "@:23: mhz: 2 clocks where this stage and kind need 3"},
    {"schedule-run-without-a-count.yaml", "@:23: mhz: '1400x' is not a clock in MHz or CLOCKxCOUNT"},
    {"schedule-run-zero-count.yaml", "@:23: mhz: '1400x0' is not a clock in MHz or CLOCKxCOUNT"},
    {"schedule-stage-and-kind-twice.yaml", "@:22: kind: the stage and kind come twice"},
    {"schedule-stage-gap.yaml", "@:8: stage: expected stage 1; stages are numbered from 0 without a gap"},
    {"schedule-stage-without-a-kind.yaml", "@:21: clocks: no clocks for backward of stage 1"},
    {"schedule-time-zero.yaml", "@:16: time_s: '0' must be above 0"},
    {"schedule-too-new.yaml", "@:1: slackline: 'schedule/7' is too new for this slackline, which reads version 1"},
    {"schedule-too-old.yaml", "@:1: slackline: 'schedule/0' is too old for this slackline, which reads version 1"},
    {"schedule-unknown-key.yaml", "@:6: colour: unknown key"},
    {"schedule-unknown-order.yaml", "@:4: order: unknown order '2f2b'; known: 1f1b, gpipe, looped-bfs, interleaved-1f1b, "
         "early-recompute-1f1b, zb-h1, zbv, dualpipev, dualpipe, csv:FILE"},
      // clang-format on
  };
  return kFiles;
}

TEST_CASE("cli: a bad file ends with status 2, says file, line, key and reason, and writes nothing",
          "[cli]") {
  for (const BadFile& bad : bad_files()) {
    CAPTURE(bad.name);
    const ScratchFolder scratch;
    const std::string output = scratch.file("output");
    spill(output, kOld);
    const bool is_schedule = bad.name.rfind("schedule-", 0) == 0;
    const ChildResult result =
        is_schedule ? run({"inspect", bad.name, "--clocks-csv", output}, kData + "/bad")
                    : run({"plan", bad.name, "--microbatches", "3", "-o", output, "--frontier-csv",
                           scratch.file("frontier"), "--plans-csv", scratch.file("plans")},
                          kData + "/bad");
    CHECK(result.status == 2);
    CHECK(result.err == bad.error());
    CHECK(result.out == "");
    CHECK(slurp(output) == kOld);
    CHECK(scratch.entries() == 1);
  }
}

TEST_CASE("cli: verify and inspect refuse a bad schedule with the same words", "[cli]") {
  for (const BadFile& bad : bad_files()) {
    if (bad.name.rfind("schedule-", 0) != 0) continue;
    CAPTURE(bad.name);
    const ChildResult result = run({"verify", bad.name, "--profile", "../toy-profile.yaml"}, kData + "/bad");
    CHECK(result.status == 2);
    CHECK(result.err == bad.error());
    CHECK(result.out == "");
  }
}

TEST_CASE("cli: every bad file has its message", "[cli]") {
  std::set<std::string> known;
  for (const BadFile& bad : bad_files()) known.insert(bad.name);
  for (const auto& entry : std::filesystem::directory_iterator(kData + "/bad")) {
    CAPTURE(entry.path().string());
    CHECK(known.contains(entry.path().filename().string()));
  }
}

struct BadCall {
  std::vector<std::string> arguments;
  std::string in_message;
};

TEST_CASE("cli: a wrong flag ends with status 2, names the flag, and writes nothing", "[cli]") {
  const std::vector<BadCall> calls{
      {{}, "subcommand"},
      {{"fly"}, "subcommand"},
      {{"plan"}, "PROFILE"},
      {{"plan", "toy-profile.yaml"}, "--microbatches"},
      {{"plan", "toy-profile.yaml", "--microbatches", "0"}, "--microbatches: must be at least 1"},
      {{"plan", "toy-profile.yaml", "--microbatches", "-1"}, "--microbatches"},
      {{"plan", "toy-profile.yaml", "--microbatches", "two"}, "--microbatches"},
      {{"plan", "toy-profile.yaml", "--microbatches", "1000000000"}, "--microbatches: 2 stages x 1000000000"},
      {{"plan", "toy-profile.yaml", "--microbatches", "99999999999999999999"}, "--microbatches"},
      {{"plan", "toy-profile.yaml", "--microbatches", "3", "--order", "2f2b"},
       "--order: unknown order '2f2b'"},
      {{"plan", "toy-profile.yaml", "--microbatches", "3", "--stages", "3"},
       "--stages: the profile has 2 stages, not 3"},
      {{"plan", "toy-profile.yaml", "--microbatches", "3", "--plans", "0"},
       "--plans: must be from 1 to 10000"},
      {{"plan", "toy-profile.yaml", "--microbatches", "3", "--plans", "many"}, "--plans"},
      {{"plan", "toy-profile.yaml", "--microbatches", "3", "--power-cap", "-3"}, "--power-cap"},
      {{"plan", "toy-profile.yaml", "--microbatches", "3", "--power-cap", "3", "--min-energy"},
       "--min-energy"},
      {{"plan", "toy-profile.yaml", "--microbatches", "3", "--straggler", "0.5"}, "--straggler"},
      {{"plan", "toy-profile.yaml", "--microbatches", "3", "--tensor-parallel", "0"}, "--tensor-parallel"},
      {{"plan", "toy-profile.yaml", "--microbatches", "3", "--blocking-power", "-1"}, "--blocking-power"},
      {{"plan", "toy-profile.yaml", "--microbatches", "3", "--blocking-power", "nan"}, "--blocking-power"},
      {{"plan", "toy-profile.yaml", "--microbatches", "3", "--slowdown", "-5"}, "--slowdown"},
      {{"plan", "toy-profile.yaml", "--microbatches", "3", "--slowdown", "inf"}, "--slowdown"},
      {{"plan", "toy-profile.yaml", "--microbatches", "3", "--deadline", "nan"}, "--deadline"},
      {{"plan", "toy-profile.yaml", "--microbatches", "3", "--deadline", "1", "--slowdown", "5"},
       "--slowdown"},
      {{"plan", "toy-profile.yaml", "--microbatches", "3", "--colour", "red"}, "--colour"},
      {{"inspect", "toy-schedule.yaml", "--plan", "3"},
       "--plan: plan 3 does not exist; the schedule has plans 0 to 2"},
      {{"import", "toy-profile.csv"}, "--output"},
      {{"import", "toy-profile.csv", "-o", "/nonexistent/p.yaml"}, "/nonexistent/p.yaml: cannot write"},
      {{"import", "missing.csv", "-o", "-"}, "missing.csv: cannot read"},
      {{"import", "toy-profile.csv", "-o", "-", "--microbatches", "8"}, "--microbatches: a CSV holds means"},
      {{"import", "toy-profile.csv", "-o", "-", "--warm-up-iterations", "8"}, "--warm-up-iterations: a CSV"},
      {{"import", "toy-profile.csv", "-o", "-", "--blocking-power", "-1"}, "--blocking-power"},
      {{"import", "toy-profile.csv", "-o", "-", "--tensor-parallel", "0"}, "--tensor-parallel"},
      {{"import", "toy-profile.yaml", "-o", "-"}, "toy-profile.yaml:1: slackline: profile/1: unknown column"},
      {{"import", "kareus", "-o", "-"}, "kareus: holds no [node<n>/]<MHz>/timers"},
      {{"inspect", "toy-schedule.yaml", "--plan", "-1"}, "--plan: plan -1 does not exist"},
      {{"inspect", "toy-profile.yaml"}, "expected 'schedule/1'"},
      {{"verify", "toy-schedule.yaml"}, "--profile"},
      {{"verify", "toy-schedule.yaml", "--profile", "missing.yaml"}, "missing.yaml: cannot read"},
      {{"order", "--stages", "0", "--microbatches", "4"}, "--stages"},
      {{"order", "--stages", "2", "--microbatches", "0"}, "--microbatches"},
      {{"order", "--microbatches", "4"}, "--stages: or --ranks is required"},
      {{"order", "--stages", "2"}, "--microbatches: is required with this order"},
      {{"order", "--ranks", "4", "--microbatches", "8", "--order", "dualpipe", "--csv", "-"},
       "--csv: torch's format has a stage on one rank only"},
      {{"order", "--ranks", "4", "--microbatches", "8", "--order", "early-recompute-1f1b", "--csv", "-"},
       "--csv: torch's format has no word for 'forward-backward'"},
      {{"plan", "toy-profile.yaml", "--microbatches", "3", "--order", "zb-h1"},
       "--order: zb-h1 runs 'backward-input', which the profile lacks for stage 0; --derive "
       "split-backward=0.5"},
      {{"plan", "toy-profile.yaml", "--microbatches", "4", "--order", "interleaved-1f1b", "--chunks", "3"},
       "--chunks: 2 stages are no multiple of 3 chunks a rank"},
      {{"plan", "toy-profile.yaml", "--microbatches", "3", "--derive", "split-backward=2"},
       "--derive: '2' is not"},
      {{"plan", "toy-profile.yaml", "--microbatches", "3", "--transfer-ms", "-1"}, "--transfer-ms"},
      {{"plan", "toy-profile.yaml", "--order", "csv:missing.csv"}, "missing.csv: cannot read"},
      {{"plan", "toy-profile.yaml", "--order", "csv:bad-orders/trailing-junk.csv"},
       "bad-orders/trailing-junk.csv:2: cell 4: '1B1xyz' is not an action"},
      {{"plan", "toy-profile.yaml", "--order", "csv:bad-orders/deadlock.csv"},
       "bad-orders/deadlock.csv:1: cell 2: the order can never run: B0@0 -> F1@0 -> F1@1 -> B0@1 -> B0@0"},
      {{"plan", "toy-profile.yaml", "--order", "csv:bad-orders/missing-microbatch.csv"},
       "bad-orders/missing-microbatch.csv:2: cell 3: F1@1 is missing"},
      {{"plan", "toy-profile.yaml", "--order", "csv:bad-orders/doubled-microbatch.csv"},
       "bad-orders/doubled-microbatch.csv:1: cell 5: F1@0 comes twice"},
      {{"plan", "toy-profile.yaml", "--order", "csv:bad-orders/three-stages.csv"},
       "--order: the order is for 3 stages, the profile has 2"},
      {{"plan", "toy-profile.yaml", "--order", "csv:torch-orders/zbv_compute.csv", "--microbatches", "7"},
       "--microbatches: the file runs 8, not 7"},
      {{"plan", "toy-profile.yaml", "--microbatches", "10000000"},
       "2000000 instructions that can be planned"},
  };
  for (const BadCall& call : calls) {
    std::string line;
    for (const std::string& word : call.arguments) line += word + " ";
    CAPTURE(line);
    const ScratchFolder scratch;
    const std::string output = scratch.file("output");
    spill(output, kOld);
    std::vector<std::string> arguments = call.arguments;
    if (!arguments.empty() && arguments[0] == "plan") arguments.insert(arguments.end(), {"-o", output});
    if (!arguments.empty() && arguments[0] == "inspect") {
      arguments.insert(arguments.end(), {"--clocks-csv", output});
    }
    const ChildResult result = run(arguments);
    CAPTURE(result.err);
    CHECK(result.status == 2);
    CHECK(result.err.find(call.in_message) != std::string::npos);
    CHECK(result.out == "");
    CHECK(slurp(output) == kOld);
    CHECK(scratch.entries() == 1);
  }
}

TEST_CASE("cli: help and version are no errors, and go to standard output", "[cli]") {
  for (const char* flag : {"--help", "-h", "--version"}) {
    const ChildResult result = run({flag});
    CHECK(result.status == 0);
    CHECK(result.out.find("lackline") != std::string::npos);
    CHECK(result.err == "");
  }
  for (const char* command : {"plan", "verify", "inspect", "order", "compare", "profile", "apply", "agent",
                              "restore", "devices", "measure", "calibrate", "import"}) {
    CAPTURE(command);
    const ChildResult result = run({command, "--help"});
    CHECK(result.status == 0);
    const std::size_t example = result.out.find("Example: ");
    REQUIRE(example != std::string::npos);
    CHECK(result.out.find("slackline " + std::string(command), example) != std::string::npos);
    CHECK(result.err == "");
  }
}

TEST_CASE("cli: an output that cannot be written ends with status 2 and names it", "[cli]") {
  const ChildResult result =
      run({"plan", "toy-profile.yaml", "--microbatches", "3", "-o", "/nonexistent/schedule.yaml"});
  CHECK(result.status == 2);
  CHECK(result.err == "slackline: /nonexistent/schedule.yaml: cannot write: No such file or directory\n");
}

TEST_CASE("cli: the shipped toy schedule is what plan makes of the toy profile, and verifies", "[cli]") {
  // A golden file: where plans become better, write it anew with this command.
  const ChildResult planned =
      run({"plan", "toy-profile.yaml", "--microbatches", "3", "--plans", "3", "-o", "-"});
  CHECK(planned.status == 0);
  CHECK(planned.out == slurp(kData + "/toy-schedule.yaml"));
  const ChildResult verified = run({"verify", "toy-schedule.yaml", "--profile", "toy-profile.yaml"});
  CHECK(verified.status == 0);
  CHECK(verified.err == "");
  CHECK(verified.out.find("WRONG") == std::string::npos);
}

TEST_CASE("cli: plan says how many options are modelled, and does not smooth those by itself", "[cli]") {
  const ScratchFolder scratch;
  std::string profile = slurp(kData + "/toy-profile.yaml");
  const std::string option = "clock_mhz: 1200, time_s: 0.012, energy_j: 2.6";
  profile.replace(profile.find(option), option.size(),
                  option + ", time_error_s: 1e-4, energy_error_j: 0.01, modelled: true");
  spill(scratch.file("profile.yaml"), profile);
  const auto plan = [&](const std::string& smooth) {
    return run({"plan", scratch.file("profile.yaml"), "--microbatches", "3", "--smooth", smooth}).err;
  };
  CHECK(plan("auto").find("slackline: 1 of ") == 0);
  CHECK(plan("auto").find(" options are modelled, not measured\n") != std::string::npos);
  CHECK(plan("auto").find("smoothed") == std::string::npos);
  CHECK(plan("convex").find("smoothed") != std::string::npos);
}

TEST_CASE("cli: a deadline that cannot be met ends with status 1 and writes nothing", "[cli]") {
  const ScratchFolder scratch;
  spill(scratch.file("output"), kOld);
  const ChildResult result = run(
      {"plan", "toy-profile.yaml", "--microbatches", "3", "--deadline", "0.1", "-o", scratch.file("output")});
  CHECK(result.status == 1);
  CHECK(result.err == "slackline: no clocks reach 0.1 s; the fastest possible is 0.147 s\n");
  CHECK(slurp(scratch.file("output")) == kOld);
}

TEST_CASE("cli: verify ends with status 1 on a schedule that was tampered with, and says what is wrong",
          "[cli]") {
  struct Change {
    std::string from;
    std::string to;
    std::string in_output;
  };
  const std::string schedule = slurp(kData + "/toy-schedule.yaml");
  for (const Change& change : std::vector<Change>{
           {"mhz: 1400x3", "mhz: 1400x2 1200", "WRONG"},
           {"energy_j: 129.72\n", "energy_j: 129.71\n", "energy_j is 129.72, not 129.71"},
           {"time_s: 0.147\n    energy", "time_s: 0.146\n    energy", "time_s is 0.147, not 0.146"},
           {"bound_j: 123.24", "bound_j: 123.23", "bound_j is 123.24, not 123.23"},
           {"all_max_time_s: 0.147", "all_max_time_s: 0.157", "all_max_time_s is 0.147, not 0.157"},
           {"all_max_energy_j: 136.44", "all_max_energy_j: 150", "all_max_energy_j is 136.44, not 150"},
           {"fastest_time_s: 0.147", "fastest_time_s: 0.14", "fastest_time_s is 0.147, not 0.14"},
           {"baseline_clock_mhz: 1400", "baseline_clock_mhz: 1200",
            "baseline_clock_mhz of stage 0 is 1400, not 1200"},
       }) {
    CAPTURE(change.from, change.to);
    const ScratchFolder scratch;
    const std::size_t at = schedule.find(change.from);
    REQUIRE(at != std::string::npos);
    spill(scratch.file("s.yaml"), std::string(schedule).replace(at, change.from.size(), change.to));
    const ChildResult result = run({"verify", scratch.file("s.yaml"), "--profile", "toy-profile.yaml"});
    CHECK(result.status == 1);
    CHECK(result.out.find(change.in_output) != std::string::npos);
    CHECK(result.err.find("plans do not verify") != std::string::npos);
  }
}

TEST_CASE("cli: a schedule for another profile does not verify", "[cli]") {
  const ChildResult fewer =
      run({"verify", "toy-schedule.yaml", "--profile", "../../profiles/gpt3-175b-a100-sxm.csv"});
  CHECK(fewer.status == 2);
  CHECK(fewer.err == "slackline: stages: the schedule is for 2 stages, the profile has 8\n");
  const ChildResult unmeasured = run({"verify", "toy-schedule.yaml", "--profile", "toy-profile.csv"});
  CHECK(unmeasured.status == 2);
  CHECK(unmeasured.err.find("clock_mhz: 1") != std::string::npos);
}

TEST_CASE("cli: the files of a plan agree with what inspect shows", "[cli]") {
  const ScratchFolder scratch;
  const ChildResult planned =
      run({"plan", "toy-profile.yaml", "--microbatches", "3", "--plans", "3", "-o", scratch.file("s.yaml"),
           "--frontier-csv", scratch.file("f.csv"), "--plans-csv", scratch.file("p.csv"), "--json"});
  CHECK(planned.status == 0);
  CHECK(planned.out.front() == '{');
  CHECK(slurp(scratch.file("s.yaml")) == slurp(kData + "/toy-schedule.yaml"));
  CHECK(slurp(scratch.file("f.csv")).rfind("time_s,energy_j\n0.147,", 0) == 0);
  CHECK(slurp(scratch.file("p.csv")).rfind("time_s,energy_j,bound_j,gap_percent\n0.147,129.72,", 0) == 0);
  const ChildResult inspected = run({"inspect", scratch.file("s.yaml"), "--json"});
  CHECK(inspected.status == 0);
  CHECK(inspected.out == planned.out);
  const ChildResult clocks = run({"inspect", scratch.file("s.yaml"), "--plan", "0", "--clocks-csv", "-"});
  CHECK(clocks.status == 0);
  CHECK(clocks.out.rfind("stage,seq,instruction,microbatch,clock_mhz\n0,0,forward,0,1400\n", 0) == 0);
  CHECK(std::count(clocks.out.begin(), clocks.out.end(), '\n') == 13);
}

TEST_CASE("cli: inspect shows a profile in either form, and warns beside it", "[cli]") {
  const ScratchFolder scratch;
  const ChildResult yaml = run({"inspect", "toy-profile.yaml", "--plot", scratch.file("toy.svg")});
  CHECK(yaml.status == 0);
  CHECK(yaml.out.rfind("toy, toy, 2 stages, 4 GPUs\n", 0) == 0);
  CHECK(yaml.err ==
        "slackline: warning: kinds of a stage are measured at different clocks: stage 0 (not all have 1000 "
        "MHz)\n");
  CHECK(slurp(scratch.file("toy.svg")).rfind("<svg ", 0) == 0);
  const ChildResult csv = run({"inspect", "toy-profile.csv", "--json"});
  CHECK(csv.status == 0);
  CHECK(csv.out.front() == '{');
  CHECK(csv.err.find(
            "slackline: warning: no blocking power: stages 0-1; give it with plan --blocking-power\n") !=
        std::string::npos);
  const ChildResult plot = run({"inspect", "toy-profile.yaml", "--plot", "-"});
  CHECK(plot.out == slurp(scratch.file("toy.svg")));
  const ChildResult both = run({"inspect", "toy-profile.yaml", "--plot", "-", "--plan", "0"});
  CHECK(both.status == 2);
  const ChildResult schedule = run({"inspect", "toy-schedule.yaml", "--plot", "-"});
  CHECK(schedule.status == 2);
  CHECK(schedule.err ==
        "slackline: toy-schedule.yaml:1: slackline: this is a 'schedule/1' file; expected 'profile/1'\n");
}

TEST_CASE("cli: inspect and plan refuse a bad profile with the same words", "[cli]") {
  // Fit to be looked at, if not to plan from.
  const std::set<std::string> shown{"csv-no-blocking-power.csv", "profile-blocking-power-missing.yaml",
                                    "profile-time-too-short.yaml"};
  for (const BadFile& bad : bad_files()) {
    const bool is_csv = bad.name.ends_with(".csv");
    const bool is_yaml = slurp(kData + "/bad/" + bad.name).rfind("slackline: profile/", 0) == 0;
    if (!is_csv && (!is_yaml || bad.name.rfind("profile-", 0) != 0)) continue;
    CAPTURE(bad.name);
    const ChildResult result = run({"inspect", bad.name}, kData + "/bad");
    if (shown.contains(bad.name)) {
      CHECK(result.status == 0);
    } else {
      CHECK(result.status == 2);
      CHECK(result.err == bad.error());
      CHECK(result.out == "");
    }
  }
}

TEST_CASE("cli: compare puts every method beside all-max", "[cli]") {
  const ChildResult result =
      run({"compare", "../../profiles/gpt3-175b-a100-sxm.csv", "--blocking-power", "83.64", "--microbatches",
           "12", "--with", "perseus", "--slowdown", "5", "--json"});
  CHECK(result.status == 0);
  for (const char* method :
       {"\"all-max\"", "one clock for all (Zeus)", "one clock a stage (Zeus, balanced)", "EnvPipe",
        "Perseus, as it reports", "Perseus, its clocks", "Slackline", "bound at its time"}) {
    CAPTURE(method);
    CHECK(result.out.find(method) != std::string::npos);
  }
  const ChildResult gpipe = run({"compare", "toy-profile.yaml", "--order", "gpipe", "--microbatches", "4"});
  CHECK(gpipe.status == 0);
  CHECK(gpipe.out.find("EnvPipe") == std::string::npos);
  CHECK(gpipe.out.find("Slackline") != std::string::npos);
  CHECK(run({"compare", "toy-profile.yaml", "--microbatches", "4", "--with", "magic"}).status == 2);
}

TEST_CASE("cli: order shows who runs what when", "[cli]") {
  const ChildResult result = run({"order", "--stages", "2", "--microbatches", "3"});
  CHECK(result.status == 0);
  CHECK(result.out == "rank 0: F0@0 F1@0 B0@0 F2@0 B1@0 B2@0\nrank 1: F0@1 B0@1 F1@1 B1@1 F2@1 B2@1\n");
  const ChildResult dot = run({"order", "--stages", "2", "--microbatches", "3", "--dot", "-"});
  CHECK(dot.status == 0);
  CHECK(dot.out.rfind("digraph G {", 0) == 0);
  const ChildResult csv =
      run({"order", "--order", "zbv", "--ranks", "1", "--microbatches", "1", "--csv", "-"});
  CHECK(csv.out == "0F0,1F0,1I0,1W0,0I0,0W0\n");
  const ChildResult read = run({"order", "--order", "csv:torch-orders/zbv_comms.csv", "--csv", "-"});
  const ChildResult made =
      run({"order", "--order", "zbv", "--ranks", "4", "--microbatches", "8", "--csv", "-"});
  CHECK(read.out == made.out);
}

TEST_CASE("cli: a plan of any order verifies, from its file and the profile alone", "[cli]") {
  const std::vector<std::vector<std::string>> orders{
      {"gpipe", "--microbatches", "4"},
      {"looped-bfs", "--microbatches", "4"},
      {"interleaved-1f1b", "--microbatches", "5", "--group-size", "3", "--transfer-ms", "2.5"},
      {"early-recompute-1f1b", "--microbatches", "4", "--derive", "recompute"},
      {"zb-h1", "--microbatches", "4", "--derive", "split-backward=0.4"},
      {"zbv", "--microbatches", "4", "--derive", "split-backward=0.4"},
      {"dualpipev", "--microbatches", "4", "--derive", "split-backward=0.4"},
      {"dualpipe", "--microbatches", "4", "--derive", "split-backward=0.4"},
  };
  for (const auto& order : orders) {
    CAPTURE(order[0]);
    const ScratchFolder scratch;
    std::vector<std::string> call{"plan", "toy-profile.yaml", "-o", scratch.file("s.yaml"), "--order"};
    call.insert(call.end(), order.begin(), order.end());
    const ChildResult planned = run(call);
    CAPTURE(planned.err);
    CHECK(planned.status == 0);
    const ChildResult verified = run({"verify", scratch.file("s.yaml"), "--profile", "toy-profile.yaml"});
    CAPTURE(verified.out, verified.err);
    CHECK(verified.status == 0);
  }
}

TEST_CASE("cli: import makes a profile that plan takes of the long CSV of Merak", "[cli]") {
  const ScratchFolder scratch;
  spill(scratch.file("merak.csv"),
        "rank,dp_rank,pp_rank,tp_rank,stage,instruction,frequency,time,energy\n"
        "0,0,0,0,0,forward,1400,0.010,3\n1,0,0,1,0,forward,1400,0.011,4\n"
        "0,0,0,0,0,forward,1200,0.012,2.5\n1,0,0,1,0,forward,1200,0.013,3.5\n"
        "0,0,0,0,0,backward,1400,0.020,6\n1,0,0,1,0,backward,1400,0.019,7\n"
        "0,0,0,0,0,backward,1200,0.022,5\n1,0,0,1,0,backward,1200,0.023,6\n");
  const std::string output = scratch.file("p.yaml");
  const ChildResult imported = run({"import", scratch.file("merak.csv"), "-o", output, "--blocking-power",
                                    "70.38", "--model", "a model", "--gpu", "a GPU"});
  CHECK(imported.status == 0);
  CHECK(imported.out == "");
  CHECK(imported.err == "");
  const std::string profile = slurp(output);
  CHECK(profile.find("model: a model\ngpu: a GPU\n") != std::string::npos);
  CHECK(profile.find("tensor_parallel: 2\n    blocking_power_w: 70.38\n") != std::string::npos);
  CHECK(profile.find("{clock_mhz: 1400, time_s: 0.011, energy_j: 3.5}") != std::string::npos);
  CHECK(run({"plan", output, "--microbatches", "2"}).status == 0);

  const ChildResult forced = run({"import", scratch.file("merak.csv"), "-o", "-", "--tensor-parallel", "4"});
  CHECK(forced.out.find("tensor_parallel: 4\n    instructions:") != std::string::npos);
  CHECK(forced.err.find("no blocking power: stage 0") != std::string::npos);
}

/// One rank at one clock, as Kareus leaves it: iterations of 2 forwards and 2 backwards, then a wait at 80 W.
/// The counter ticks every 0.05 s.
void spill_kareus(const ScratchFolder& scratch, const std::string& clock, double forward_power) {
  std::string energy = "time,energy\n";
  std::string instructions = "instruction,start,end\n";
  int ticks = 0;
  double total = 1000;
  const auto now = [&] { return std::to_string(1'764'000'000 + 0.05 * ticks); };
  const auto pass = [&](int count, double power) {
    const std::string begin = now();
    for (int tick = 0; tick < count; ++tick) {
      ++ticks;
      total += power * 0.05;
      energy += now() + "," + std::to_string(total) + "\n";
    }
    return begin + "," + now() + "\n";
  };
  for (int iteration = 0; iteration < 6; ++iteration) {
    for (int i = 0; i < 2; ++i) instructions += "forward-compute," + pass(2, forward_power);
    for (int i = 0; i < 2; ++i) instructions += "backward-compute," + pass(4, forward_power + 50);
    pass(4, 80);
  }
  const std::string timers = scratch.file("measured/node0/" + clock + "/timers");
  std::filesystem::create_directories(timers);
  spill(timers + "/time-energy-0-0.csv", energy);
  spill(timers + "/instructions-0-0.csv", instructions);
}

TEST_CASE("cli: import makes a profile that plan takes of a folder of Kareus", "[cli]") {
  const ScratchFolder scratch;
  spill_kareus(scratch, "1410", 300);
  spill_kareus(scratch, "1200", 250);
  const std::string output = scratch.file("p.yaml");
  const ChildResult imported = run(
      {"import", scratch.file("measured"), "-o", output, "--microbatches", "2", "--warm-up-iterations", "1"});
  CAPTURE(imported.err);
  CHECK(imported.status == 0);
  CHECK(imported.out == "");
  CHECK(imported.err.find("no 'forward-backward' spans") != std::string::npos);
  CHECK(imported.err.find("third") == std::string::npos);
  const std::string profile = slurp(output);
  CAPTURE(profile);
  CHECK(profile.find("origin: imported from " + scratch.file("measured") + "\n") != std::string::npos);
  CHECK(profile.find("tensor_parallel: 1\n    blocking_power_w: ") != std::string::npos);
  CHECK(profile.find("clock_mhz: 1410, ") < profile.find("clock_mhz: 1200, "));
  CHECK(run({"plan", output, "--microbatches", "2"}).status == 0);

  const ChildResult told =
      run({"import", scratch.file("measured"), "-o", "-", "--blocking-power", "70.5", "--gpu", "a GPU"});
  CHECK(told.out.find("gpu: a GPU\n") != std::string::npos);
  CHECK(told.out.find("blocking_power_w: 70.5\n") != std::string::npos);
  CHECK(told.err.find("the first third of the instructions was left out") != std::string::npos);
}

TEST_CASE("cli: an import of a folder that is not right writes nothing", "[cli]") {
  struct Fault {
    std::string file;
    /// What to write there; nothing removes it.
    std::string text;
    std::string error;
    std::vector<std::string> flags{};
  };
  const std::string node = "node0/1200/timers/";
  const std::string energy = node + "time-energy-0-0.csv";
  const std::string instructions = node + "instructions-0-0.csv";
  const std::vector<Fault> faults{
      {energy, "energy,time\n", energy + ":1: the header is not 'time,energy'"},
      {energy, "time,energy\n1,2\n1,3\n", energy + ":3: time: '1' is not after the row before"},
      {energy, "time,energy\n1,inf\n", energy + ":2: energy: 'inf' is not a finite number"},
      {energy, "", ": 1200 MHz: rank 0 has no time-energy-0-<rank>.csv"},
      {instructions, "", ": 1200 MHz: rank 0 has no instructions-0-<rank>.csv"},
      {instructions, "instruction,start,end\nforward-compute,3,2\n",
       instructions + ":2: end: '2' is before the start"},
      {instructions, "instruction,start,end\nforward-compute,1,3\nforward-compute,2,4\n",
       instructions + ":3: start: 'forward-compute' overlaps 'forward-compute' of line 2"},
      {"node0/1200/timers/time-energy-1-1.csv", "time,energy\n", ": 1200 MHz: rank 1 has no instructions-1-"},
      {"node0/fast/timers/time-energy-0-0.csv", "time,energy\n",
       "node0/fast: holds timers, but 'fast' is not"},
      {"node0/x", "x", "--tensor-parallel: 1 ranks are no stages of 2", {"--tensor-parallel", "2"}},
      {"node0/x",
       "x",
       "--warm-up-iterations: nothing is left after 6 iterations of 2 microbatches",
       {"--microbatches", "2", "--warm-up-iterations", "6"}},
  };
  for (const Fault& fault : faults) {
    CAPTURE(fault.error);
    const ScratchFolder scratch;
    spill_kareus(scratch, "1410", 300);
    spill_kareus(scratch, "1200", 250);
    const std::string file = scratch.file("measured/" + fault.file);
    std::filesystem::create_directories(std::filesystem::path(file).parent_path());
    if (fault.text.empty()) {
      std::filesystem::remove(file);
    } else {
      spill(file, fault.text);
    }
    spill(scratch.file("output"), kOld);
    std::vector<std::string> arguments{"import", scratch.file("measured"), "-o", scratch.file("output")};
    arguments.insert(arguments.end(), fault.flags.begin(), fault.flags.end());
    const ChildResult result = run(arguments);
    CAPTURE(result.err);
    CHECK(result.status == 2);
    CHECK(result.out == "");
    CHECK(result.err.find(fault.error) != std::string::npos);
    CHECK(slurp(scratch.file("output")) == kOld);
    CHECK(scratch.entries() == 2);
  }
}

TEST_CASE("cli: an import of something bad writes nothing", "[cli]") {
  for (const BadFile& bad : bad_files()) {
    if (bad.name.rfind("csv-", 0) != 0 || bad.name == "csv-no-blocking-power.csv") continue;
    CAPTURE(bad.name);
    const ScratchFolder scratch;
    spill(scratch.file("output"), kOld);
    const ChildResult result = run({"import", bad.name, "-o", scratch.file("output")}, kData + "/bad");
    CHECK(result.status == 2);
    CHECK(result.err == bad.error());
    CHECK(slurp(scratch.file("output")) == kOld);
    CHECK(scratch.entries() == 1);
  }
}

}  // namespace
}  // namespace slackline
