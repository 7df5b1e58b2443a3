// What measuring only a few clocks costs: plans are made from a few clocks of each stage, the others
// predicted, and judged by the truth. Clocks chosen for the plan stand beside clocks spread evenly, all
// clocks, and all clocks without what each has on its own, which no model can tell.
#include <algorithm>
#include <chrono>
#include <cstdio>
#include <exception>
#include <map>
#include <string>
#include <utility>
#include <vector>

#include "hidden_truth.h"
#include "plan_regret.h"
#include "slackline/base/number_text.h"
#include "slackline/profile/profile_io.h"
#include "slackline/report/table.h"
#include "slackline/schedule/clock_budget.h"

namespace slackline {
namespace {

constexpr int kSeeds = 10;
constexpr std::size_t kFewest = 3;
constexpr std::size_t kMost = 12;
const OrderSpec kOrder{"1f1b", 12};

struct Judgement {
  PlanRegret fastest;
  PlanRegret all_max;
  PlanRegret slower;
  /// By next_clocks; 0 where it was not asked.
  double predicted = 0;
};

Judgement judge(const PlanJudge& truth, Profile believed) {
  const Workload workload(std::move(believed), kOrder);
  return {truth.at_fastest(workload), truth.at_slowdown(workload, 1), truth.at_slowdown(workload, 1.05)};
}

/// How many clocks, and by whom they were chosen.
using Row = std::pair<std::size_t, std::string>;

/// Adds a seed's judgements; the seconds that choosing a clock took at the most.
double run(const Profile& published, std::uint64_t seed, std::map<Row, std::vector<Judgement>>& rows) {
  Dice dice(seed);
  const Profile truth = hidden_truth(published, dice);
  const Profile sweep = measurements(truth, dice);
  const PlanJudge truth_judge(truth, kOrder);
  const std::vector<std::vector<Megahertz>> supported = clocks_of(truth);
  const std::size_t all = supported[0].size();

  std::vector<std::vector<Megahertz>> chosen(truth.stages.size());
  double longest = 0;
  for (std::size_t count = 0;; ++count) {
    const Profile measured = only(sweep, chosen);
    const auto begin = std::chrono::steady_clock::now();
    const NextClocks next = next_clocks(measured, supported, kOrder);
    longest =
        std::max(longest, std::chrono::duration<double>(std::chrono::steady_clock::now() - begin).count());
    if (count >= kFewest) {
      Judgement judgement = judge(truth_judge, completed(measured, supported));
      judgement.predicted = next.predicted_regret;
      rows[{count, "the plan"}].push_back(judgement);
      std::vector<std::vector<Megahertz>> spread;
      for (const auto& clocks : supported) spread.push_back(evenly(clocks, count));
      rows[{count, "even spread"}].push_back(judge(truth_judge, completed(only(sweep, spread), supported)));
    }
    if (count == kMost) break;
    for (std::size_t s = 0; s < chosen.size(); ++s) {
      if (next.clocks[s]) chosen[s].push_back(*next.clocks[s]);
    }
  }
  rows[{all, "all"}].push_back(judge(truth_judge, sweep));
  Dice same(seed);
  rows[{all, "smooth truth"}].push_back(judge(truth_judge, hidden_truth(published, same, 0)));
  return longest;
}

template <class Figure>
std::vector<double> sorted(const std::vector<Judgement>& judgements, Figure figure) {
  std::vector<double> values;
  for (const Judgement& judgement : judgements) values.push_back(figure(judgement));
  std::sort(values.begin(), values.end());
  return values;
}

std::string percent(double part) {
  return fixed_text(part * 100, 2);
}

/// Median and worst.
std::string summary(const std::vector<double>& values) {
  return percent((values[values.size() / 2] + values[(values.size() - 1) / 2]) / 2) + " / " +
         percent(values.back());
}

void add_row(Table& table, const std::string& model, const Row& row,
             const std::vector<Judgement>& judgements) {
  const auto of = [&](auto figure) { return summary(sorted(judgements, figure)); };
  const bool is_predicted = judgements.front().predicted > 0;
  table.add_row({model, std::to_string(row.first), row.second,
                 of([](const Judgement& j) { return j.fastest.energy; }),
                 of([](const Judgement& j) { return j.all_max.energy; }),
                 of([](const Judgement& j) { return j.slower.energy; }),
                 is_predicted ? of([](const Judgement& j) { return j.predicted; }) : "-",
                 of([](const Judgement& j) { return j.all_max.overshoot; })});
}

}  // namespace
}  // namespace slackline

int main() {
  using namespace slackline;
  try {
    Table table({"model", "clocks", "chosen by", "fastest", "all-max", "+5 %", "predicted", "overshoot"});
    double longest = 0;
    for (const char* model : {"gpt3-175b", "bloom-176b"}) {
      const Profile published =
          read_profile(SLACKLINE_SOURCE_DIR "/profiles/" + std::string(model) + "-a100-sxm.yaml");
      std::map<Row, std::vector<Judgement>> rows;
      for (int seed = 1; seed <= kSeeds; ++seed) {
        longest = std::max(longest, run(published, static_cast<std::uint64_t>(seed), rows));
      }
      for (const auto& [row, judgements] : rows) add_row(table, model, row, judgements);
    }
    std::fputs(table.text().c_str(), stdout);
    std::printf("All in percent, median / worst of %d seeds; a choice of clocks took %s s at most.\n", kSeeds,
                fixed_text(longest, 3).c_str());
  } catch (const std::exception& error) {
    std::fprintf(stderr, "budget_bench: %s\n", error.what());
    return 1;
  }
}
