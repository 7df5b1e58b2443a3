#include <algorithm>
#include <sstream>

#include "catch.h"
#include "comma_locale.h"
#include "random_pipeline.h"
#include "slackline/base/error.h"
#include "slackline/base/number_text.h"
#include "slackline/schedule/planner.h"
#include "slackline/schedule/schedule_io.h"

namespace slackline {
namespace {

std::vector<std::vector<std::string>> rows_of(const std::string& csv) {
  std::vector<std::vector<std::string>> rows;
  std::istringstream lines(csv);
  for (std::string line; std::getline(lines, line);) {
    std::istringstream cells(line);
    rows.emplace_back();
    for (std::string cell; std::getline(cells, cell, ',');) rows.back().push_back(cell);
  }
  return rows;
}

Planning random_planning(Dice& dice, const Workload& workload) {
  PlanOptions options;
  options.plans = dice.number(1, 6);
  return make_plans(workload, options);
}

TEST_CASE("schedule file: reads back exactly, and the same schedule gives the same bytes", "[schedule]") {
  Dice dice(71);
  for (int round = 0; round < 30; ++round) {
    const Workload workload = random_workload(dice, 5, 12, 10);
    Schedule schedule = random_planning(dice, workload).schedule;
    schedule.data_parallel = dice.number(1, 3);
    const std::string text = to_yaml(schedule);
    const Schedule read = parse_schedule_yaml("s.yaml", text);
    CHECK(to_yaml(read) == text);
    CHECK(read.order() == schedule.order());
    CHECK(read.data_parallel == schedule.data_parallel);
    CHECK(read.configs == schedule.configs);
    CHECK(read.chosen == schedule.chosen);
    REQUIRE(read.plans.size() == schedule.plans.size());
    for (std::size_t k = 0; k < read.plans.size(); ++k) {
      CHECK(read.plans[k].clocks == schedule.plans[k].clocks);
      CHECK(read.plans[k].time == schedule.plans[k].time);
      CHECK(read.plans[k].energy == schedule.plans[k].energy);
      CHECK(read.plans[k].bound == schedule.plans[k].bound);
      CHECK(read.plans[k].late_time == schedule.plans[k].late_time);
      CHECK(to_seconds(workload.evaluate(read.plans[k].clocks).time) == schedule.plans[k].time);
      CHECK(workload.evaluate(read.plans[k].clocks).energy == schedule.plans[k].energy);
    }
  }
}

TEST_CASE("planner: the same input gives the same bytes", "[schedule]") {
  Dice dice(72);
  for (int round = 0; round < 10; ++round) {
    const Workload workload = random_workload(dice, 5, 10, 12);
    CHECK(to_yaml(make_plans(workload, {}).schedule) == to_yaml(make_plans(workload, {}).schedule));
  }
}

TEST_CASE("schedule file: equal clocks in a row are one entry", "[schedule]") {
  Dice dice(73);
  const Workload workload(random_profile(dice, 2, 6), {"1f1b", 200});
  PlanOptions options;
  options.plans = 1;
  Schedule schedule = make_plans(workload, options).schedule;
  schedule.plans[0].clocks.assign(workload.dag().size(), Megahertz(1410));
  const std::string text = to_yaml(schedule);
  CHECK(text.find("mhz: 1410x200}") != std::string::npos);
  CHECK(text.size() < 2000);
  CHECK(parse_schedule_yaml("s.yaml", text).plans[0].clocks == schedule.plans[0].clocks);
}

TEST_CASE("schedule file: does not depend on the locale it was written in", "[schedule]") {
  Dice dice(78);
  const Workload workload(random_profile(dice, 2, 6), {"1f1b", 1200});
  PlanOptions options;
  options.plans = 2;
  const Planning planning = make_plans(workload, options);
  const std::string file = to_yaml(planning.schedule);
  const std::string clocks = clocks_csv(planning.schedule, planning.schedule.plans[0]);
  const CommaLocale locale;
  CHECK(to_yaml(planning.schedule) == file);
  CHECK(to_yaml(parse_schedule_yaml("s.yaml", file)) == file);
  CHECK(clocks_csv(planning.schedule, planning.schedule.plans[0]) == clocks);
}

TEST_CASE("schedule file: names with YAML's own characters survive", "[schedule]") {
  Dice dice(74);
  Profile profile = random_profile(dice, 1, 3);
  for (const char* name :
       {"a: b", "'", "\"x\" # y", "- z", "{", "null", "1e3", " padded ", "tab\there", "zwölf"}) {
    profile.model = name;
    const Schedule schedule = make_plans(Workload(profile, {"1f1b", 1}), {}).schedule;
    CHECK(parse_schedule_yaml("s.yaml", to_yaml(schedule)).model == name);
  }
}

TEST_CASE("plans CSV: rising time, and the gap is the energy above the bound in percent of it",
          "[schedule]") {
  Dice dice(75);
  const Workload workload(random_profile(dice, 4, 12), {"1f1b", 8});
  const Schedule schedule = make_plans(workload, {}).schedule;
  const auto rows = rows_of(plans_csv(schedule));
  REQUIRE(rows.size() == schedule.plans.size() + 1);
  CHECK(rows[0] == std::vector<std::string>{"time_s", "energy_j", "bound_j", "gap_percent"});
  double before = 0;
  for (std::size_t k = 1; k < rows.size(); ++k) {
    REQUIRE(rows[k].size() == 4);
    const double time = parse_number(rows[k][0]).value();
    const double energy = parse_number(rows[k][1]).value();
    const double bound = parse_number(rows[k][2]).value();
    CHECK(time > before);
    CHECK(std::abs((energy / bound - 1) * 100 - parse_number(rows[k][3]).value()) < 1e-9);
    before = time;
  }
}

TEST_CASE("frontier CSV: every breakpoint, rising time, exact numbers", "[schedule]") {
  Dice dice(76);
  const Workload workload(random_profile(dice, 4, 12), {"1f1b", 8});
  const Frontier frontier = make_plans(workload, {}).frontier;
  const auto rows = rows_of(frontier_csv(frontier));
  REQUIRE(rows.size() == frontier.breakpoints().size() + 1);
  CHECK(rows[0] == std::vector<std::string>{"time_s", "energy_j"});
  for (std::size_t k = 1; k < rows.size(); ++k) {
    const Ticks time = frontier.breakpoints()[k - 1].time;
    CHECK(to_ticks(Seconds(parse_number(rows[k][0]).value())) == time);
    CHECK(Joules(parse_number(rows[k][1]).value()) == frontier.energy(time));
  }
}

TEST_CASE("clocks CSV: every instruction at its place, with its clock", "[schedule]") {
  Dice dice(77);
  const Workload workload(random_profile(dice, 3, 8), {"1f1b", 5});
  const Schedule schedule = make_plans(workload, {}).schedule;
  const Plan& plan = schedule.plans[schedule.chosen];
  const auto rows = rows_of(clocks_csv(schedule, plan));
  const Dag& dag = workload.dag();
  REQUIRE(rows.size() == dag.size() + 1);
  CHECK(rows[0] == std::vector<std::string>{"stage", "seq", "instruction", "microbatch", "clock_mhz"});
  for (InstructionIndex i = 0; i < dag.size(); ++i) {
    const Instruction& instruction = dag.instructions()[i];
    const int stage = instruction.stage.value();
    CHECK(rows[i + 1] == std::vector<std::string>{std::to_string(stage),
                                                  std::to_string(i - dag.rank_begin(stage)),
                                                  std::string(name_of(instruction.kind)),
                                                  std::to_string(instruction.microbatch.value()),
                                                  std::to_string(plan.clocks[i].mhz.value())});
  }
}

}  // namespace
}  // namespace slackline
