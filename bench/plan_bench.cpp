// How long the whole exact frontier takes, beside the plain form of the same method, and how that grows with
// the pipeline.
#include <benchmark/benchmark.h>

#include <algorithm>
#include <chrono>
#include <cstdio>
#include <cstring>
#include <exception>
#include <list>
#include <string>
#include <vector>

#include "plain_parametric.h"
#include "slackline/base/number_text.h"
#include "slackline/frontier/parametric_solver.h"
#include "slackline/profile/profile_io.h"
#include "slackline/report/table.h"
#include "slackline/schedule/workload.h"
#include "synthetic.h"

namespace slackline {
namespace {

constexpr int kRepetitions = 10;
constexpr std::uint64_t kSeed = 20240717;
/// On larger problems the plain form takes minutes.
constexpr std::uint32_t kMostForPlain = 4096;

/// A problem to time, and what came out.
struct Case {
  std::string name;
  Problem problem;
  bool checked = false;
  std::string fault = {};  // what the check found
  SolverStats stats = {};
  std::vector<double> seconds = {};        // one a repetition
  std::vector<double> plain_seconds = {};  // by turns with the above; none where that would take too long

  [[nodiscard]] bool has_plain() const { return problem.instructions() <= kMostForPlain; }
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

std::list<Case> make_cases(bool large) {
  std::list<Case> cases;
  for (const char* model : {"gpt3-175b", "bloom-176b"}) {
    const Profile profile =
        read_profile(std::string(SLACKLINE_SOURCE_DIR "/profiles/") + model + "-a100-sxm.csv");
    for (const int microbatches : {12, 24, 48, 96}) {
      cases.push_back(make_case(model, profile, microbatches));
    }
  }
  const auto add_synthetic = [&](int stages, int microbatches) {
    cases.push_back(make_case("synthetic", synthetic_profile(kSeed, stages), microbatches));
  };
  add_synthetic(8, 64);
  add_synthetic(16, 128);
  if (large) {
    add_synthetic(16, 256);
    add_synthetic(32, 512);
  }
  return cases;
}

bool same(const std::vector<Breakpoint>& a, const std::vector<Breakpoint>& b) {
  return std::equal(a.begin(), a.end(), b.begin(), b.end(), [](const Breakpoint& x, const Breakpoint& y) {
    return x.time == y.time && x.cost == y.cost;
  });
}

/// Proves optima at the ends of the frontier and in its middle, and compares its breakpoints with the plain
/// form's. Empty, or what is wrong.
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
  if (one.has_plain() && !same(bare.breakpoints, plain_parametric(one.problem))) {
    return "the plain form finds other breakpoints";
  }
  return "";
}

template <typename Work>
double seconds_of(const Work& work) {
  const auto begin = std::chrono::steady_clock::now();
  benchmark::DoNotOptimize(work());
  return std::chrono::duration<double>(std::chrono::steady_clock::now() - begin).count();
}

/// One repetition: both forms in turn, so that what else the machine does slows both.
void time_frontier(benchmark::State& state, Case& one) {
  if (!one.checked) one.fault = check(one);
  one.checked = true;
  if (!one.fault.empty()) return state.SkipWithError(one.fault.c_str());
  for (auto _ : state) {
    one.seconds.push_back(seconds_of([&] { return solve_parametric(one.problem); }));
    state.SetIterationTime(one.seconds.back());
    if (one.has_plain())
      one.plain_seconds.push_back(seconds_of([&] { return plain_parametric(one.problem); }));
  }
}

/// The table at the end says it all.
class Silence : public benchmark::BenchmarkReporter {
 public:
  bool ReportContext(const Context&) override { return true; }
  void ReportRuns(const std::vector<Run>&) override {}
};

double median(std::vector<double> values) {
  std::sort(values.begin(), values.end());
  return (values[(values.size() - 1) / 2] + values[values.size() / 2]) / 2;
}

std::vector<std::string> row(const Case& one) {
  const double seconds = median(one.seconds);
  const auto [least, most] = std::minmax_element(one.seconds.begin(), one.seconds.end());
  std::string plain = "-";
  std::string ratio = "-";
  if (!one.plain_seconds.empty()) {
    std::vector<double> ratios;
    for (std::size_t k = 0; k < one.seconds.size(); ++k) {
      ratios.push_back(one.seconds[k] / one.plain_seconds[k]);
    }
    plain = fixed_text(median(one.plain_seconds) * 1e3, 1);
    ratio = fixed_text(median(ratios), 3);
  }
  const double size = static_cast<double>(one.problem.instructions()) * static_cast<double>(one.stats.moves);
  return {one.name,
          std::to_string(one.problem.instructions()),
          std::to_string(one.stats.moves),
          std::to_string(one.stats.augmentations),
          fixed_text(seconds * 1e3, 2),
          fixed_text(*least * 1e3, 2),
          fixed_text((*most - *least) / seconds * 100, 0),
          plain,
          ratio,
          fixed_text(seconds * 1e9 / size, 2)};
}

/// Takes `flag` out of the arguments.
bool take_flag(int& argc, char** argv, const char* flag) {
  char** const end = argv + argc;
  char** const kept = std::remove_if(argv + 1, end, [&](const char* arg) { return !std::strcmp(arg, flag); });
  argc = static_cast<int>(kept - argv);
  return kept != end;
}

int run(int argc, char** argv) {
  const bool large = take_flag(argc, argv, "--large");
  benchmark::Initialize(&argc, argv);
  if (benchmark::ReportUnrecognizedArguments(argc, argv)) return 2;
  std::list<Case> cases = make_cases(large);
  for (Case& one : cases) {
    benchmark::RegisterBenchmark(one.name.c_str(),
                                 [&one](benchmark::State& state) { time_frontier(state, one); })
        ->Iterations(1)
        ->Repetitions(kRepetitions)
        ->UseManualTime();
  }
  Silence silence;
  if (benchmark::RunSpecifiedBenchmarks(&silence) == 0) {
    std::fputs("plan_bench: the filter matches no case\n", stderr);
    return 2;
  }

  Table table({"stages x microbatches", "instructions", "moves", "augmentations", "median (ms)", "min (ms)",
               "spread (%)", "plain (ms)", "ratio", "ns/(instruction*move)"});
  bool all_hold = true;
  for (const Case& one : cases) {
    if (!one.fault.empty()) {
      all_hold = false;
      std::fprintf(stderr, "plan_bench: %s: WRONG: %s\n", one.name.c_str(), one.fault.c_str());
    } else if (!one.seconds.empty()) {
      table.add_row(row(one));
    }
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
