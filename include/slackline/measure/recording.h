#pragma once
#include <string>
#include <vector>

#include "slackline/measure/visit.h"

namespace slackline {

/// One rank at one clock, for some steps.
struct Visit {
  /// Stages are at their clocks together, round after round.
  int round = 0;
  /// Asked for; where none is set, what was read.
  Megahertz clock;
  /// Since the measuring began, pauses of the measuring left out.
  Span span;
  VisitEstimate estimate;
  /// Shares of the time, 0 to 1, that were left out; see MeasuringNotes.
  double throttled_share = 0;
  double foreign_share = 0;
  double unreadable_share = 0;
  /// It was throttled for most of the time, so that this counts: it is what asking for that clock gives.
  bool is_throttled = false;
  /// The GPU did not read the clock that was asked for, and nothing says why.
  bool is_missed = false;
  /// Made to wait, for the blocking power; its instructions do not count.
  bool is_wait = false;
};

/// A rank: a stage of the pipeline, or several on the same GPUs.
struct StageRecording {
  /// That its chunks are, in their order.
  std::vector<int> stages;
  /// That this recording saw, of those that work in lockstep.
  int gpus = 1;
  /// What they offer, highest first.
  std::vector<Megahertz> clocks;
  std::vector<Visit> visits;
};

/// What `slackline profile` has measured so far: of all stages, or of one, by one of several ranks.
struct Recording {
  std::string model;
  std::string gpu;
  std::string origin;
  /// In which order clocks are visited ("down", "budget 8"): a recording goes on as it began.
  std::string order;
  /// Rank and number of ranks, each of which makes a recording.
  int rank = 0;
  int ranks = 1;
  /// Stages of the pipeline; `stages` has them all or some, and those of replicas again.
  int pipeline_stages = 0;
  /// Most microbatches that a step was seen to have.
  int microbatches = 0;
  Seconds counter_period;
  bool is_complete = false;
  std::vector<StageRecording> stages;
};

/// `slackline: recording/1`. InputError with file, line, key and reason. Every number reads back exactly.
[[nodiscard]] Recording parse_recording(const std::string& file, const std::string& text);
[[nodiscard]] std::string to_yaml(const Recording& recording);

}  // namespace slackline
