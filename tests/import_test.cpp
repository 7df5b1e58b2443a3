#include <cmath>
#include <filesystem>
#include <functional>
#include <set>

#include "catch.h"
#include "made_visit.h"
#include "scratch_folder.h"
#include "slackline/base/error.h"
#include "slackline/base/number_text.h"
#include "slackline/measure/kareus_csv.h"
#include "slackline/measure/kareus_import.h"

namespace slackline {
namespace {

namespace fs = std::filesystem;

const std::string kData = std::string(SLACKLINE_SOURCE_DIR) + "/tests/data";
constexpr double kEpoch = 1'764'000'000;

std::string epoch_text(Seconds time) {
  return fixed_text(kEpoch + time.value(), 7);
}

/// What a profiling run leaves: a folder for each node and clock, with two files a rank.
class KareusFolder {
 public:
  void add(int clock, int rank, const VisitRecord& record, bool with_iterations = true) {
    const fs::path timers = folder(clock, rank);
    fs::create_directories(timers);
    std::string energy = "time,energy\n";
    for (const EnergyReading& reading : record.counters.front()) {
      energy += epoch_text(reading.at) + "," + fixed_text(reading.total.value(), 6) + "\n";
    }
    spill(timers / ("time-energy-" + names(rank)), energy);
    std::string instructions = "instruction,start,end\n";
    const auto add_span = [&](const std::string& name, const Span& span) {
      instructions += name + "," + epoch_text(span.begin) + "," + epoch_text(span.end) + "\n";
    };
    // As timers write them: name by name.
    if (with_iterations) {
      for (const Span& step : record.steps) add_span("forward-backward", step);
    }
    for (const InstructionKind kind : {InstructionKind::kForward, InstructionKind::kBackward}) {
      for (const Run& run : record.runs) {
        if (run.task.kind == kind) add_span(std::string(name_of(kind)) + "-compute", run.span);
      }
    }
    for (std::size_t i = 1; i < record.runs.size(); i += 4) {
      add_span("forward-recv", {record.runs[i - 1].span.end, record.runs[i].span.begin});
    }
    spill(timers / ("instructions-" + names(rank)), instructions);
  }

  [[nodiscard]] fs::path folder(int clock, int rank) const {
    return fs::path(scratch_.file("node" + std::to_string(rank / 2))) / std::to_string(clock) / "timers";
  }
  [[nodiscard]] std::string energy_file(int clock, int rank) const {
    return folder(clock, rank) / ("time-energy-" + names(rank));
  }
  [[nodiscard]] std::string instructions_file(int clock, int rank) const {
    return folder(clock, rank) / ("instructions-" + names(rank));
  }
  [[nodiscard]] std::string path() const { return scratch_.file(""); }

 private:
  static std::string names(int rank) {
    return std::to_string(rank) + "-" + std::to_string(rank % 2) + ".csv";
  }
  ScratchFolder scratch_;
};

/// What a rank needs at a clock: slower and thriftier as it falls; ranks differ.
MadeStage truth(int clock, int rank) {
  const double slower = 1410.0 / clock * (1 + 0.02 * rank);
  MadeStage stage;
  stage.forward = {0.11 * slower, 30 / slower + rank};
  stage.backward = {0.23 * slower, 70 / slower + rank};
  stage.noise = 0;
  stage.gpus = 1;
  stage.steps = 4;
  return stage;
}

/// Two stages of two ranks, three clocks.
void fill(KareusFolder& folder, bool with_iterations = true) {
  Dice dice(7);
  for (const int clock : {1410, 1305, 1200}) {
    for (int rank = 0; rank < 4; ++rank) {
      folder.add(clock, rank, made_visit(truth(clock, rank), dice), with_iterations);
    }
  }
}

KareusOptions two_ranks_a_stage(int warm_up, std::optional<int> microbatches = {}) {
  return {2, warm_up, microbatches};
}

TEST_CASE("import: a folder of Kareus gives the times and energies that its counters were made of",
          "[import]") {
  KareusFolder folder;
  fill(folder);
  const KareusImport found = import_kareus(folder.path(), two_ranks_a_stage(1));
  CHECK(found.remarks.empty());
  REQUIRE(found.stages.size() == 2);
  for (int s = 0; s < 2; ++s) {
    const StageProfile& stage = found.stages[static_cast<std::size_t>(s)];
    CHECK(stage.tensor_parallel == 2);
    REQUIRE(stage.blocking_power);
    CHECK(std::abs(stage.blocking_power->value() / 80 - 1) < 0.01);
    REQUIRE(stage.notes);
    CHECK(std::abs(stage.notes->counter_period.value() - 0.1) < 1e-5);
    CHECK(std::abs(stage.notes->second_blocking_power.value() / 80 - 1) < 1e-3);
    for (const InstructionKind kind : {InstructionKind::kForward, InstructionKind::kBackward}) {
      const auto& options = stage.instructions.at(kind);
      REQUIRE(options.size() == 3);
      for (const Measurement& m : options) {
        const auto of = [&](int rank) {
          const MadeStage rank_truth = truth(m.clock.value(), rank);
          return kind == InstructionKind::kForward ? rank_truth.forward : rank_truth.backward;
        };
        CAPTURE(s, m.clock.value());
        // Lockstep waits for the slower rank; a measurement is of one GPU.
        CHECK(std::abs(m.time.value() / of(2 * s + 1).time - 1) < 1e-5);
        const double energy = (of(2 * s).energy + of(2 * s + 1).energy) / 2;
        CHECK(std::abs(m.energy.value() / energy - 1) < 5e-3);
        CHECK(std::abs(m.second_energy.value() / energy - 1) < 1e-3);
        CHECK(m.runs == 3 * 8);
      }
    }
  }
}

TEST_CASE("import: the warm-up ends where iterations, microbatches or a third say so", "[import]") {
  KareusFolder folder;
  fill(folder);
  const auto runs = [&](const KareusImport& found) {
    return found.stages[0].instructions.at(InstructionKind::kForward)[0].runs;
  };
  CHECK(runs(import_kareus(folder.path(), two_ranks_a_stage(0))) == 32);
  CHECK(runs(import_kareus(folder.path(), two_ranks_a_stage(3))) == 8);
  CHECK(runs(import_kareus(folder.path(), two_ranks_a_stage(3, 4))) == 8);   // the file knows better
  CHECK(runs(import_kareus(folder.path(), two_ranks_a_stage(4, 4))) == 16);  // and has just 4
  const KareusImport guessed = import_kareus(folder.path(), two_ranks_a_stage(4));
  REQUIRE(guessed.remarks.size() == 1);
  CHECK(guessed.remarks[0] ==
        "the first third of the instructions was left out as warm-up; with --microbatches it is iterations");
  CHECK(runs(guessed) < 24);
  CHECK(runs(guessed) >= 20);

  KareusFolder bare;
  fill(bare, false);
  const KareusImport counted = import_kareus(bare.path(), two_ranks_a_stage(2, 8));
  CHECK(runs(counted) == 16);
  CHECK(counted.remarks ==
        std::vector<std::string>{
            "no 'forward-backward' spans: what lies between instructions all counts as waiting"});
}

TEST_CASE("import: the order of the files' rows does not matter, nor what else lies in the folder",
          "[import]") {
  KareusFolder folder;
  fill(folder);
  const KareusImport before = import_kareus(folder.path(), two_ranks_a_stage(1));
  spill(folder.folder(1410, 0) / "power_monitor_0.txt", "timestamp,power\n");
  spill(folder.path() + "/node0/log.txt", "");
  fs::create_directories(folder.path() + "/node0/1500");
  fs::create_directories(folder.path() + "/results/1500/timers");
  const std::string text = slurp(folder.instructions_file(1305, 1));
  const std::size_t header = text.find('\n') + 1;
  const std::size_t middle = text.find('\n', text.size() / 2) + 1;
  spill(folder.instructions_file(1305, 1),
        text.substr(0, header) + text.substr(middle) + text.substr(header, middle - header));
  const KareusImport after = import_kareus(folder.path(), two_ranks_a_stage(1));
  CHECK(after.stages == before.stages);
}

TEST_CASE("import: a job on one machine needs no folder for it", "[import]") {
  KareusFolder folder;
  fill(folder);
  const KareusImport before = import_kareus(folder.path(), two_ranks_a_stage(1));
  for (const char* clock : {"1410", "1305", "1200"}) {
    const fs::path timers = fs::path(folder.path()) / clock / "timers";
    fs::create_directories(timers);
    for (const char* node : {"node0", "node1"}) {
      fs::copy(fs::path(folder.path()) / node / clock / "timers", timers);
    }
  }
  fs::remove_all(folder.path() + "node0");
  fs::remove_all(folder.path() + "node1");
  CHECK(import_kareus(folder.path(), two_ranks_a_stage(1)).stages == before.stages);
}

TEST_CASE("import: a counter that begins anew costs a refresh, and no estimate", "[import]") {
  KareusFolder whole;
  KareusFolder anew;
  Dice dice(11);
  for (const int clock : {1410, 1200}) {
    VisitRecord record = made_visit(truth(clock, 0), dice);
    whole.add(clock, 0, record);
    std::vector<EnergyReading>& readings = record.counters.front();
    const std::size_t middle = readings.size() / 2;
    const Joules before = readings[middle - 1].total;
    for (std::size_t i = middle; i < readings.size(); ++i) readings[i].total -= before;
    anew.add(clock, 0, record);
  }
  const auto options_of = [](const KareusFolder& folder, InstructionKind kind) {
    return import_kareus(folder.path(), {1, 1, {}}).stages.at(0).instructions.at(kind);
  };
  for (const InstructionKind kind : {InstructionKind::kForward, InstructionKind::kBackward}) {
    const auto expected = options_of(whole, kind);
    const auto found = options_of(anew, kind);
    REQUIRE(found.size() == 2);
    for (std::size_t i = 0; i < 2; ++i) {
      CHECK(found[i].time == expected[i].time);
      CHECK(std::abs(found[i].energy / expected[i].energy - 1) < 5e-3);
      CHECK(std::abs(found[i].second_energy / expected[i].second_energy - 1) < 5e-3);
    }
  }
}

TEST_CASE("import: a pause between two clocks is no time that was measured", "[import]") {
  KareusFolder folder;
  Dice dice(13);
  double counted = 0;
  for (const int clock : {1410, 1200}) {
    VisitRecord record = made_visit(truth(clock, 0), dice);
    counted += (record.steps.back().end - record.steps[1].begin).value();
    const Seconds later(clock == 1200 ? 86'400 : 0);
    const auto move = [later](Span& span) { span = {span.begin + later, span.end + later}; };
    for (Run& run : record.runs) move(run.span);
    for (Span& step : record.steps) move(step);
    for (EnergyReading& reading : record.counters.front()) reading.at += later;
    folder.add(clock, 0, record);
  }
  const StageProfile stage = import_kareus(folder.path(), {1, 1, {}}).stages.at(0);
  REQUIRE(stage.notes);
  CHECK(std::abs(stage.notes->duration.value() - counted) < 1e-3);
}

std::string error_of(const std::function<void()>& work) {
  try {
    work();
  } catch (const InputError& error) {
    return error.what();
  }
  return "accepted";
}

TEST_CASE("import: a folder that is not whole is refused, and what is wrong with it is named", "[import]") {
  struct Fault {
    std::function<void(const KareusFolder&)> make;
    /// With @ for the folder.
    std::string error;
    KareusOptions options = two_ranks_a_stage(1);
  };
  const auto append = [](const std::string& file, const std::string& row) {
    spill(file, slurp(file) + row + "\n");
  };
  const std::string late = fixed_text(kEpoch + 500, 0);
  const std::vector<Fault> faults{
      {[](const KareusFolder& f) { fs::remove_all(f.folder(1410, 0).parent_path().parent_path()); },
       "@: 1200 MHz: rank 0 has no time-energy-0-<rank>.csv"},
      {[](const KareusFolder& f) {
         fs::remove_all(f.path() + "/node0");
         fs::remove_all(f.path() + "/node1");
       },
       "@: holds no [node<n>/]<MHz>/timers/time-energy-<rank>-<rank>.csv"},
      {[](const KareusFolder& f) { fs::rename(f.path() + "node0/1305", f.path() + "node0/1305MHz"); },
       "@node0/1305MHz: holds timers, but '1305MHz' is not a whole number of MHz from 1 to 100000"},
      {[](const KareusFolder& f) { fs::rename(f.path() + "node0/1305", f.path() + "max"); },
       "@max: holds timers, but 'max' is not a whole number of MHz from 1 to 100000"},
      {[](const KareusFolder& f) { fs::remove(f.instructions_file(1305, 3)); },
       "@: 1305 MHz: rank 3 has no instructions-3-<rank>.csv"},
      {[](const KareusFolder& f) {
         fs::copy(f.energy_file(1410, 0), f.folder(1410, 0) / "time-energy-0-7.csv");
       },
       "@node0/1410/timers/time-energy-0-7.csv: rank 0 has @node0/1410/timers/time-energy-0-0.csv already"},
      {[](const KareusFolder&) {}, "@: --tensor-parallel: 4 ranks are no stages of 3", {3, 1, {}}},
      {[&](const KareusFolder& f) { spill(f.instructions_file(1410, 1), "instruction,start,end\n"); },
       "@node0/1410/timers/instructions-1-1.csv: instruction: no forward-compute and no backward-compute"},
      {[&](const KareusFolder& f) {
         append(f.instructions_file(1410, 1), "fuse-compute," + late + "," + late);
       },
       "@node0/1410/timers/instructions-1-1.csv:86: instruction: unknown instruction 'fuse-compute'"},
      {[&](const KareusFolder& f) {
         spill(f.instructions_file(1410, 1),
               "instruction,start,end\nforward-compute,1,3\nbackward-compute,2,4\n");
       },
       "@node0/1410/timers/instructions-1-1.csv:3: start: 'backward-compute' overlaps 'forward-compute' of "
       "line 2"},
      {[&](const KareusFolder& f) {
         spill(f.instructions_file(1410, 1),
               "instruction,start,end\nforward-backward,1,3\nforward-compute,1,2\nforward-backward,2,4\n");
       },
       "@node0/1410/timers/instructions-1-1.csv:4: start: 'forward-backward' overlaps 'forward-backward' of "
       "line 2"},
      {[](const KareusFolder& f) { spill(f.energy_file(1200, 2), "time,energy\n1,2\n2,3\n3,4\n4,5\n"); },
       "@node1/1200/timers/time-energy-2-0.csv: time: only 1 readings while the rank's instructions ran, "
       "after "
       "the warm-up"},
      {[](const KareusFolder&) {},
       ".csv: --warm-up-iterations: nothing is left after 5 iterations of 8 microbatches",
       two_ranks_a_stage(5, 8)},
      {[&](const KareusFolder& f) {
         for (const int clock : {1410, 1305, 1200}) {
           for (int rank = 2; rank < 4; ++rank) {
             std::string text = slurp(f.instructions_file(clock, rank));
             for (std::size_t at; (at = text.find("backward-compute")) != std::string::npos;) {
               text.replace(at, 16, "optimizer-step");
             }
             spill(f.instructions_file(clock, rank), text);
           }
         }
       },
       "@: instruction: stage 1 has no 'backward-compute'"},
  };
  for (const Fault& fault : faults) {
    KareusFolder folder;
    fill(folder);
    fault.make(folder);
    std::string expected;
    for (const char c : fault.error) expected += c == '@' ? folder.path() : std::string(1, c);
    CHECK_THROWS_WITH((void)import_kareus(folder.path(), fault.options), has_text(expected));
  }
  CHECK(error_of([] { (void)import_kareus("/no/such/folder", {}); }) ==
        "/no/such/folder: cannot read: No such file or directory");
}

TEST_CASE("import: a bad file of Kareus is refused with file, line, key and reason", "[import]") {
  // One file a fault, named by it; @ stands for the name.
  const std::map<std::string, std::string> messages{
      {"energy-absurd.csv", "@:3: energy: '1e16' is above 1e+15"},
      {"energy-byte-order-mark.csv", "@:1: the file begins with a byte order mark; save it as plain UTF-8"},
      {"energy-empty-line.csv", "@:3: 1 values where the header names 2"},
      {"energy-empty.csv", "@: the file is empty"},
      {"energy-header-swapped.csv", "@:1: the header is not 'time,energy'"},
      {"energy-long-row.csv", "@:3: 3 values where the header names 2"},
      {"energy-negative.csv", "@:3: energy: '-3' must not be negative"},
      {"energy-short-row.csv", "@:3: 1 values where the header names 2"},
      {"energy-text.csv", "@:3: energy: 'oops' is not a finite number"},
      {"energy-time-absurd.csv", "@:3: time: '1e12' is above 1e+11"},
      {"energy-time-falls.csv", "@:3: time: '1' is not after the row before"},
      {"energy-time-nan.csv", "@:3: time: 'nan' is not a finite number"},
      {"energy-time-stands-still.csv", "@:3: time: '1' is not after the row before"},
      {"instructions-empty.csv", "@: the file is empty"},
      {"instructions-end-before-start.csv", "@:3: end: '4' is before the start"},
      {"instructions-header-wrong.csv", "@:1: the header is not 'instruction,start,end'"},
      {"instructions-infinite.csv", "@:2: end: 'inf' is not a finite number"},
      {"instructions-short-row.csv", "@:2: 2 values where the header names 3"},
      {"instructions-without-a-name.csv", "@:2: instruction: it has no name"},
  };
  for (const auto& entry : fs::directory_iterator(kData + "/bad-kareus")) {
    const std::string name = entry.path().filename();
    CAPTURE(name);
    REQUIRE(messages.contains(name));
    const std::string text = slurp(entry.path());
    CHECK(error_of([&] {
            if (name.rfind("energy-", 0) == 0) {
              (void)parse_kareus_energy(name, text);
            } else {
              (void)parse_kareus_instructions(name, text);
            }
          }) == name + messages.at(name).substr(1));
  }
  CHECK(parse_kareus_energy("e.csv", slurp(kData + "/kareus/time-energy-0-0.csv")).size() == 4);
  const auto spans = parse_kareus_instructions("i.csv", slurp(kData + "/kareus/instructions-0-0.csv"));
  REQUIRE(spans.size() == 4);
  CHECK(spans[3].name == "backward-compute");
  CHECK(spans[3].line == 5);
}

}  // namespace
}  // namespace slackline
