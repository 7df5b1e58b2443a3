#include <fstream>
#include <sstream>

#include "catch.h"
#include "slackline/base/number_text.h"
#include "slackline/frontier/frontier.h"
#include "slackline/profile/profile_io.h"
#include "slackline/schedule/workload.h"

namespace slackline {
namespace {

const std::string kSource = SLACKLINE_SOURCE_DIR;

struct Bound {
  std::string model;
  int microbatches = 0;
  double all_max_time = 0;
  double all_max_energy = 0;
  double factor = 0;
  double energy = 0;
};

std::vector<Bound> read_bounds() {
  std::ifstream file(kSource + "/tests/data/perseus-bounds.csv");
  std::vector<Bound> bounds;
  std::string line;
  std::getline(file, line);
  while (std::getline(file, line)) {
    std::istringstream row(line);
    std::vector<std::string> cells;
    for (std::string cell; std::getline(row, cell, ',');) cells.push_back(cell);
    const auto number = [&](std::size_t i) { return parse_number(cells.at(i)).value(); };
    bounds.push_back({cells.at(0), static_cast<int>(number(2)), number(3), number(4), number(5), number(6)});
  }
  return bounds;
}

Workload published(const std::string& model, int microbatches) {
  Profile profile =
      read_profile(kSource + "/profiles/" + (model == "bloom" ? "bloom-176b" : model) + "-a100-sxm.csv");
  for (StageProfile& stage : profile.stages) stage.blocking_power = Watts(83.64);
  return {std::move(profile), {"1f1b", microbatches}};
}

double relative_error(double found, double expected) {
  return std::abs(found - expected) / std::abs(expected);
}

TEST_CASE("frontier: the published A100 profiles give the bounds that an LP solver found", "[frontier]") {
  std::string solved_for;
  std::optional<Frontier> frontier;
  std::optional<Evaluation> all_max;
  const std::vector<Bound> bounds = read_bounds();
  REQUIRE(bounds.size() == 40);
  for (const Bound& bound : bounds) {
    CAPTURE(bound.model, bound.microbatches, bound.factor);
    if (const std::string name = bound.model + std::to_string(bound.microbatches); name != solved_for) {
      const Workload workload = published(bound.model, bound.microbatches);
      frontier = workload.frontier(solve_parametric(workload.problem()).breakpoints);
      all_max = workload.evaluate(workload.all_max());
      solved_for = name;
    }
    CHECK(relative_error(to_seconds(all_max->time).value(), bound.all_max_time) < 1e-5);
    CHECK(relative_error(all_max->energy.value(), bound.all_max_energy) < 1e-5);
    const Ticks time = to_ticks(to_seconds(all_max->time) * bound.factor);
    CHECK(relative_error(frontier->energy(time).value(), bound.energy) < 1e-5);
  }
}

}  // namespace
}  // namespace slackline
