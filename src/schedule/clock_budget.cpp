#include "slackline/schedule/clock_budget.h"

#include <algorithm>
#include <array>
#include <cmath>
#include <functional>
#include <map>
#include <set>
#include <string>
#include <utility>

#include "slackline/curve/dvfs_model.h"
#include "slackline/schedule/planner.h"

namespace slackline {
namespace {

/// Plans that are looked at, and how much slower than the fastest they may be: what people choose from.
constexpr int kPlans = 16;
constexpr double kSlowest = 1.15;
/// A plan that knew better would use a neighbour instead: weights of options so many clocks away.
constexpr std::array kNeighbours{1.0, 0.6, 0.3, 0.1};
/// What becomes of the deviations: a plan picks the luckiest of many options. From the experiment in
/// bench/README.md.
constexpr double kRegretShare = 3;

/// An instruction of a stage.
using Place = std::pair<std::size_t, InstructionKind>;

/// Models of all instructions of a profile, a chip at a time.
class Models {
 public:
  explicit Models(const Profile& profile) {
    std::map<std::string, std::vector<std::vector<Measurement>>> chips;
    for (std::size_t s = 0; s < profile.stages.size(); ++s) {
      const StageProfile& stage = profile.stages[s];
      for (const auto& [kind, options] : stage.instructions) {
        if (is_fixed_time(kind) || options.empty()) continue;
        auto& instructions = chips[stage.gpu];
        places_[{s, kind}] = {stage.gpu, instructions.size()};
        instructions.push_back(options);
      }
    }
    for (const auto& [chip, instructions] : chips) models_.emplace(chip, DvfsModel(instructions));
  }

  [[nodiscard]] Prediction predict(std::size_t stage, InstructionKind kind, Megahertz clock,
                                   std::optional<Megahertz> also = {}) const {
    const auto& [chip, instruction] = places_.at({stage, kind});
    return models_.at(chip).predict(instruction, clock, also);
  }

 private:
  std::map<Place, std::pair<std::string, std::size_t>> places_;
  std::map<std::string, DvfsModel> models_;
};

std::set<Megahertz> clocks_measured(const StageProfile& stage) {
  std::set<Megahertz> clocks;
  for (const auto& [kind, options] : stage.instructions) {
    if (is_fixed_time(kind)) continue;
    for (const Measurement& m : options) {
      if (!m.is_modelled) clocks.insert(m.clock);
    }
  }
  return clocks;
}

Profile completed_by(const Models& models, const Profile& measured,
                     const std::vector<std::vector<Megahertz>>& supported) {
  Profile profile = measured;
  for (std::size_t s = 0; s < profile.stages.size(); ++s) {
    for (auto& [kind, options] : profile.stages[s].instructions) {
      if (is_fixed_time(kind) || options.size() < 2) continue;
      const auto [low, high] = std::ranges::minmax(options, {}, &Measurement::clock);
      for (const Megahertz clock : supported[s]) {
        if (clock <= low.clock || clock >= high.clock) continue;
        if (std::ranges::find(options, clock, &Measurement::clock) != options.end()) continue;
        const Prediction predicted = models.predict(s, kind, clock);
        Measurement m{clock, predicted.time, predicted.energy};
        // A plan takes an error above its time for nonsense.
        m.time_error = std::min(predicted.time_error, predicted.time);
        m.energy_error = predicted.energy_error;
        m.is_modelled = true;
        options.push_back(m);
      }
      std::ranges::sort(options, std::greater<>(), &Measurement::clock);
    }
  }
  return profile;
}

/// How often, on average over plans, each clock of each stage's kinds is used.
using Use = std::map<Place, std::map<Megahertz, double>>;

std::map<Place, const CostCurve*> curves_of(const Workload& workload) {
  std::map<Place, const CostCurve*> curves;
  for (InstructionIndex i = 0; i < workload.dag().size(); ++i) {
    const Instruction& instruction = workload.dag().instructions()[i];
    curves.emplace(Place(instruction.stage.index(), instruction.kind), &workload.curve(i));
  }
  return curves;
}

Use use_of(const Workload& workload, const Schedule& schedule) {
  Use use;
  double plans = 0;
  for (const Plan& plan : schedule.plans) {
    if (plan.time > schedule.fastest_time * kSlowest && &plan != &schedule.plans.front()) continue;
    // The ends and the default are what most people take.
    const bool is_default = &plan == &schedule.plans.front() || &plan == &schedule.plans[schedule.chosen];
    const double weight = is_default ? 2 : 1;
    plans += weight;
    for (InstructionIndex i = 0; i < workload.dag().size(); ++i) {
      const Instruction& instruction = workload.dag().instructions()[i];
      if (is_fixed_time(instruction.kind)) continue;
      use[{instruction.stage.index(), instruction.kind}][plan.clocks[i].mhz] += weight;
    }
  }
  for (auto& [place, clocks] : use) {
    for (auto& [clock, count] : clocks) count /= plans;
  }
  return use;
}

/// Joules saved for each second of slowing down, by one GPU, where the curve is steepest beside an option; at
/// least its power, since somebody waits for it. What an option's time may be off costs that: others have to
/// make up for it.
double steepness(const CostCurve& curve, const Measurement& option, double gpus) {
  double steepest = option.energy / option.time / Watts(1);
  const Ticks time = to_ticks(option.time);
  for (std::size_t v = 1; v < curve.hull.size(); ++v) {
    const CurveOption& faster = curve.options[curve.hull[v - 1]];
    const CurveOption& slower = curve.options[curve.hull[v]];
    if (time < faster.time || time > slower.time) continue;
    const double slope = (faster.cost - slower.cost).value() / to_seconds(slower.time - faster.time).value();
    steepest = std::max(steepest, slope / gpus);
  }
  return steepest;
}

/// The uses of a clock and, less, of those beside it.
std::map<Megahertz, double> spread(const std::map<Megahertz, double>& use,
                                   const std::vector<Megahertz>& supported) {
  std::map<Megahertz, double> result;
  for (const auto& [clock, count] : use) {
    const auto place = std::ranges::find(supported, clock) - supported.begin();
    for (std::ptrdiff_t d = 1 - std::ssize(kNeighbours); d < std::ssize(kNeighbours); ++d) {
      if (place + d < 0 || place + d >= std::ssize(supported)) continue;
      result[supported[static_cast<std::size_t>(place + d)]] +=
          count * kNeighbours[static_cast<std::size_t>(std::abs(d))];
    }
  }
  return result;
}

struct Gains {
  std::optional<Megahertz> best;
  /// Joules by which the frontier may be off because of this stage.
  double uncertainty = 0;
};

Gains gains_of(const Models& models, const Workload& workload,
               const std::map<Place, const CostCurve*>& curves, const Use& use, std::size_t s,
               const std::vector<Megahertz>& supported, const std::set<Megahertz>& known) {
  const StageProfile& stage = workload.profile().stages[s];
  const double gpus = stage.tensor_parallel;
  Gains result;
  std::map<Megahertz, double> gains;
  for (const auto& [place, clocks] : use) {
    if (place.first != s) continue;
    const InstructionKind kind = place.second;
    for (const auto& [clock, count] : spread(clocks, supported)) {
      if (known.contains(clock)) continue;
      const double steep = steepness(*curves.at(place), *find_measurement(stage, kind, clock), gpus);
      const auto deviation = [&](std::optional<Megahertz> also) {
        const Prediction prediction = models.predict(s, kind, clock, also);
        return gpus * (prediction.energy_error.value() + steep * prediction.time_error.value());
      };
      const double now = deviation({});
      if (clocks.contains(clock)) result.uncertainty += clocks.at(clock) * now;
      for (const Megahertz candidate : supported) {
        if (!known.contains(candidate)) gains[candidate] += count * (now - deviation(candidate));
      }
    }
  }
  double most = 0;
  for (const auto& [clock, gain] : gains) {  // the highest of equals: they rise
    if (gain >= most && gain > 0) {
      most = gain;
      result.best = clock;
    }
  }
  return result;
}

}  // namespace

NextClocks next_clocks(const Profile& measured, const std::vector<std::vector<Megahertz>>& supported,
                       const OrderSpec& order) {
  NextClocks next;
  std::vector<std::set<Megahertz>> known;
  for (const StageProfile& stage : measured.stages) known.push_back(clocks_measured(stage));
  bool has_ends = true;
  for (std::size_t s = 0; s < measured.stages.size(); ++s) {
    next.clocks.emplace_back();
    for (const Megahertz end : {supported[s].front(), supported[s].back()}) {
      if (known[s].contains(end)) continue;
      if (!next.clocks[s]) next.clocks[s] = end;
      has_ends = false;
    }
  }
  if (!has_ends) return next;

  const Models models(measured);
  const Workload workload(completed_by(models, measured, supported), order);
  PlanOptions options;
  options.plans = kPlans;
  const Schedule schedule = make_plans(workload, options).schedule;
  const Use use = use_of(workload, schedule);
  const std::map<Place, const CostCurve*> curves = curves_of(workload);
  Profile imagined = measured;
  double squares = 0;
  for (std::size_t s = 0; s < measured.stages.size(); ++s) {
    // What the stages before will have shown of the chip need not be looked at again.
    const Gains gains = gains_of(Models(imagined), workload, curves, use, s, supported[s], known[s]);
    squares += gains.uncertainty * gains.uncertainty;
    next.clocks[s] = gains.best;
    if (!gains.best) continue;
    for (auto& [kind, list] : imagined.stages[s].instructions) {
      if (is_fixed_time(kind)) continue;
      const Prediction expected = models.predict(s, kind, *gains.best);
      list.push_back({*gains.best, expected.time, expected.energy});
    }
  }
  const Plan& chosen = schedule.plans[schedule.chosen];
  next.predicted_regret = kRegretShare * std::sqrt(squares) / chosen.energy.value();
  return next;
}

Profile completed(const Profile& measured, const std::vector<std::vector<Megahertz>>& supported) {
  return completed_by(Models(measured), measured, supported);
}

}  // namespace slackline
