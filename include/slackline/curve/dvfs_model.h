#pragma once
#include <memory>
#include <vector>

#include "slackline/base/ids.h"
#include "slackline/base/quantity.h"
#include "slackline/profile/profile.h"

namespace slackline {

// Time and energy of an instruction at clocks that were not measured, and how far they may be off.
//
// Problem. Series of measurements - a kind on a stage - are given at a few clocks f each: times t and
// energies e with standard errors. Predict t and e at other clocks, with errors that can be believed: where
// to measure next is decided by them.
//
// Idea. With v = f / (highest measured clock), the physics of frequency scaling says roughly
//     t(v) ~ m + (1 - m) / v             what waits for memory does not see the clock
//     p(v) ~ s + (1 - s) v^3             static, and dynamic c f V^2 with a voltage that follows the clock
// and e = p t. GPUs depart from it smoothly: the voltage has a floor, a power cap holds the clock down. And
// they depart from it roughly: a clock has a few tenths of a percent of its own of which its neighbours tell
// nothing, yet which is there whenever one measures. So, for y the logarithm of the time or of the energy,
//     y(f) = physics(v) + level + departure(f),     departure(f) = b log v + smooth(log v) + own(f)
// where the level is free, b is normal around 0, "smooth" is a Gaussian process with a Matern 5/2 kernel and
// "own" is independent from clock to clock. The departure is a sum of three such, one that all series have in
// common, one of the kind and one of the series: the series run on one model of GPU, whose voltages are the
// same for all, so that each learns from the others' clocks. All is normal, and the prediction and its error
// are linear algebra: universal kriging with priors on the trend. Few clocks leave more to the priors, and
// the errors say so.
//
// Where what was measured departs from the physics more than the priors expect, all errors grow by as much: a
// GPU whose time rises at its highest clocks is followed, with caution.
//
// Limits. The priors are the likeliest on published A100 sweeps (855 to 1410 MHz in steps of 15, GPT-3 and
// BLOOM), rounded, with more room for a series than those sweeps ask for, whose stages are much alike. A
// plain c f V^2 with the best coefficients misses these sweeps by 3 %, and cubic polynomials by 1.6 %.
// Outside the measured clocks the errors grow quickly. Time and energy are taken as independent. O(n^3) for n
// measurements.
//
// References. C. E. Rasmussen, C. K. I. Williams, "Gaussian Processes for Machine Learning", 2006,
// chapters 2.2, 2.7 and 4.2; N. A. C. Cressie, "Statistics for Spatial Data", 1993, chapter 3 (kriging).
class DvfsModel {
 public:
  /// What was measured of one kind with one label on one stage: at least one clock, all above 0.
  struct Series {
    InstructionKind kind;
    std::vector<Measurement> measured;
  };
  /// The true figures at a clock, as far as they are known: of what was measured too, an error remains. No
  /// deviation is above its figure.
  struct Prediction {
    Megahertz clock;
    Seconds time;
    Joules energy;
    Seconds time_deviation;
    Joules energy_deviation;
  };
  /// Relative to the prediction.
  struct Shift {
    double time = 0;
    double energy = 0;
  };

  /// All of one model of GPU; at least one.
  explicit DvfsModel(const std::vector<Series>& measured);

  [[nodiscard]] std::vector<Prediction> predict(std::size_t series,
                                                const std::vector<Megahertz>& clocks) const;
  /// For each of `next`: how far the predictions at `clocks` will move, as standard deviations, when it is
  /// measured as well as the others were. The sign is that of the move when it turns out higher than
  /// predicted, so that all move together; the variance that remains is the variance less the square of this.
  [[nodiscard]] std::vector<std::vector<Shift>> shifts(std::size_t series,
                                                       const std::vector<Megahertz>& clocks,
                                                       const std::vector<Megahertz>& next) const;
  /// What the relative departures of the truth from the predictions could be: `count` draws of one Shift a
  /// clock, alike in every run.
  [[nodiscard]] std::vector<std::vector<Shift>> draws(std::size_t series,
                                                      const std::vector<Megahertz>& clocks, int count) const;

 private:
  struct Kriging;

  Megahertz highest_;
  std::shared_ptr<const Kriging> time_;
  std::shared_ptr<const Kriging> energy_;
};

}  // namespace slackline
