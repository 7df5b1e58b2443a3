// What noise in a profile costs: plans are made from noisy measurements, as they are and smoothed, and judged
// by the noise-free truth.
#include <cstdio>
#include <exception>
#include <map>
#include <string>
#include <vector>

#include "dice.h"
#include "slackline/base/number_text.h"
#include "slackline/curve/smoothing.h"
#include "slackline/profile/profile_io.h"
#include "slackline/report/table.h"
#include "slackline/schedule/planner.h"

namespace slackline {
namespace {

constexpr int kSeeds = 10;
constexpr int kMicrobatches = 24;

/// Standard normal, by the sum of twelve uniform numbers: the same on every machine.
double normal(Dice& dice) {
  double sum = -6;
  for (int i = 0; i < 12; ++i) sum += dice.between(0, 1);
  return sum;
}

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

Loss loss_of(const Workload& truth, const Frontier& frontier, const Profile& planned_from, Ticks deadline) {
  const Workload believed(planned_from, truth.order());
  PlanOptions options;
  options.plans = 1;
  const Schedule schedule = make_plans(believed, options).schedule;
  const Plan& plan = schedule.plans[schedule.chosen];
  const Evaluation real = truth.evaluate(plan.clocks);
  return {(real.energy / frontier.energy(real.time) - 1) * 100,
          (static_cast<double>(real.time) / static_cast<double>(deadline) - 1) * 100,
          (real.energy / plan.energy - 1) * 100};
}

void add_rows(Table& table, const std::string& model) {
  const Workload truth(true_profile(model), {"1f1b", kMicrobatches});
  const Frontier frontier = truth.frontier(solve_parametric(truth.problem()).breakpoints);
  const Ticks all_max = truth.evaluate(truth.all_max()).time;
  for (const double noise : {0.0, 0.005, 0.01, 0.02}) {
    for (const bool smooth : {false, true}) {
      Loss mean;
      for (int seed = 1; seed <= kSeeds; ++seed) {
        Profile profile = with_noise(truth.profile(), noise, static_cast<std::uint64_t>(seed));
        if (smooth) smooth_convex(profile);
        const Loss loss = loss_of(truth, frontier, profile, all_max);
        mean.regret += loss.regret / kSeeds;
        mean.slowdown += loss.slowdown / kSeeds;
        mean.optimism += loss.optimism / kSeeds;
      }
      table.add_row({model, fixed_text(noise * 100, 1), smooth ? "convex" : "none",
                     fixed_text(mean.regret, 2), fixed_text(mean.slowdown, 2), fixed_text(mean.optimism, 2)});
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
