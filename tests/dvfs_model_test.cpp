#include "slackline/curve/dvfs_model.h"

#include <algorithm>
#include <cmath>

#include "catch.h"
#include "hidden_truth.h"

namespace slackline {
namespace {

std::vector<Measurement> at_places(const std::vector<Measurement>& options,
                                   const std::vector<std::size_t>& places) {
  std::vector<Measurement> few;
  for (const std::size_t place : places) few.push_back(options[place]);
  return few;
}

TEST_CASE("dvfs model: it goes through what was measured, to within its errors", "[dvfs]") {
  for (const char* model : {"gpt3-175b", "bloom-176b"}) {
    const Profile profile = published(model);
    const auto& options = profile.stages[3].instructions.at(InstructionKind::kBackward);
    const std::vector<Measurement> few = at_places(options, {0, 9, 20, 37});
    const DvfsModel fitted({few});
    for (const Measurement& m : few) {
      const Prediction prediction = fitted.predict(0, m.clock);
      CHECK(relative_error(prediction.time.value(), m.time.value()) < 0.01);
      CHECK(relative_error(prediction.energy.value(), m.energy.value()) < 0.01);
      CHECK(prediction.time_error / prediction.time < 0.01);
    }
  }
}

TEST_CASE("dvfs model: physics of its own form is found from few clocks", "[dvfs]") {
  const auto option = [](int mhz, double memory) {
    const double x = mhz / 1400.0;
    const double time = 0.01 * (memory + (1 - memory) / x);
    const double voltage = std::max(1.0, 1 + 0.8 * (x - 0.78));
    return Measurement{Megahertz(mhz), Seconds(time), Joules(time * (80 + 220 * x * voltage * voltage))};
  };
  const DvfsModel model({{option(1400, 0.2), option(1100, 0.2), option(800, 0.2)},
                         {option(1400, 0.5), option(1250, 0.5), option(800, 0.5)}});
  for (int mhz = 800; mhz <= 1400; mhz += 15) {
    CAPTURE(mhz);
    for (const std::size_t i : {0U, 1U}) {
      const Measurement truth = option(mhz, i == 0 ? 0.2 : 0.5);
      CHECK(relative_error(model.predict(i, Megahertz(mhz)).time.value(), truth.time.value()) < 0.01);
      CHECK(relative_error(model.predict(i, Megahertz(mhz)).energy.value(), truth.energy.value()) < 0.02);
    }
  }
}

TEST_CASE("dvfs model: on real profiles its errors cover what it did not see", "[dvfs]") {
  std::size_t covered = 0;
  std::size_t all = 0;
  for (const char* name : {"gpt3-175b", "bloom-176b"}) {
    for (const std::vector<std::size_t>& places :
         {std::vector<std::size_t>{0, 37}, {0, 5, 22, 37}, {0, 3, 8, 13, 18, 23, 30, 37}}) {
      std::vector<std::vector<Measurement>> few;
      std::vector<std::vector<Measurement>> whole;
      for (const StageProfile& stage : published(name).stages) {
        for (const auto& [kind, options] : stage.instructions) {
          few.push_back(at_places(options, places));
          whole.push_back(options);
        }
      }
      const DvfsModel model(few);
      for (std::size_t i = 0; i < whole.size(); ++i) {
        for (const Measurement& truth : whole[i]) {
          const Prediction prediction = model.predict(i, truth.clock);
          all += 2;
          if (std::abs((prediction.time - truth.time).value()) <= 2 * prediction.time_error.value())
            ++covered;
          if (std::abs((prediction.energy - truth.energy).value()) <= 2 * prediction.energy_error.value())
            ++covered;
        }
      }
    }
  }
  CHECK(static_cast<double>(covered) > 0.85 * static_cast<double>(all));
}

TEST_CASE("dvfs model: to measure a clock makes it and its neighbours surer, and none less sure", "[dvfs]") {
  const Profile profile = published(1);
  const auto& options = profile.stages[0].instructions.at(InstructionKind::kForward);
  const DvfsModel model({at_places(options, {0, 37})});
  const Megahertz measured = options[15].clock;
  for (const Measurement& m : options) {
    const Prediction before = model.predict(0, m.clock);
    const Prediction after = model.predict(0, m.clock, measured);
    CHECK(after.time == before.time);
    CHECK(after.time_error <= before.time_error);
    CHECK(after.energy_error <= before.energy_error);
  }
  CHECK(model.predict(0, measured, measured).energy_error < model.predict(0, measured).energy_error / 2);
}

TEST_CASE("dvfs model: whatever is measured, predictions are positive and finite", "[dvfs]") {
  Dice dice(11);
  for (int round = 0; round < 200; ++round) {
    std::vector<Measurement> options;
    for (int n = dice.number(1, 6); n > 0; --n) {
      Measurement m{Megahertz(dice.number(1, 3000)), Seconds(std::pow(10, dice.between(-6, 3))),
                    Joules(dice.number(0, 3) == 0 ? 0 : std::pow(10, dice.between(-3, 6)))};
      m.time_error = m.time * dice.between(0, 1);
      options.push_back(m);
    }
    const DvfsModel model({options});
    for (const int mhz : {1, 100, 1400, 3000}) {
      const Prediction prediction = model.predict(0, Megahertz(mhz), Megahertz(500));
      CHECK(prediction.time > Seconds(0));
      CHECK(prediction.energy > Joules(0));
      for (const double value : {prediction.time.value(), prediction.energy.value(),
                                 prediction.time_error.value(), prediction.energy_error.value()}) {
        CHECK(std::isfinite(value));
      }
    }
  }
}

}  // namespace
}  // namespace slackline
