// How long the whole exact frontier takes, and how that grows with the pipeline.
#include <benchmark/benchmark.h>

#include <algorithm>
#include <cstdio>
#include <exception>
#include <map>
#include <memory>
#include <string>
#include <vector>

#include "slackline/base/number_text.h"
#include "slackline/frontier/parametric_solver.h"
#include "slackline/profile/profile_io.h"
#include "slackline/report/table.h"
#include "slackline/schedule/workload.h"
#include "synthetic.h"

namespace slackline {
namespace {

constexpr int kRepetitions = 7;
constexpr std::uint64_t kSeed = 20240717;

/// A problem to time, and the size of its answer once that has been checked.
struct Case {
  std::string name;
  Problem problem;
  SolverStats stats = {};
  bool checked = false;
};

Case make_case(const std::string& name, Profile profile, int microbatches) {
  for (StageProfile& stage : profile.stages) {
    if (!stage.blocking_power)
      stage.blocking_power = Watts(83.64);  // of an A100 SXM; the CSV form has no place for it
  }
  const int stages = static_cast<int>(profile.stages.size());
  return {name + " " + std::to_string(stages) + "x" + std::to_string(microbatches),
          Workload(std::move(profile), {"1f1b", microbatches}).problem()};
}

std::vector<std::unique_ptr<Case>> make_cases() {
  std::vector<std::unique_ptr<Case>> cases;
  for (const char* model : {"gpt3-175b", "bloom-176b"}) {
    const Profile profile =
        read_profile(std::string(SLACKLINE_SOURCE_DIR "/profiles/") + model + "-a100-sxm.csv");
    for (const int microbatches : {12, 24, 48, 96}) {
      cases.push_back(std::make_unique<Case>(make_case(model, profile, microbatches)));
    }
  }
  cases.push_back(std::make_unique<Case>(make_case("synthetic", synthetic_profile(kSeed, 8), 64)));
  cases.push_back(std::make_unique<Case>(make_case("synthetic", synthetic_profile(kSeed, 16), 128)));
  return cases;
}

/// Proves optima at the ends of the frontier and in its middle. Empty, or what is wrong.
std::string check(Case& one) {
  const auto bare = solve_parametric(one.problem);
  one.stats = bare.stats;
  const Ticks fastest = bare.breakpoints.front().time;
  const Ticks slowest = bare.breakpoints.back().time;
  const std::vector<Ticks> targets{fastest, fastest + (slowest - fastest) / 2, slowest};
  const auto solved = solve_parametric(one.problem, targets);
  for (std::size_t k = 0; k < targets.size(); ++k) {
    const Optimum& optimum = solved.optima[k];
    if (const std::string fault = check_certificate(one.problem, optimum); !fault.empty()) return fault;
    if (optimum.event_times[one.problem.sink()] != targets[k]) return "an optimum is not at its target";
  }
  return "";
}

void time_frontier(benchmark::State& state, Case& one) {
  if (!one.checked) {
    if (const std::string fault = check(one); !fault.empty()) return state.SkipWithError(fault.c_str());
    one.checked = true;
  }
  for (auto _ : state) benchmark::DoNotOptimize(solve_parametric(one.problem));
}

/// Collects the repetitions of each case instead of printing them one by one.
class Collector : public benchmark::BenchmarkReporter {
 public:
  bool ReportContext(const Context&) override { return true; }
  void ReportRuns(const std::vector<Run>& runs) override {
    for (const Run& run : runs) {
      if (run.run_type == Run::RT_Aggregate) continue;
      seconds_[run.run_name.function_name].push_back(run.GetAdjustedRealTime() / 1e3);
    }
  }
  /// Seconds of one solution in each repetition, shortest first; empty if the case failed or was filtered
  /// out.
  [[nodiscard]] std::vector<double> seconds(const std::string& name) const {
    const auto found = seconds_.find(name);
    if (found == seconds_.end()) return {};
    std::vector<double> sorted = found->second;
    std::sort(sorted.begin(), sorted.end());
    return sorted;
  }

 private:
  std::map<std::string, std::vector<double>> seconds_;
};

int run(int argc, char** argv) {
  benchmark::Initialize(&argc, argv);
  if (benchmark::ReportUnrecognizedArguments(argc, argv)) return 2;
  const auto cases = make_cases();
  for (const auto& one : cases) {
    benchmark::RegisterBenchmark(one->name.c_str(),
                                 [&one = *one](benchmark::State& state) { time_frontier(state, one); })
        ->Unit(benchmark::kMillisecond)
        ->Repetitions(kRepetitions);
  }
  Collector collector;
  if (benchmark::RunSpecifiedBenchmarks(&collector) == 0) {
    std::fputs("plan_bench: the filter matches no case\n", stderr);
    return 2;
  }

  Table table({"stages x microbatches", "instructions", "moves", "augmentations", "median (ms)", "min (ms)",
               "spread (%)", "ns/(instruction*move)"});
  bool all_hold = true;
  for (const auto& one : cases) {
    const std::vector<double> seconds = collector.seconds(one->name);
    if (seconds.empty()) continue;
    if (!one->checked) {
      all_hold = false;
      std::fprintf(stderr, "plan_bench: %s: WRONG: %s\n", one->name.c_str(), check(*one).c_str());
      continue;
    }
    const double median = seconds[seconds.size() / 2];
    const double size =
        static_cast<double>(one->problem.instructions()) * static_cast<double>(one->stats.moves);
    table.add_row({one->name, std::to_string(one->problem.instructions()), std::to_string(one->stats.moves),
                   std::to_string(one->stats.augmentations), fixed_text(median * 1e3, 2),
                   fixed_text(seconds.front() * 1e3, 2),
                   fixed_text((seconds.back() - seconds.front()) / median * 100, 1),
                   fixed_text(median * 1e9 / size, 2)});
  }
  std::fputs(table.text().c_str(), stdout);
  return all_hold ? 0 : 1;
}

}  // namespace
}  // namespace slackline

int main(int argc, char** argv) {
#ifndef NDEBUG
  std::fputs("plan_bench: this is a Debug build, whose times mean nothing; build the release preset\n",
             stderr);
  return 2;
#endif
  try {
    return slackline::run(argc, argv);
  } catch (const std::exception& error) {
    std::fprintf(stderr, "plan_bench: %s\n", error.what());
    return 1;
  }
}
