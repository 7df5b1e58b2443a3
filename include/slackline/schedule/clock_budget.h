#pragma once
#include <optional>
#include <vector>

#include "slackline/base/ids.h"
#include "slackline/pipeline/order.h"
#include "slackline/profile/profile.h"

namespace slackline {

// Which clocks to measure when only a few can be.
//
// Problem. A plan needs, of every stage and kind, time t and energy e at every clock; measured are a few
// clocks a stage, the others are predicted (DvfsModel), with errors. Measure next, on each stage, the clock
// from which the plan, not the curve, gains most.
//
// Idea. The frontier of the completed profile gives at an iteration time T the price of time of every
// instruction: its flow f, in watts. By duality instruction i then runs at the option k that has the least
// r_k = c_k + f t_k, c = g (e - p t) being the effective cost, and if figures move a little, the least
// energy at T moves by the change of sum_i min_k r_k. So what is not known costs, at T,
//     regret = sum_i E[ r_chosen - min_k r_k ]
// where chosen is the least of the predicted r_k: the truth may have a better one. An error that all options
// of an instruction share costs nothing, nor does one at clocks that no optimum is near. Measuring clock c
// moves the predictions by normal steps that the model knows beforehand; its gain is the expected fall of the
// least predicted r:
//     gain(c) = sum_i ( min_k r_k - E[ min_k (r_k + step_k) ] )
// over all kinds of the stage, since one visit measures all of them (the knowledge gradient). Both are
// averaged over iteration times from the fastest to a fifth above it or T_E.
//
// Stages of one model of GPU share what they learn, so that they are decided one after the other, each as if
// the choices before it had been measured already.
//
// Limits. Prices stay as they are while predictions move: a plan could adapt, so that the regret is an upper
// bound. One step is looked ahead. Rounding to clocks that exist is left out. No model tells what a clock has
// on its own: on the published profiles, with every figure perturbed, even the exact curves without it would
// leave 0.7 % of regret at the fastest time (bench/README.md).
//
// References. Knowledge gradient: P. I. Frazier, W. B. Powell, S. Dayanik, "The knowledge-gradient policy for
// correlated normal beliefs", INFORMS Journal on Computing 21 (2009).

/// `measured` and, in every stage and kind that has a choice, every supported clock between its lowest and
/// its highest measured one that it lacks, as predicted: with errors, and marked as modelled. Highest clock
/// first. `supported[s]`: the clocks of stage s that are worth considering, in any order.
[[nodiscard]] Profile completed(const Profile& measured,
                                const std::vector<std::vector<Megahertz>>& supported);

struct NextClocks {
  /// One a stage; nothing where another clock gains nothing.
  std::vector<std::optional<Megahertz>> clocks;
  /// Of a plan from the completed profile as it is now, relative to its energy; infinite while a stage has
  /// fewer than two clocks.
  double predicted_regret = 0;
};

/// The clock that each stage should measure next: the highest, the lowest, then where the plan gains most. A
/// clock counts as measured once any kind of the stage has it; `measured` must hold measurements only.
/// InputError as Workload.
[[nodiscard]] NextClocks next_clocks(const Profile& measured,
                                     const std::vector<std::vector<Megahertz>>& supported,
                                     const OrderSpec& order);

}  // namespace slackline
