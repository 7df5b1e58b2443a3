// What measuring only some clocks costs: plans are made of profiles whose other clocks a model fills in, and
// judged by the truth, against the plan that knows it.
#include <algorithm>
#include <cstdio>
#include <cstdlib>
#include <exception>
#include <string>
#include <utility>
#include <vector>

#include "hidden_truth.h"
#include "slackline/base/number_text.h"
#include "slackline/report/table.h"
#include "slackline/schedule/clock_budget.h"
#include "slackline/schedule/planner.h"

namespace slackline {
namespace {

constexpr int kSeeds = 8;
constexpr int kMicrobatches = 12;

using ClockLists = std::vector<std::vector<Megahertz>>;

ClockLists clocks_of(const Profile& profile) {
  ClockLists clocks;
  for (const StageProfile& stage : profile.stages) {
    clocks.emplace_back();
    for (const Measurement& m : stage.instructions.at(InstructionKind::kForward)) {
      clocks.back().push_back(m.clock);
    }
  }
  return clocks;
}

/// Measurements of the truth, as good as a sweep's: without bias, and with the errors that they state.
class Gauge {
 public:
  Gauge(const Profile& truth, std::uint64_t seed) : truth_(truth), dice_(seed) {}

  void measure(Profile& measured, std::size_t stage, Megahertz clock) {
    for (const auto& [kind, options] : truth_.stages[stage].instructions) {
      Measurement m = *find_measurement(truth_.stages[stage], kind, clock);
      m.time_error = m.time * 0.002;
      m.energy_error = m.energy * 0.003;
      m.time += m.time_error * normal(dice_);
      m.energy += m.energy_error * normal(dice_);
      auto& list = measured.stages[stage].instructions[kind];
      list.push_back(m);
      std::ranges::sort(list, std::greater<>(), &Measurement::clock);
    }
  }
  [[nodiscard]] Profile nothing() const {
    Profile nothing = truth_;
    for (StageProfile& stage : nothing.stages) stage.instructions.clear();
    return nothing;
  }

 private:
  const Profile& truth_;
  Dice dice_;
};

/// Of plans that are made of a profile, on the truth, in percent.
struct Regret {
  double energy = 0;         // of the plan's clocks over that of the truth's own plan
  double at_equal_time = 0;  // over the plan that the truth allows in the time that they really take
  double late = 0;           // of the time over that of the truth's own plan
};

/// The fastest plan, or the one that may take so much longer than the all-max iteration.
Plan plan_of(const Workload& workload, std::optional<double> slowdown) {
  PlanOptions options;
  options.plans = 1;
  if (slowdown) options.deadline = to_seconds(workload.evaluate(workload.all_max()).time) * *slowdown;
  const Schedule schedule = make_plans(workload, options).schedule;
  return slowdown ? schedule.plans[schedule.chosen] : schedule.plans.front();
}

Regret regret_of(const Workload& truth, const Profile& known, std::optional<double> slowdown) {
  const Plan plan = plan_of(Workload(known, truth.order()), slowdown);
  const Evaluation real = truth.evaluate(plan.clocks);
  const Plan own = plan_of(truth, slowdown);
  PlanOptions options;
  options.plans = 1;
  options.deadline = std::max(to_seconds(real.time), plan_of(truth, {}).time);
  const Schedule schedule = make_plans(truth, options).schedule;
  const auto percent_over = [](auto a, auto b) { return (a / b - 1) * 100; };
  return {percent_over(real.energy, own.energy),
          percent_over(real.energy, schedule.plans[schedule.chosen].energy),
          percent_over(to_seconds(real.time), own.time)};
}

/// The completed profile after `count` clocks, chosen or evenly spread, and what was predicted of it.
std::pair<Profile, double> known_after(const Profile& truth, int count, bool is_even, std::uint64_t seed) {
  Gauge gauge(truth, seed);
  Profile measured = gauge.nothing();
  const ClockLists supported = clocks_of(truth);
  const OrderSpec order{"1f1b", kMicrobatches};
  for (int n = 0; n < count; ++n) {
    const NextClocks next = is_even ? NextClocks{} : next_clocks(measured, supported, order);
    for (std::size_t s = 0; s < supported.size(); ++s) {
      const std::size_t place =
          static_cast<std::size_t>(n) * (supported[s].size() - 1) / static_cast<std::size_t>(count - 1);
      if (is_even) gauge.measure(measured, s, supported[s][place]);
      if (!is_even && next.clocks[s]) gauge.measure(measured, s, *next.clocks[s]);
    }
  }
  return {completed(measured, supported), next_clocks(measured, supported, order).predicted_regret * 100};
}

double median(std::vector<double> values) {
  std::ranges::sort(values);
  return (values[(values.size() - 1) / 2] + values[values.size() / 2]) / 2;
}

std::string range_text(const std::vector<double>& values) {
  return fixed_text(median(values), 2) + " (" + fixed_text(std::ranges::max(values), 2) + ")";
}

struct Column {
  std::vector<double> energy;
  std::vector<double> at_equal_time;
  std::vector<double> late;

  void add(const Regret& regret) {
    energy.push_back(regret.energy);
    at_equal_time.push_back(regret.at_equal_time);
    late.push_back(regret.late);
  }
};

void add_row(Table& table, const std::string& model, int count, bool is_even) {
  Column fastest;
  Column even;
  Column slower;
  std::vector<double> predicted;
  for (int seed = 1; seed <= kSeeds; ++seed) {
    Dice dice(static_cast<std::uint64_t>(seed));
    const Workload truth(hidden_truth(dice, model), {"1f1b", kMicrobatches});
    const auto [known, guess] = known_after(truth.profile(), count, is_even, dice.bits());
    fastest.add(regret_of(truth, known, {}));
    even.add(regret_of(truth, known, 1.0));
    slower.add(regret_of(truth, known, 1.05));
    predicted.push_back(guess);
  }
  table.add_row({model, std::to_string(count), is_even ? "evenly spread" : "chosen",
                 range_text(fastest.energy), range_text(fastest.at_equal_time), range_text(fastest.late),
                 range_text(slower.energy), range_text(slower.at_equal_time), range_text(slower.late),
                 is_even ? "" : fixed_text(median(predicted), 2)});
}

}  // namespace
}  // namespace slackline

int main(int argc, char** argv) {
  using namespace slackline;
  try {
    Table table({"model", "clocks", "which", "fastest: energy", "at equal time", "late", "1.00x: energy",
                 "at equal time", "1.05x: energy", "at equal time", "late", "predicted"});
    std::vector<int> counts{3, 4, 5, 6, 8, 12, 16, 38};
    if (argc > 1) counts = {std::atoi(argv[1])};
    for (const char* model : {"gpt3-175b", "bloom-176b"}) {
      for (const int count : counts) {
        add_row(table, model, count, false);
        if (count < 38) add_row(table, model, count, true);
      }
    }
    std::fputs("All in percent: median (worst) over seeds.\n", stdout);
    std::fputs(table.text().c_str(), stdout);
  } catch (const std::exception& error) {
    std::fprintf(stderr, "budget_bench: %s\n", error.what());
    return 1;
  }
}
