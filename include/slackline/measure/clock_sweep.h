#pragma once
#include <atomic>
#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "slackline/base/ids.h"
#include "slackline/device/device.h"
#include "slackline/measure/clock_order.h"
#include "slackline/measure/job_trace.h"
#include "slackline/measure/recording.h"

namespace slackline {

/// What a sweep does to a running job, and asks about it. Stages are numbered as their GPUs were given. Calls
/// come from the sweep's thread, but for set_clock, which may also come from the one that tells the trace.
class SweepControl {
 public:
  virtual ~SweepControl() = default;
  /// Locks all GPUs of a stage, or unlocks them at 0 MHz.
  virtual void set_clock(int stage, Megahertz clock) = 0;
  /// From now on the stage runs these kinds again and again (one bit each) until told otherwise.
  virtual void set_repeat(int stage, std::uint32_t kinds) = 0;
  /// Lets the stage wait for so long before its next step, so that the others wait for it.
  virtual void hold(int stage, Seconds time) = 0;
  /// A process that is not the job's computes on the GPU.
  [[nodiscard]] virtual bool has_stranger(GpuId gpu) = 0;
  /// A round is complete: what was measured so far can be kept.
  virtual void keep(const Recording& recording) = 0;
};

struct SweepOptions {
  ClockOrderOptions order;
  /// Steps at a new clock that do not count; the one in which it changes is the first of them.
  int warm_up_steps = 1;
  /// A visit ends after so many steps at least, when time and energy of every instruction are known to this
  /// relative standard error, or after so many at most.
  int least_steps = 1;
  int most_steps = 20;
  double precision = 0.007;
  /// ...and not with fewer runs of an instruction or refreshes of a counter than this.
  std::size_t least_runs = 5;
  std::size_t least_ticks = 20;
  /// The job runs its instructions alone, again and again, and marks no steps.
  bool is_isolated = false;
  /// There, runs of a kind at a new clock that do not count, and how long a visit goes on at most.
  std::size_t warm_up_runs = 3;
  Seconds longest_visit{60};
  /// Makes every stage wait for so long once; 0: its own waiting is enough.
  Seconds blocking_wait;
  /// Sets no clock, and measures at the one that the GPUs have.
  bool is_read_only = false;
  /// A clock has arrived when a GPU reads it to within this, or never will when this long has passed.
  Megahertz clock_tolerance{7};
  Seconds settling{2};
  /// GPUs that cannot be read, or whose counter stands still, for so long have been lost.
  Seconds fault_patience{5};
};

/// Measures every instruction kind of every stage at one clock after the other while the job trains, from
/// what it does anyway. A round: each stage's clock is changed when it is between two steps; the first steps
/// after that do not count; then what runs, waits and ticks is recorded until estimate() finds it known well
/// enough. Spans in which something slowed the GPU down, or somebody else's process was on it, are left out
/// (but not where they are most of the time: then that is what this clock gives). When all stages are
/// through, the recording is kept and the next round begins.
class ClockSweep {
 public:
  /// `begun`: what an earlier sweep has measured of the same stages, or a recording without visits.
  /// `stage_gpus`: GPUs of each of its stages. The timeline belongs to the thread that calls run().
  ClockSweep(Device& device, std::vector<std::vector<GpuId>> stage_gpus, Recording begun,
             SweepControl& control, SweepOptions options);
  ~ClockSweep();

  /// To be told what the job does.
  [[nodiscard]] JobTrace& trace() { return trace_; }

  /// Returns when all rounds are complete, or the timeline ended before. DeviceError for GPUs that are lost,
  /// InputError for a job that marks no steps.
  void run(Timeline& timeline);

  /// After run().
  [[nodiscard]] const Recording& recording() const { return recording_; }

  // For any thread.
  [[nodiscard]] bool is_complete() const { return complete_; }
  [[nodiscard]] int rounds() const { return rounds_; }
  [[nodiscard]] int expected_rounds() const { return expected_rounds_; }
  /// Of what was measured in the last round, the largest relative standard error; 0 before.
  [[nodiscard]] double last_error() const { return last_error_; }

 private:
  class Stage;

  void at_boundary(int stage, Seconds time);
  [[nodiscard]] bool run_rounds(Timeline& timeline);
  [[nodiscard]] bool run_round(const RoundClocks& clocks, std::optional<int> to_be_held, Timeline& timeline);
  [[nodiscard]] bool make_wait(Timeline& timeline);
  void finish_round(int round);

  Device& device_;
  SweepControl& control_;
  SweepOptions options_;
  Recording recording_;
  JobTrace trace_;
  std::vector<std::unique_ptr<Stage>> stages_;
  Seconds offset_;  // from the timeline to the recording's time
  std::atomic<bool> complete_ = false;
  std::atomic<int> rounds_ = 0;
  std::atomic<int> expected_rounds_ = 0;
  std::atomic<double> last_error_ = 0;
};

}  // namespace slackline
