#pragma once
#include <cstddef>
#include <vector>

#include "slackline/frontier/optimum.h"
#include "slackline/schedule/workload.h"

namespace slackline {

// Problem. Options for all instructions are given that meet the deadline; find cheaper ones. In a steady
// pipeline no instruction can be changed alone: the ranks run in lockstep, so a slower forward needs a
// faster backward beside it, and the neighbour rank has to shift along.
//
// Idea. Take two neighbouring ranks, hold all other instructions where they are, and decide the options of
// the two ranks anew, in the order of time, by dynamic programming. What the others leave is a window for
// every instruction: a release and a due time. A partial solution is known by when it left each of the two
// ranks, and is rated by the Lagrangian of the relaxed optimum: its cost so far plus, for every arc from a
// decided instruction to one that is still open, flow * time. Time that is lost is thereby charged at once
// with what the bound says it is worth. Of partial solutions that end in the same cell of a grid of the two
// end times the best is kept, and of all cells a fixed number of the best. Then the next pair, which shares a
// rank with the last.
//
// Invariants. I1: the held instructions and the current options of the pair are one feasible iteration, so
// the windows admit the current options and what fits the windows meets the deadline. I2: the current options
// are among the partial solutions at every step, so the cost never rises.
//
// Where the others are held matters: as near to the relaxed optimum's times as their options allow, except
// that those that feed the pair run as early, and those it feeds as late, as their own neighbours permit.
//
// Tried, and worse: one rank at a time (worst gap of GPT-3 at 96 microbatches 0.47 percent against 0.19);
// three or more at a time (too few partial solutions for the dimensions); holding the others as early or as
// late as possible, or half-way; starting from all-fastest and building rank by rank.
//
// O(instructions * (width * options + ranks)) a sweep.

/// Improves `choice` (an option for every instruction), pair by pair from the first ranks to the last.
void refit_rank_pairs(const Workload& workload, const Problem& problem, const Optimum& optimum,
                      std::vector<std::size_t>& choice);

}  // namespace slackline
