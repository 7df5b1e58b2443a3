#include "slackline/schedule/clock_budget.h"

#include <algorithm>
#include <array>
#include <iterator>
#include <limits>
#include <map>
#include <set>
#include <string>
#include <utility>

#include "slackline/curve/dvfs_model.h"
#include "slackline/schedule/workload.h"

namespace slackline {
namespace {

/// Iteration times that are looked at, over the fastest: closer together where time is dearest.
constexpr std::array kSlowdowns{1.0, 1.0025, 1.005, 1.01, 1.02, 1.05, 1.1, 1.2};
/// Truths that are drawn for the regret.
constexpr int kDraws = 64;
/// A gain below this part of the energy is none.
constexpr double kLeastGain = 1e-9;

/// A step of time and one of energy, both standard normal: exact for polynomials up to the fifth degree (a
/// centre and a hexagon: A. H. Stroud, "Approximate Calculation of Multiple Integrals", 1971).
struct Node {
  double time;
  double energy;
  double weight;
};
constexpr double kHeight = 1.7320508075688772;
constexpr std::array<Node, 7> kNodes{{{0, 0, 0.5},
                                      {2, 0, 1.0 / 12},
                                      {-2, 0, 1.0 / 12},
                                      {1, kHeight, 1.0 / 12},
                                      {-1, kHeight, 1.0 / 12},
                                      {1, -kHeight, 1.0 / 12},
                                      {-1, -kHeight, 1.0 / 12}}};

bool has_choice(InstructionKind kind) {
  return !is_fixed_time(kind);
}

std::set<Megahertz> measured_clocks(const StageProfile& stage) {
  std::set<Megahertz> clocks;
  for (const auto& [kind, options] : stage.instructions) {
    if (!has_choice(kind)) continue;
    for (const Measurement& m : options) clocks.insert(m.clock);
  }
  return clocks;
}

std::set<Megahertz> candidates(const StageProfile& stage, const std::vector<Megahertz>& supported) {
  std::set<Megahertz> clocks(supported.begin(), supported.end());
  for (const Megahertz clock : measured_clocks(stage)) clocks.erase(clock);
  return clocks;
}

/// The highest, then the lowest; nothing once a stage has two clocks.
std::optional<Megahertz> end_to_measure(const StageProfile& stage, const std::set<Megahertz>& left) {
  const std::size_t measured = measured_clocks(stage).size();
  if (measured >= 2 || left.empty()) return std::nullopt;
  return measured == 0 ? *left.rbegin() : *left.begin();
}

/// Where a series of the model is in the profile.
struct Origin {
  std::size_t stage;
  InstructionKind kind;
  ConfigId label;

  auto operator<=>(const Origin&) const = default;
};

/// A model for each model of GPU, since what GPUs have in common they have by their kind.
class Models {
 public:
  explicit Models(const Profile& measured) {
    for (std::size_t s = 0; s < measured.stages.size(); ++s) {
      const StageProfile& stage = measured.stages[s];
      for (const auto& [kind, options] : stage.instructions) {
        if (!has_choice(kind)) continue;
        std::vector<DvfsModel::Series>& series = measured_[stage.gpu];
        for (const auto& [label, of_label] : by_label(options)) {
          places_[{s, kind, label}] = {stage.gpu, series.size()};
          series.push_back({kind, of_label});
        }
      }
    }
    for (const auto& [gpu, series] : measured_) models_.emplace(gpu, series);
  }

  struct Place {
    std::string gpu;
    std::size_t series = 0;
  };
  [[nodiscard]] const Place& place(const Origin& origin) const { return places_.at(origin); }
  [[nodiscard]] const DvfsModel& model(const Place& place) const { return models_.at(place.gpu); }

  /// As if all kinds of the stage had been measured at `clock` and were as predicted: the errors shrink, the
  /// predictions stay.
  void assume(std::size_t stage, Megahertz clock) {
    std::set<std::string> changed;
    for (const auto& [origin, at] : places_) {
      if (origin.stage != stage) continue;
      std::vector<Measurement>& measured = measured_.at(at.gpu)[at.series].measured;
      Measurement assumed = measured.front();  // its errors, relative
      const DvfsModel::Prediction p = model(at).predict(at.series, {clock}).front();
      assumed.clock = clock;
      assumed.time_error = assumed.time_error * (p.time / assumed.time);
      if (assumed.energy > Joules(0)) {
        assumed.energy_error = assumed.energy_error * (p.energy / assumed.energy);
      }
      assumed.time = p.time;
      assumed.energy = p.energy;
      measured.push_back(assumed);
      changed.insert(at.gpu);
    }
    for (const std::string& gpu : changed) models_.insert_or_assign(gpu, DvfsModel(measured_.at(gpu)));
  }

 private:
  std::map<std::string, std::vector<DvfsModel::Series>> measured_;
  std::map<std::string, DvfsModel> models_;
  std::map<Origin, Place> places_;
};

/// What instructions of a kind pay for a second, how many of them, at all the times that are looked at.
using Prices = std::map<Microwatts, double>;

/// Options with one label as they are believed to be.
struct Series {
  Models::Place place;
  std::vector<Megahertz> clocks;
  std::vector<DvfsModel::Prediction> options;
};

/// A kind of a stage: options, and the prices at which its instructions choose among them.
struct Choice {
  std::vector<Series> series;
  Prices prices;
  double gpus = 1;
  double blocking_w = 0;

  /// r = gpus * (energy + seconds_w * time) for an instruction that pays `price`.
  [[nodiscard]] double seconds_w(Microwatts price) const {
    return static_cast<double>(price) / kMicrowattsPerWatt / gpus - blocking_w;
  }
};

Choice make_choice(const Models& models, const Profile& completed_profile, std::size_t stage,
                   InstructionKind kind) {
  const StageProfile& profile = completed_profile.stages[stage];
  Choice choice;
  choice.gpus = profile.tensor_parallel;
  choice.blocking_w = profile.blocking_power->value();
  for (const auto& [label, options] : by_label(profile.instructions.at(kind))) {
    Series series{models.place({stage, kind, label}), {}, {}};
    for (const Measurement& m : options) series.clocks.push_back(m.clock);
    series.options = models.model(series.place).predict(series.place.series, series.clocks);
    choice.series.push_back(std::move(series));
  }
  return choice;
}

double least(const Series& series, double seconds_w) {
  double least = std::numeric_limits<double>::infinity();
  for (const DvfsModel::Prediction& option : series.options) {
    least = std::min(least, option.energy.value() + seconds_w * option.time.value());
  }
  return least;
}

/// For each of `next`: how much less the instructions are expected to cost once it was measured.
std::vector<double> gains_of(const Models& models, const Choice& choice, const std::vector<Megahertz>& next) {
  std::vector<double> gains(next.size());
  // Labels are measured together, but are taken one by one: each against the best of the others as believed.
  for (std::size_t s = 0; s < choice.series.size(); ++s) {
    const Series& series = choice.series[s];
    auto steps = models.model(series.place).shifts(series.place.series, series.clocks, next);
    for (auto& of_next : steps) {
      for (std::size_t k = 0; k < of_next.size(); ++k) {
        of_next[k].time *= series.options[k].time.value();
        of_next[k].energy *= series.options[k].energy.value();
      }
    }
    for (const auto& [price, count] : choice.prices) {
      const double seconds_w = choice.seconds_w(price);
      double others = std::numeric_limits<double>::infinity();
      for (std::size_t o = 0; o < choice.series.size(); ++o) {
        if (o != s) others = std::min(others, least(choice.series[o], seconds_w));
      }
      std::vector<double> believed;
      for (const DvfsModel::Prediction& option : series.options) {
        believed.push_back(option.energy.value() + seconds_w * option.time.value());
      }
      const double now = std::min(others, least(series, seconds_w));
      for (std::size_t c = 0; c < next.size(); ++c) {
        double expected = 0;
        for (const Node& node : kNodes) {
          double lowest = others;
          for (std::size_t k = 0; k < believed.size(); ++k) {
            const DvfsModel::Shift& step = steps[c][k];
            lowest =
                std::min(lowest, believed[k] + node.energy * step.energy + seconds_w * node.time * step.time);
          }
          expected += node.weight * lowest;
        }
        gains[c] += count * choice.gpus * (now - expected);
      }
    }
  }
  return gains;
}

/// What the instructions are expected to cost above the least that the truth would allow.
double regret_of(const Models& models, const Choice& choice) {
  std::vector<std::vector<std::vector<DvfsModel::Shift>>> draws;
  for (const Series& series : choice.series) {
    draws.push_back(models.model(series.place).draws(series.place.series, series.clocks, kDraws));
  }
  double regret = 0;
  for (const auto& [price, count] : choice.prices) {
    const double seconds_w = choice.seconds_w(price);
    for (std::size_t d = 0; d < kDraws; ++d) {
      double believed_least = std::numeric_limits<double>::infinity();
      double chosen = 0;
      double true_least = believed_least;
      for (std::size_t s = 0; s < choice.series.size(); ++s) {
        for (std::size_t k = 0; k < choice.series[s].options.size(); ++k) {
          const double energy_j = choice.series[s].options[k].energy.value();
          const double time_s = choice.series[s].options[k].time.value();
          const DvfsModel::Shift& shift = draws[s][d][k];
          const double believed = energy_j + seconds_w * time_s;
          const double truth = energy_j * (1 + shift.energy) + seconds_w * time_s * (1 + shift.time);
          if (believed < believed_least) {
            believed_least = believed;
            chosen = truth;
          }
          true_least = std::min(true_least, truth);
        }
      }
      regret += count * choice.gpus * (chosen - true_least) / kDraws;
    }
  }
  return regret;
}

/// The choices of each stage, and the energy to which gains and regrets are relative.
struct Choices {
  std::vector<std::vector<Choice>> stages;
  double energy_j = 0;
};

Choices make_choices(const Models& models, const Workload& workload) {
  const Problem problem = workload.problem();
  const Frontier frontier = workload.frontier(solve_parametric(problem).breakpoints);
  std::vector<Ticks> times;
  for (const double slowdown : kSlowdowns) {
    const auto time = static_cast<Ticks>(static_cast<double>(frontier.fastest()) * slowdown);
    times.push_back(std::min(time, frontier.least_energy_time()));
  }
  const std::vector<Optimum> optima = solve_parametric(problem, times).optima;

  std::map<std::pair<std::size_t, InstructionKind>, Prices> prices;
  Choices choices;
  for (std::size_t k = 0; k < times.size(); ++k) {
    choices.energy_j += frontier.energy(times[k]).value();
    for (InstructionIndex i = 0; i < workload.dag().size(); ++i) {
      const Instruction& instruction = workload.dag().instructions()[i];
      if (!has_choice(instruction.kind)) continue;
      prices[{instruction.stage.index(), instruction.kind}][optima[k].flow[i]] += 1;
    }
  }
  choices.stages.resize(workload.profile().stages.size());
  for (auto& [at, of_kind] : prices) {
    Choice choice = make_choice(models, workload.profile(), at.first, at.second);
    choice.prices = std::move(of_kind);
    choices.stages[at.first].push_back(std::move(choice));
  }
  return choices;
}

/// The supported clocks between the ends of `series` that it lacks.
std::vector<Megahertz> lacking_clocks(const std::vector<Measurement>& series,
                                      const std::set<Megahertz>& supported) {
  std::set<Megahertz> clocks;
  for (const Measurement& m : series) clocks.insert(m.clock);
  std::vector<Megahertz> lacking;
  std::copy_if(supported.begin(), supported.end(), std::back_inserter(lacking), [&](Megahertz clock) {
    return *clocks.begin() < clock && clock < *clocks.rbegin() && !clocks.contains(clock);
  });
  return lacking;
}

Profile completed_by(const Models& models, Profile profile,
                     const std::vector<std::vector<Megahertz>>& supported) {
  for (std::size_t s = 0; s < profile.stages.size(); ++s) {
    const std::set<Megahertz> clocks(supported[s].begin(), supported[s].end());
    for (auto& [kind, options] : profile.stages[s].instructions) {
      if (!has_choice(kind)) continue;
      for (const auto& [label, series] : by_label(options)) {
        const Models::Place& place = models.place({s, kind, label});
        const std::vector<Megahertz> lacking = lacking_clocks(series, clocks);
        for (const DvfsModel::Prediction& p : models.model(place).predict(place.series, lacking)) {
          Measurement added{p.clock, p.time, p.energy, label, p.time_deviation, p.energy_deviation};
          added.is_modelled = true;
          options.push_back(added);
        }
      }
      std::stable_sort(options.begin(), options.end(),
                       [](const Measurement& a, const Measurement& b) { return b.clock < a.clock; });
    }
    std::erase_if(profile.stages[s].instructions, [](const auto& entry) { return entry.second.empty(); });
  }
  return profile;
}

}  // namespace

Profile completed(const Profile& measured, const std::vector<std::vector<Megahertz>>& supported) {
  return completed_by(Models(measured), measured, supported);
}

NextClocks next_clocks(const Profile& measured, const std::vector<std::vector<Megahertz>>& supported,
                       const OrderSpec& order) {
  NextClocks next;
  next.clocks.resize(measured.stages.size());
  bool has_ends = true;
  for (std::size_t s = 0; s < measured.stages.size(); ++s) {
    const StageProfile& stage = measured.stages[s];
    next.clocks[s] = end_to_measure(stage, candidates(stage, supported[s]));
    if (next.clocks[s]) has_ends = false;
  }
  if (!has_ends) {
    next.predicted_regret = std::numeric_limits<double>::infinity();
    return next;
  }

  Models models(measured);
  const Workload workload(completed_by(models, measured, supported), order);
  const Choices choices = make_choices(models, workload);
  for (const auto& stage : choices.stages) {
    for (const Choice& choice : stage) next.predicted_regret += regret_of(models, choice) / choices.energy_j;
  }
  for (std::size_t s = 0; s < measured.stages.size(); ++s) {
    const std::set<Megahertz> left = candidates(measured.stages[s], supported[s]);
    const std::vector<Megahertz> clocks(left.begin(), left.end());
    std::vector<double> gains(clocks.size());
    for (const Choice& choice : choices.stages[s]) {
      const std::vector<double> of_kind = gains_of(models, choice, clocks);
      for (std::size_t c = 0; c < clocks.size(); ++c) gains[c] += of_kind[c];
    }
    const auto most = std::max_element(gains.begin(), gains.end());
    if (most == gains.end() || *most <= kLeastGain * choices.energy_j) continue;
    next.clocks[s] = clocks[static_cast<std::size_t>(most - gains.begin())];
    // What this stage learns the stages after it know, so that they look elsewhere.
    models.assume(s, *next.clocks[s]);
  }
  return next;
}

}  // namespace slackline
