#pragma once
#include <vector>

#include "slackline/measure/visit.h"

namespace slackline {

/// What a refresh interval of a counter holds. Activities are the kinds in their order, then waiting within a
/// step, then what is outside of steps.
struct RefreshRow {
  Span span;
  double energy = 0;
  std::vector<double> durations;  // seconds of each activity
  std::vector<double> runs;       // of each kind, in fractions by time
  bool follows = false;           // directly on the row before
};

/// The record with runs lengthened, for the energy, by what follows them if that is too short to be told from
/// them: a host that goes on to the next instruction is no waiting.
[[nodiscard]] VisitRecord with_short_gaps_closed(VisitRecord record);

/// The spans of `left_out` and those of the runs that touch one, sorted and merged.
[[nodiscard]] std::vector<Span> spans_left_out(const VisitRecord& record);
[[nodiscard]] bool overlaps(const std::vector<Span>& sorted, const Span& span);

/// The intervals of one counter that count: within the visit, clear of `left_out`, and not those in which the
/// counter jumped back.
[[nodiscard]] std::vector<RefreshRow> refresh_rows(const VisitRecord& record, const std::vector<Task>& kinds,
                                                   const std::vector<EnergyReading>& readings,
                                                   const std::vector<Span>& left_out);

}  // namespace slackline
