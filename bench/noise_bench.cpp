// What noise in a profile costs: plans are made from noisy measurements, as they are, smoothed, and as
// Perseus fits them, and judged by the noise-free truth.
#include <array>
#include <cstdio>
#include <exception>
#include <string>
#include <utility>
#include <vector>

#include "dice.h"
#include "slackline/base/number_text.h"
#include "slackline/curve/smoothing.h"
#include "slackline/profile/profile_io.h"
#include "slackline/report/table.h"
#include "slackline/schedule/perseus.h"
#include "slackline/schedule/planner.h"

namespace slackline {
namespace {

constexpr int kSeeds = 10;
constexpr int kMicrobatches = 24;

/// The truth is itself measured; smoothed, it has no noise of its own to plan on.
Profile true_profile(const std::string& model) {
  Profile profile = read_profile(SLACKLINE_SOURCE_DIR "/profiles/" + model + "-a100-sxm.yaml");
  smooth_convex(profile);
  profile.derived.clear();
  return profile;
}

Profile with_noise(Profile profile, double noise, std::uint64_t seed) {
  Dice dice(seed);
  for (StageProfile& stage : profile.stages) {
    for (auto& [kind, options] : stage.instructions) {
      for (Measurement& m : options) {
        m.time = m.time * (1 + noise * normal(dice));
        m.energy = m.energy * (1 + noise * normal(dice));
      }
    }
  }
  return profile;
}

/// Means over seeds, in percent.
struct Loss {
  double regret = 0;    // energy over the least that the truth allows in the time really taken
  double slowdown = 0;  // against the truth's all-max iteration
  double optimism = 0;  // energy really used over the predicted
};

/// Clocks, and what they are believed to use.
struct Belief {
  Clocks clocks;
  Joules energy;
};

Belief plan_exactly(const Workload& believed) {
  PlanOptions options;
  options.plans = 1;
  const Schedule schedule = make_plans(believed, options).schedule;
  const Plan& plan = schedule.plans[schedule.chosen];
  return {plan.clocks, plan.energy};
}

Belief plan_on_smooth_curves(const Workload& believed) {
  Profile profile = believed.profile();
  smooth_convex(profile);
  return plan_exactly(Workload(std::move(profile), believed.order()));
}

/// As Perseus plans: exponential curves, steps of time.
Belief plan_on_exponentials(const Workload& believed) {
  const Seconds all_max = to_seconds(believed.evaluate(believed.all_max()).time);
  const std::vector<PerseusPoint> points = perseus_frontier(believed, {Seconds(10e-3)});
  const PerseusPoint* chosen = &points.front();
  for (const PerseusPoint& point : points) {
    if (point.time <= all_max && point.energy < chosen->energy) chosen = &point;
  }
  return {chosen->clocks, chosen->energy};
}

struct Method {
  const char* name;
  Belief (*plan)(const Workload&);
};
constexpr std::array<Method, 3> kMethods{{{"none", plan_exactly},
                                          {"convex", plan_on_smooth_curves},
                                          {"exponential (Perseus)", plan_on_exponentials}}};

Loss loss_of(const Workload& truth, const Frontier& frontier, const Belief& belief, Ticks deadline) {
  const Evaluation real = truth.evaluate(belief.clocks);
  return {(real.energy / frontier.energy(real.time) - 1) * 100,
          (static_cast<double>(real.time) / static_cast<double>(deadline) - 1) * 100,
          (real.energy / belief.energy - 1) * 100};
}

void add_rows(Table& table, const std::string& model) {
  const Workload truth(true_profile(model), {"1f1b", kMicrobatches});
  const Frontier frontier = truth.frontier(solve_parametric(truth.problem()).breakpoints);
  const Ticks all_max = truth.evaluate(truth.all_max()).time;
  for (const double noise : {0.0, 0.005, 0.01, 0.02}) {
    for (const Method& method : kMethods) {
      Loss mean;
      for (int seed = 1; seed <= kSeeds; ++seed) {
        const Workload believed(with_noise(truth.profile(), noise, static_cast<std::uint64_t>(seed)),
                                truth.order());
        const Loss loss = loss_of(truth, frontier, method.plan(believed), all_max);
        mean.regret += loss.regret / kSeeds;
        mean.slowdown += loss.slowdown / kSeeds;
        mean.optimism += loss.optimism / kSeeds;
      }
      table.add_row({model, fixed_text(noise * 100, 1), method.name, fixed_text(mean.regret, 2),
                     fixed_text(mean.slowdown, 2), fixed_text(mean.optimism, 2)});
    }
  }
}

}  // namespace
}  // namespace slackline

int main() {
  using namespace slackline;
  try {
    Table table({"model", "noise (%)", "smooth", "regret (%)", "slower (%)", "energy over predicted (%)"});
    for (const char* model : {"gpt3-175b", "bloom-176b"}) add_rows(table, model);
    std::fputs(table.text().c_str(), stdout);
  } catch (const std::exception& error) {
    std::fprintf(stderr, "noise_bench: %s\n", error.what());
    return 1;
  }
}
