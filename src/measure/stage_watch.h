#pragma once
#include <map>
#include <mutex>
#include <optional>
#include <set>
#include <vector>

#include "slackline/measure/clock_sweep.h"

namespace slackline {

/// Stretches of time in which something is the case, as seen by looks now and then: from the last look before
/// it to the first after it.
class SpanMarker {
 public:
  void look(Seconds now, bool is_so);
  [[nodiscard]] const std::vector<Span>& spans() const { return spans_; }
  void forget_before(Seconds time);

 private:
  std::optional<Seconds> last_look_;
  bool was_so_ = false;
  std::vector<Span> spans_;
};

/// Share of `window` that the spans, which do not overlap, cover.
[[nodiscard]] double share_of(const std::vector<Span>& spans, const Span& window);

/// One stage of a sweep: follows its GPUs, and takes it through a visit.
class ClockSweep::Stage {
 public:
  Stage(Device& device, SweepControl& control, JobTrace& trace, const SweepOptions& options, int number,
        std::vector<GpuId> gpus);

  /// What a stage does in a round.
  enum class Kind {
    kMeasure,
    kWait,  // as kMeasure, but for a few steps, which need not settle: the blocking power is wanted
    kRest,  // nothing; it must not slow the others down
  };

  /// From the end of what it runs just now on it is at `clock`.
  void begin_visit(Megahertz clock, Kind kind, Seconds now);
  /// Is between two runs: the moment for a new clock. In the thread that tells the trace.
  void at_boundary(Seconds time);
  /// Reads the counters; and, if `thoroughly`, what else tells about the GPUs.
  void look(Seconds now, bool thoroughly);

  [[nodiscard]] bool is_measuring() const { return phase_ == Phase::kMeasuring; }
  [[nodiscard]] bool is_done() const { return phase_ == Phase::kDone; }
  /// Of the last visit; its times are the timeline's. Nothing if it was not measured.
  [[nodiscard]] const std::optional<Visit>& visit() const { return visit_; }
  [[nodiscard]] const std::vector<GpuId>& gpus() const { return gpus_; }
  [[nodiscard]] int microbatches() const { return microbatches_; }

 private:
  /// While a stage is held: some until all look on, the one in which it is, and one after that.
  static constexpr int kStepsOfWait = 4;

  enum class Phase { kSwitching, kWarmingUp, kMeasuring, kDone };
  struct Counter {
    std::vector<EnergyReading> readings;
    Seconds last_tick;
    Seconds next_look;
    std::optional<Seconds> failing_since;
  };

  void read_counter(std::size_t gpu, Seconds now);
  void read_state(Seconds now);
  /// Measures at what the GPUs do by themselves.
  [[nodiscard]] bool sets_no_clock() const { return options_.is_read_only || clock_ == Megahertz(0); }
  [[nodiscard]] bool has_arrived(Seconds now);
  void take_news(Seconds now);
  void expect_steps(const JobTrace::News& news);
  void warm_up(const JobTrace::News& news, Seconds now);
  void begin_measuring(Seconds time);
  void record(JobTrace::News news);
  [[nodiscard]] bool is_due(Seconds now) const;
  void try_to_finish(Seconds now);
  [[nodiscard]] bool is_known(const KindEstimate& kind) const;
  [[nodiscard]] bool is_precise(const VisitEstimate& estimate) const;
  void repeat_what_is_open(const VisitEstimate& estimate);

  Device& device_;
  SweepControl& control_;
  JobTrace& trace_;
  const SweepOptions& options_;
  int number_;
  std::vector<GpuId> gpus_;
  std::vector<Counter> counters_;

  std::mutex mutex_;  // of the next two
  std::optional<Megahertz> wanted_;
  std::optional<Seconds> switched_at_;

  Phase phase_ = Phase::kDone;
  Megahertz clock_;
  Kind kind_ = Kind::kRest;
  std::optional<Seconds> arrived_at_;
  bool is_missed_ = false;
  Seconds asked_at_;
  int steps_ = 0;                     // of the phase
  std::map<Task, std::size_t> runs_;  // of the phase
  Seconds measuring_since_;
  std::optional<Seconds> judged_at_;
  VisitRecord record_;
  Megahertz observed_;
  SpanMarker throttled_;
  SpanMarker foreign_;
  std::optional<Seconds> strangers_looked_;
  SpanMarker unreadable_;
  std::optional<Visit> visit_;
  std::set<Task> kinds_seen_;
  std::size_t runs_without_steps_ = 0;
  int microbatches_ = 0;
};

}  // namespace slackline
