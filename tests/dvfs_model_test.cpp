#include "slackline/curve/dvfs_model.h"

#include <algorithm>
#include <cmath>
#include <limits>

#include "catch.h"
#include "hidden_truth.h"
#include "slackline/profile/profile_io.h"

namespace slackline {
namespace {

using Series = DvfsModel::Series;

constexpr auto kForward = InstructionKind::kForward;
constexpr auto kBackward = InstructionKind::kBackward;

Measurement measurement(int clock, double time, double energy, double error = 0) {
  return {Megahertz(clock), Seconds(time), Joules(energy), {}, Seconds(time * error), Joules(energy * error)};
}

DvfsModel::Prediction predict(const DvfsModel& model, int clock, std::size_t series = 0) {
  return model.predict(series, {Megahertz(clock)}).front();
}

double relative(double value, double expected) {
  return std::abs(value / expected - 1);
}

/// A GPU that does as physics has it, but is neither of those in the published profiles nor of the priors.
Measurement ideal(int clock, double size = 1) {
  const double share = clock / 1980.0;
  const double time = size * 0.02 * (0.25 + 0.75 / share);
  return measurement(clock, time, time * (180 + 400 * std::pow(share, 2.7)), 1e-4);
}

TEST_CASE("dvfs model: what was measured well is reproduced", "[curve]") {
  std::vector<Measurement> measured;
  for (const int clock : {1980, 1500, 1200, 990, 810}) measured.push_back(ideal(clock));
  measured[2].energy = measured[2].energy * 1.01;  // of its own
  const DvfsModel model({{kForward, measured}});
  for (const Measurement& m : measured) {
    const DvfsModel::Prediction p = predict(model, m.clock.value());
    CHECK(relative(p.time.value(), m.time.value()) < 1e-3);
    CHECK(relative(p.energy.value(), m.energy.value()) < 1e-3);
    CHECK(p.time_deviation < p.time * 2e-4);
    CHECK(p.energy_deviation < p.energy * 2e-4);
  }
}

TEST_CASE("dvfs model: few clocks give the physics; fewer, larger errors", "[curve]") {
  const auto model_of = [](const std::vector<int>& clocks) {
    std::vector<Measurement> measured;
    for (const int clock : clocks) measured.push_back(ideal(clock));
    return DvfsModel({{kForward, measured}});
  };
  const DvfsModel one = model_of({1980});
  const DvfsModel two = model_of({1980, 990});
  const DvfsModel four = model_of({1980, 1605, 1290, 990});
  for (int clock = 1965; clock > 1000; clock -= 15) {
    CAPTURE(clock);
    const Measurement truth = ideal(clock);
    const auto is_near = [&](const DvfsModel& model, double time, double energy) {
      const DvfsModel::Prediction p = predict(model, clock);
      return relative(p.time.value(), truth.time.value()) < time &&
             relative(p.energy.value(), truth.energy.value()) < energy;
    };
    CHECK(is_near(one, 0.15, 0.2));
    CHECK(is_near(two, 0.02, 0.03));
    CHECK(is_near(four, 0.002, 0.006));
    const auto deviation = [&](const DvfsModel& model) {
      const DvfsModel::Prediction p = predict(model, clock);
      return std::pair{p.time_deviation / p.time, p.energy_deviation / p.energy};
    };
    CHECK(deviation(one).first > deviation(two).first);
    CHECK(deviation(one).second > deviation(two).second);
    CHECK(deviation(two).first >= deviation(four).first);
    CHECK(deviation(two).second >= deviation(four).second);
  }
}

TEST_CASE("dvfs model: a series learns from the clocks of the others", "[curve]") {
  std::vector<Measurement> all;
  for (int clock = 1980; clock >= 990; clock -= 30) {
    Measurement m = ideal(clock);
    if (clock > 1800) m.time = ideal(1800).time * (1 + (clock - 1800) * 1e-4);  // a power cap: slower again
    all.push_back(m);
  }
  const std::vector<Measurement> ends{all.front(), all.back()};
  const DvfsModel alone({{kForward, ends}});
  const DvfsModel together({{kForward, ends}, {kForward, all}});
  for (const Measurement& m : all) {
    if (m.clock.value() <= 1800) continue;
    const double error = relative(predict(together, m.clock.value()).time.value(), m.time.value());
    CHECK(error < 0.005);
    CHECK(predict(together, m.clock.value()).time_deviation <=
          predict(alone, m.clock.value()).time_deviation);
  }
  // And where it was measured itself, it follows a time that rises with the clock.
  CHECK(predict(together, 1980, 1).time > predict(together, 1830, 1).time);
}

TEST_CASE("dvfs model: the errors cover the published sweeps", "[curve]") {
  Dice dice(7);
  for (const std::string name : {"gpt3-175b", "bloom-176b"}) {
    const Profile published = read_profile(SLACKLINE_SOURCE_DIR "/profiles/" + name + "-a100-sxm.yaml");
    for (const std::size_t count : {3U, 5U, 8U}) {
      const Profile truth = hidden_truth(published, dice);
      const Profile sweep = measurements(truth, dice);
      std::vector<Series> series;
      std::vector<const std::vector<Measurement>*> truths;
      for (std::size_t s = 0; s < truth.stages.size(); ++s) {
        for (const InstructionKind kind : {kForward, kBackward}) {
          const std::vector<Measurement>& options = sweep.stages[s].instructions.at(kind);
          Series some{kind, {options.front(), options.back()}};
          while (some.measured.size() < count) {
            const Measurement& m = options[static_cast<std::size_t>(dice.number(1, 36))];
            if (std::find(some.measured.begin(), some.measured.end(), m) == some.measured.end()) {
              some.measured.push_back(m);
            }
          }
          series.push_back(std::move(some));
          truths.push_back(&truth.stages[s].instructions.at(kind));
        }
      }
      const DvfsModel model(series);
      int all = 0, times = 0, energies = 0;
      double time_squares = 0, energy_squares = 0;
      for (std::size_t s = 0; s < series.size(); ++s) {
        for (const Measurement& m : *truths[s]) {
          const DvfsModel::Prediction p = predict(model, m.clock.value(), s);
          const double time_off = (m.time - p.time) / p.time_deviation;
          const double energy_off = (m.energy - p.energy) / p.energy_deviation;
          ++all;
          times += std::abs(time_off) < 2;
          energies += std::abs(energy_off) < 2;
          time_squares += time_off * time_off;
          energy_squares += energy_off * energy_off;
        }
      }
      CAPTURE(name, count, times, energies, all, time_squares / all, energy_squares / all);
      CHECK(times > 0.85 * all);
      CHECK(energies > 0.85 * all);
      // Nor are they timid.
      CHECK(time_squares > 0.3 * all);
      CHECK(energy_squares > 0.3 * all);
    }
  }
}

TEST_CASE("dvfs model: a shift is what measuring takes from the variance", "[curve]") {
  const std::vector<Measurement> measured{ideal(1980), ideal(1500), ideal(990)};
  const DvfsModel before({{kForward, measured}});
  std::vector<Measurement> more = measured;
  const DvfsModel::Prediction p = predict(before, 1245);
  more.push_back(measurement(1245, p.time.value(), p.energy.value(), 1e-4));
  const DvfsModel after({{kForward, more}});
  const std::vector<Megahertz> clocks{Megahertz(1800), Megahertz(1260), Megahertz(1245), Megahertz(1110)};
  const std::vector<DvfsModel::Shift> shifts = before.shifts(0, clocks, {Megahertz(1245)}).front();
  const std::vector<DvfsModel::Prediction> then = after.predict(0, clocks);
  const std::vector<DvfsModel::Prediction> now = before.predict(0, clocks);
  for (std::size_t k = 0; k < clocks.size(); ++k) {
    CAPTURE(clocks[k].value());
    CHECK(relative(then[k].time.value(), now[k].time.value()) < 1e-9);  // it was as expected
    const double left = std::pow(now[k].time_deviation / now[k].time, 2) - std::pow(shifts[k].time, 2);
    CHECK(std::abs(left - std::pow(then[k].time_deviation / then[k].time, 2)) < 1e-9);
    const double energy_left =
        std::pow(now[k].energy_deviation / now[k].energy, 2) - std::pow(shifts[k].energy, 2);
    CHECK(std::abs(energy_left - std::pow(then[k].energy_deviation / then[k].energy, 2)) < 1e-9);
  }
}

TEST_CASE("dvfs model: draws spread as the errors say, and are alike in every run", "[curve]") {
  const DvfsModel model({{kForward, {ideal(1980), ideal(990)}}});
  const std::vector<Megahertz> clocks{Megahertz(1800), Megahertz(1400), Megahertz(1385)};
  constexpr int kCount = 4000;
  const auto draws = model.draws(0, clocks, kCount);
  REQUIRE(draws.size() == kCount);
  for (std::size_t k = 0; k < clocks.size(); ++k) {
    double time = 0, energy = 0;
    for (const auto& draw : draws) {
      time += draw[k].time * draw[k].time / kCount;
      energy += draw[k].energy * draw[k].energy / kCount;
    }
    const DvfsModel::Prediction p = model.predict(0, clocks)[k];
    CHECK(relative(std::sqrt(time), p.time_deviation / p.time) < 0.05);
    CHECK(relative(std::sqrt(energy), p.energy_deviation / p.energy) < 0.05);
  }
  CHECK(model.draws(0, clocks, 1)[0][1].time == model.draws(0, clocks, 1)[0][1].time);
}

TEST_CASE("dvfs model: whatever was measured, predictions are positive and finite", "[curve]") {
  const std::vector<std::vector<Measurement>> nasty{
      {measurement(1410, 1, 100)},
      {measurement(1410, 1, 100), measurement(855, 1, 100)},                          // equal
      {measurement(1410, 1, 100, 50), measurement(855, 2, 90, 50)},                   // errors beyond belief
      {measurement(1410, 1, 0), measurement(1200, 1.1, 50), measurement(855, 2, 0)},  // no energy
      {measurement(1410, 1, 0), measurement(855, 2, 0)},
      {measurement(1410, 1, 100), measurement(1410, 1.5, 70), measurement(855, 2, 90)},  // a clock twice
      {measurement(1410, 1e-9, 1e-9), measurement(1395, 1e5, 1e9), measurement(855, 2e-9, 1e-9)},
      {measurement(1410, 1.5, 100), measurement(1395, 1.2, 80), measurement(1, 900, 5e4)},
  };
  for (std::size_t n = 0; n < nasty.size(); ++n) {
    const DvfsModel model({{kForward, nasty[n]}});
    for (const int clock : {1, 210, 855, 1100, 1395, 1410, 2000}) {
      CAPTURE(n, clock);
      const DvfsModel::Prediction p = predict(model, clock);
      for (const double value : {p.time.value(), p.energy.value()}) {
        CHECK(std::isfinite(value));
        CHECK(value > 0);
      }
      CHECK((p.time_deviation >= Seconds(0) && p.time_deviation <= p.time));
      CHECK((p.energy_deviation >= Joules(0) && p.energy_deviation <= p.energy));
      const auto shifts = model.shifts(0, {Megahertz(900)}, {Megahertz(clock)});
      CHECK(std::isfinite(shifts[0][0].time));
      CHECK(std::isfinite(shifts[0][0].energy));
    }
  }
}

}  // namespace
}  // namespace slackline
