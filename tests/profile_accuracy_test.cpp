// How far a profile is from the truth that the simulated GPUs hide, with all that real ones do: a slow
// counter, noise, a latency, throttling, leakage.
#include <algorithm>
#include <random>

#include "hidden_truth.h"
#include "slackline/schedule/workload.h"
#include "workplace.h"

namespace slackline {
namespace {

constexpr std::size_t kStages = 8;
constexpr int kMicrobatches = 8;
constexpr double kLeakage = 0.03;
/// About as long as a full sweep takes.
constexpr double kLeakageSeconds = 4100;

const std::string kTroubles =
    ",tick_ms=100,switch_ms=10,noise=0.01,energy_noise=0.01,throttle=0.02,throttle_mhz=1110"
    ",leakage=0.03,leakage_s=4100,seed=";

struct Deviations {
  std::vector<double> relative;
  std::size_t covered = 0;

  void add(double measured, double error, double truth) {
    relative.push_back(relative_error(measured, truth));
    if (std::abs(measured - truth) <= 1.96 * error) ++covered;
  }
  [[nodiscard]] double quantile(double part) {
    std::ranges::sort(relative);
    return relative[static_cast<std::size_t>(part * static_cast<double>(relative.size() - 1))];
  }
  [[nodiscard]] double coverage() const {
    return static_cast<double>(covered) / static_cast<double>(relative.size());
  }
};

TEST_CASE("accuracy: a full sweep finds times, energies and blocking power, and how well it knows them",
          "[accuracy]") {
  const auto seed = std::random_device{}();
  CAPTURE(seed);
  Dice dice(seed);
  const Workplace place;
  const Profile truth = hidden_truth(published(kStages), dice);
  const std::string device = place.device(truth, kTroubles + std::to_string(dice.number(1, 1 << 30)));
  const ChildResult result = place.with_job({"profile", "--device", device, "-o", place.file("mine.yaml")},
                                            kMicrobatches, 0, static_cast<int>(kStages));
  INFO(result.err);
  REQUIRE(result.status == 0);
  const Profile mine = read_profile(place.file("mine.yaml"));
  REQUIRE(mine.stages.size() == kStages);
  const double duration = mine.stages[0].notes->duration.value();
  CAPTURE(duration);
  CHECK(relative_error(duration, kLeakageSeconds) < 0.25);
  // At the middle of the measuring; its begin is one step after that of time.
  const double leakage = 1 + kLeakage * (duration / 2 + 25) / kLeakageSeconds;

  Deviations times;
  Deviations energies;
  Deviations second_energies;
  Deviations blocking;
  for (std::size_t s = 0; s < kStages; ++s) {
    const StageProfile& stage = mine.stages[s];
    for (const auto& [kind, options] : stage.instructions) {
      CHECK(options.size() >= 30);
      for (const Measurement& m : options) {
        const Measurement* const real = find_measurement(truth.stages[s], kind, m.clock);
        REQUIRE(real != nullptr);
        times.add(m.time.value(), m.time_error.value(), real->time.value());
        energies.add(m.energy.value(), m.energy_error.value(), real->energy.value() * leakage);
        second_energies.add(m.second_energy.value(), m.second_energy_error.value(),
                            real->energy.value() * leakage);
      }
    }
    REQUIRE(stage.blocking_power);
    blocking.add(stage.blocking_power->value(), stage.notes->blocking_error.value(),
                 truth.stages[s].blocking_power->value() * leakage);
    CHECK(std::abs(stage.notes->throttled_share - 0.02) < 0.02);
    CHECK(std::abs(stage.notes->drift - kLeakage * duration / kLeakageSeconds) <
          0.005 + 3 * stage.notes->drift_error);
  }
  CAPTURE(times.quantile(0.5), times.quantile(0.95), times.coverage(), energies.quantile(0.5),
          energies.quantile(0.95), energies.coverage(), second_energies.quantile(0.5),
          second_energies.quantile(0.95), second_energies.coverage(), blocking.quantile(1));
  CHECK(times.quantile(0.5) < 0.005);
  CHECK(times.quantile(0.95) < 0.03);
  CHECK(times.coverage() >= 0.9);
  CHECK(energies.quantile(0.5) < 0.015);
  CHECK(energies.quantile(0.95) < 0.03);
  CHECK(energies.coverage() >= 0.9);
  CHECK(second_energies.quantile(0.5) < 0.015);
  CHECK(second_energies.coverage() >= 0.9);
  CHECK(blocking.quantile(1) < 0.01);

  // A run for each clock: a minute until it starts, and 30 steps.
  double other_seconds = 0;
  const Workload workload(truth, OrderSpec{"1f1b", kMicrobatches});
  for (const Measurement& forward : mine.stages[0].instructions.at(InstructionKind::kForward)) {
    const Clocks clocks(workload.dag().size(), forward.clock);
    other_seconds += 60 + 30 * to_seconds(workload.evaluate(clocks).time).value();
  }
  CAPTURE(other_seconds / duration);
  CHECK(other_seconds > 5 * duration);
}

}  // namespace
}  // namespace slackline
