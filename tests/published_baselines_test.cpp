// The baselines reproduce what their authors published; see tests/data/perseus-sosp24.
#include <algorithm>
#include <cmath>
#include <fstream>
#include <map>
#include <sstream>
#include <tuple>

#include "catch.h"
#include "random_pipeline.h"
#include "slackline/base/number_text.h"
#include "slackline/profile/profile_io.h"
#include "slackline/schedule/envpipe.h"
#include "slackline/schedule/perseus.h"

namespace slackline {
namespace {

const std::string kSource = SLACKLINE_SOURCE_DIR;

/// The artifact's numbers are of full size: 10 times the profiles' time, and 8 GPUs of each stage.
constexpr double kFullTime = 10;
constexpr double kFullEnergy = 10 * 8;

struct Case {
  std::string model;
  int microbatches = 0;

  bool operator<(const Case& other) const {
    return std::tie(model, microbatches) < std::tie(other.model, other.microbatches);
  }
  [[nodiscard]] Workload workload() const {
    const std::string name = model == "bloom" ? "bloom-176b" : model;
    Profile profile = read_profile(kSource + "/profiles/" + name + "-a100-sxm.csv");
    for (StageProfile& stage : profile.stages) stage.blocking_power = Watts(83.64);
    return {std::move(profile), {"1f1b", microbatches}};
  }
};

struct Row {
  Case published;
  std::vector<double> numbers;  // beyond model and microbatches
};

std::vector<Row> read_rows(const std::string& name) {
  std::ifstream file(kSource + "/tests/data/perseus-sosp24/" + name);
  std::vector<Row> rows;
  std::string line;
  std::getline(file, line);
  while (std::getline(file, line)) {
    std::istringstream cells(line);
    Row row;
    std::getline(cells, row.published.model, ',');
    for (std::string cell; std::getline(cells, cell, ',');) row.numbers.push_back(parse_number(cell).value());
    row.published.microbatches = static_cast<int>(row.numbers.front());
    row.numbers.erase(row.numbers.begin());
    rows.push_back(std::move(row));
  }
  return rows;
}

double saving_percent(Joules energy, Joules baseline) {
  return (1 - energy / baseline) * 100;
}

/// Energy of a job of `pipelines` whose slowest makes the others wait, as the artifact's figures have it:
/// they add the waiting of pipelines + 1 instead of pipelines - 1.
Joules artifact_energy(const EnvPipePlan& plan, const Workload& workload, Seconds waiting, int pipelines) {
  return plan.evaluation.energy * pipelines + workload.blocking_power() * waiting * (pipelines + 1);
}

TEST_CASE("Perseus: the fitted frontier is the published one at every sampled time", "[schedule]") {
  std::map<Case, std::vector<PerseusPoint>> replicas;
  const std::vector<Row> rows = read_rows("frontiers.csv");
  REQUIRE(rows.size() == 160);
  for (const Row& row : rows) {
    CAPTURE(row.published.model, row.published.microbatches, row.numbers[0]);
    std::vector<PerseusPoint>& points = replicas[row.published];
    if (points.empty()) points = perseus_frontier(row.published.workload());
    const auto is_at_time = [&](const PerseusPoint& point) {
      return std::abs(point.time.value() - row.numbers[0]) < 1e-6;
    };
    const auto point = std::find_if(points.begin(), points.end(), is_at_time);
    REQUIRE(point != points.end());
    CHECK(std::abs(point->energy.value() / row.numbers[1] - 1) < 1e-7);
  }
  // The published files begin at the fastest time, and end after the first step down from the slowest.
  for (const auto& [published, points] : replicas) {
    const auto is_of_case = [&c = published](const Row& row) {
      return row.published.model == c.model && row.published.microbatches == c.microbatches;
    };
    const auto first = std::find_if(rows.begin(), rows.end(), is_of_case);
    const auto last = std::find_if(rows.rbegin(), rows.rend(), is_of_case);
    CHECK(std::abs(points.front().time.value() - first->numbers[0]) < 1e-6);
    CHECK(std::abs(points[points.size() - 2].time.value() - last->numbers[0]) < 1e-6);
  }
}

TEST_CASE("Perseus: its clocks never beat the exact bound", "[schedule]") {
  for (const Case& published : {Case{"gpt3-175b", 12}, Case{"bloom", 24}}) {
    const Workload workload = published.workload();
    const Frontier bound = workload.frontier(solve_parametric(workload.problem()).breakpoints);
    for (const PerseusPoint& point : perseus_frontier(workload)) {
      const Evaluation real = workload.evaluate(point.clocks);
      CHECK(real.energy >= bound.energy(real.time) - Joules(1e-6));
    }
  }
}

TEST_CASE("Perseus: its fastest times are shorter than its clocks allow, its energy below the bound",
          "[schedule]") {
  const Workload workload = Case{"gpt3-175b", 12}.workload();
  const Ticks all_max = workload.evaluate(workload.all_max()).time;
  const Frontier bound = workload.frontier(solve_parametric(workload.problem()).breakpoints);
  const std::vector<PerseusPoint> points = perseus_frontier(workload);
  CHECK(to_ticks(points.front().time) < bound.fastest());
  CHECK(workload.evaluate(points.front().clocks).time > bound.fastest());
  const auto not_beyond = [&](const PerseusPoint& point) { return to_ticks(point.time) <= all_max; };
  const auto after = std::partition_point(points.begin(), points.end(), not_beyond);
  CHECK((after - 1)->energy < bound.energy(all_max));
}

TEST_CASE("Perseus: any order, fixed times, transfers and labels give clocks that were measured",
          "[schedule]") {
  Dice dice(51);
  for (int round = 0; round < 60; ++round) {
    CAPTURE(round);
    const Workload workload = random_workload(dice, 4, 6, 8);
    const Frontier bound = workload.frontier(solve_parametric(workload.problem()).breakpoints);
    const std::vector<PerseusPoint> points = perseus_frontier(workload, {Seconds(5e-4)});
    for (std::size_t k = 0; k < points.size(); ++k) {
      const Evaluation real = workload.evaluate(points[k].clocks);
      CHECK(real.energy >= bound.energy(real.time) - Joules(1e-6));
      if (k > 0) CHECK(points[k].time > points[k - 1].time);
    }
    CHECK(envpipe(workload).evaluation.time >= bound.fastest());
  }
}

TEST_CASE("Perseus: a unit time that is not positive, or far too small, is an error", "[schedule]") {
  const Workload workload = Case{"gpt3-175b", 12}.workload();
  CHECK_THROWS_AS(perseus_frontier(workload, {Seconds(0)}), InputError);
  CHECK_THROWS_AS(perseus_frontier(workload, {Seconds(-1e-3)}), InputError);
  CHECK_THROWS_AS(perseus_frontier(workload, {Seconds(1e-9)}), InputError);
  CHECK_THROWS_AS(perseus_frontier(workload, {Seconds(1e-7)}), InputError);
}

TEST_CASE("EnvPipe: time and energy are the published ones, to all digits printed", "[schedule]") {
  const std::vector<Row> rows = read_rows("envpipe.csv");
  REQUIRE(rows.size() == 8);
  for (const Row& row : rows) {
    CAPTURE(row.published.model, row.published.microbatches);
    const Workload workload = row.published.workload();
    const Evaluation all_max = workload.evaluate(workload.all_max());
    CHECK(std::abs(to_seconds(all_max.time).value() * kFullTime - row.numbers[1]) <= 0.5001e-3);
    const EnvPipePlan plan = envpipe(workload);
    CHECK(std::abs(to_seconds(plan.evaluation.time).value() * kFullTime - row.numbers[1]) <= 0.5001e-3);
    CHECK(std::abs(plan.evaluation.energy.value() * kFullEnergy - row.numbers[2]) <= 0.5001e-3);
  }
}

TEST_CASE("EnvPipe and Perseus: the savings are those of the paper's tables", "[schedule]") {
  struct Saving {
    Case published;
    double perseus;
    double envpipe;
  };
  // Perseus' Table 6, A100: against all-max clocks at Perseus' own fastest time.
  for (const Saving& saving :
       {Saving{{"gpt3-175b", 12}, 15.20, 14.08}, Saving{{"gpt3-175b", 24}, 14.19, 13.42},
        Saving{{"bloom", 12}, 10.47, 8.21}, Saving{{"bloom", 24}, 7.06, 4.53}}) {
    CAPTURE(saving.published.model, saving.published.microbatches);
    const Workload workload = saving.published.workload();
    const Evaluation all_max = workload.evaluate(workload.all_max());
    const PerseusPoint fastest = perseus_frontier(workload).front();
    const Joules baseline =
        all_max.energy - workload.blocking_power() * (to_seconds(all_max.time) - fastest.time);
    CHECK(std::abs(saving_percent(fastest.energy, baseline) - saving.perseus) < 0.006);
    CHECK(std::abs(saving_percent(envpipe(workload).evaluation.energy, baseline) - saving.envpipe) < 0.006);
  }
}

TEST_CASE("EnvPipe: savings with a straggler are the published ones, waiting counted as published",
          "[schedule]") {
  // Perseus' Figure 7, A100: 96 microbatches, 16 pipelines, one of them 1.2 times slower.
  constexpr int kPipelines = 16;
  for (const auto& [model, published] : {std::pair("gpt3-175b", 12.0), std::pair("bloom", 1.0)}) {
    CAPTURE(model);
    const Workload workload = Case{model, 96}.workload();
    const Evaluation all_max = workload.evaluate(workload.all_max());
    const Seconds time = perseus_frontier(workload).front().time;
    const Seconds waiting = time * 0.2;
    const Joules baseline =
        (all_max.energy - workload.blocking_power() * (to_seconds(all_max.time) - time)) * kPipelines +
        workload.blocking_power() * waiting * (kPipelines - 1);
    const Joules energy = artifact_energy(envpipe(workload), workload, waiting, kPipelines);
    CHECK(std::abs(saving_percent(energy, baseline) - published) < 0.06);
  }
}

}  // namespace
}  // namespace slackline
