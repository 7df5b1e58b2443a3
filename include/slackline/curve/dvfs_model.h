#pragma once
#include <cstddef>
#include <memory>
#include <optional>
#include <vector>

#include "slackline/profile/profile.h"

namespace slackline {

/// What a clock that was not measured is expected to give. Its errors are the standard deviations of what
/// measuring would show.
struct Prediction {
  Seconds time;
  Joules energy;
  Seconds time_error;
  Joules energy_error;
};

/// Times and energies of instructions as functions of the clock (dynamic voltage and frequency scaling),
/// learned from a few clocks.
///
/// Problem. Instructions i of GPUs of one model were measured at some clocks f each, not the same ones. What
/// do they take at the others?
///
/// Idea. With x = f / highest clock: time t_i = t_i(1) (a_i + b_i / x), a part that waits for memory and one
/// that computes; power P_i = P_i(1) (c_i + d_i v(x)), leakage and switching, with v(x) = x V(x)^2 and a
/// voltage V(x) = max(1, 1 + k (x - x0)) that has a floor: below x0 power falls only linearly. x0 and k
/// belong to the chip and are those of greatest likelihood on a grid. What this leaves is a smooth curve that
/// all instructions share (it is the chip's), plus a smaller one of each, plus the error of measuring:
/// Gaussian processes with a Matern 3/2 kernel, so that the whole is one linear prediction (kriging) with a
/// covariance. It goes through what was measured as closely as the errors say, and is a plain physical fit
/// where nothing was.
///
/// References. V(x): A. Miyoshi et al., "Critical power slope", ICS 2002, and every datasheet since; kriging:
/// C. E. Rasmussen, C. K. I. Williams, "Gaussian Processes for Machine Learning", 2006, chapter 2.
///
/// O(n^3) for n measurements. Same input, same result.
class DvfsModel {
 public:
  /// Measurements of each instruction, at least one each; those that are modelled themselves do not count.
  explicit DvfsModel(const std::vector<std::vector<Measurement>>& instructions);
  DvfsModel(DvfsModel&&) noexcept;
  DvfsModel& operator=(DvfsModel&&) noexcept;
  ~DvfsModel();

  /// `also`: as sure as if this clock of the same instruction had been measured, too, and had given what is
  /// predicted. Values are always positive.
  [[nodiscard]] Prediction predict(std::size_t instruction, Megahertz clock,
                                   std::optional<Megahertz> also = {}) const;

 private:
  class Field;
  struct Scale {
    Seconds time;
    Watts power;
  };
  Megahertz highest_;
  std::vector<Scale> scales_;  // of each instruction, at its highest clock
  std::unique_ptr<Field> time_;
  std::unique_ptr<Field> power_;
};

}  // namespace slackline
