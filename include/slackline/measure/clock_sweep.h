#pragma once
#include <atomic>
#include <cstdint>
#include <memory>
#include <vector>

#include "slackline/base/ids.h"
#include "slackline/device/device.h"
#include "slackline/measure/instruction_log.h"
#include "slackline/profile/profile.h"

namespace slackline {

/// What a sweep does to a running job. Calls come from the sweep's thread.
class SweepControl {
 public:
  virtual ~SweepControl() = default;
  /// Locks all GPUs of a stage, or unlocks them at 0 MHz.
  virtual void set_clock(int stage, Megahertz clock) = 0;
  /// From now on the stage runs these kinds again and again (one bit each) until told otherwise.
  virtual void set_repeat(int stage, std::uint32_t kinds) = 0;
};

struct SweepOptions {
  /// Runs of an instruction that are thrown away after a clock has arrived.
  std::size_t warm_up_runs = 2;
  /// A window holds at least this many runs and ticks of the energy counter...
  std::size_t least_runs = 10;
  std::size_t least_ticks = 20;
  /// ...and goes on until time and power are known to this relative standard error, or for this many runs.
  double precision = 0.0015;
  std::size_t most_runs = 400;
  /// The sweep of an instruction ends when both its time and its effective cost e - p t have risen this many
  /// times in a row: no plan can use what follows. (Perseus and EnvPipe watch the energy e itself, which
  /// rises earlier: on the A100 that drops clocks whose slowness fills a wait, and 0.14 points of saving on
  /// GPT-3 175B.)
  int rises = 5;
  /// A clock has arrived when all GPUs of the stage read it to within this, or when this long has passed.
  Megahertz clock_tolerance{7};
  Seconds settling{2};
  /// For a stage that has to wait once more for its blocking power to be known.
  Seconds waiting_patience{60};
  /// A stage whose GPUs cannot be read for so long has lost them.
  Seconds fault_patience{5};
  /// Sets no clock, and measures at the one that the GPUs have.
  bool read_only = false;
};

/// Measures every instruction kind of every stage at every clock, from the highest to the lowest, while the
/// job runs. Each stage, when it comes to an instruction of a kind still to be measured, repeats it; its
/// clock settles, a few runs warm up, and then a window opens at a tick of the energy counter and closes at a
/// tick, tens of ticks and runs later: the counter's slow refresh cancels. Power is the slope of a line
/// through the ticks, energy of one run is power times mean time. Stages that wait meanwhile show the
/// blocking power in the same way; one that has hardly waited by the end is made to.
class ClockSweep {
 public:
  /// `stage_gpus`: GPUs of each stage. The timeline belongs to the thread that calls run().
  ClockSweep(Device& device, std::vector<std::vector<GpuId>> stage_gpus, const InstructionLog& log,
             SweepControl& control, SweepOptions options = {});
  ~ClockSweep();

  /// Stages of the profile, with tensor parallel degree and blocking power, or fewer measurements than wanted
  /// if the timeline ended before the sweep was complete (see complete()).
  [[nodiscard]] std::vector<StageProfile> run(Timeline& timeline);

  [[nodiscard]] bool complete() const { return complete_; }
  /// Measurements, out of all of a stage's, during which something other than our lock slowed a GPU: a power
  /// cap, heat. They say what the GPU did, which is not what the clock does.
  struct Slowdown {
    int stage = 0;
    std::size_t windows = 0;
    EventReasons reasons;
  };
  /// After run(); only stages that have any.
  [[nodiscard]] std::vector<Slowdown> slowdowns() const;
  /// 0 to 1; any thread.
  [[nodiscard]] double progress() const { return progress_; }
  [[nodiscard]] std::size_t clocks_done() const { return clocks_done_; }
  [[nodiscard]] std::size_t clocks() const;

 private:
  struct Window;
  struct Waiting;
  struct Stage;

  void begin_clock(Stage& stage, std::size_t clock_index, Seconds now);
  void watch(Stage& stage, Seconds now);
  void look_at(Stage& stage, Seconds now);
  void measure(Stage& stage, Window& window, const InstructionLog::Repetition& repetition);
  void watch_waiting(Stage& stage);
  [[nodiscard]] bool make_wait(Stage& stage, Timeline& timeline);
  void close(Stage& stage, Window& window, const Measurement& measured);

  Device& device_;
  const InstructionLog& log_;
  SweepControl& control_;
  SweepOptions options_;
  std::vector<std::unique_ptr<Stage>> stages_;
  std::atomic<bool> complete_ = false;
  std::atomic<double> progress_ = 0;
  std::atomic<std::size_t> clocks_done_ = 0;
};

}  // namespace slackline
