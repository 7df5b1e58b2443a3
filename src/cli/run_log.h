#pragma once
#include <cstddef>
#include <map>
#include <string>
#include <vector>

#include "drift_watch.h"
#include "slackline/base/ids.h"
#include "slackline/measure/energy_meter.h"
#include "slackline/report/run_report.h"
#include "slackline/runtime/job_server.h"
#include "slackline/runtime/step_log.h"
#include "slackline/schedule/schedule.h"

namespace slackline {

/// When a schedule that does not keep its promise is released.
struct ReleaseRule {
  /// A step is slow if it takes longer than promised by more than this share.
  double tolerance = 0.01;
  /// So many slow steps in a row, of every pipeline: one alone is a straggler.
  int slow_steps = 5;
};

/// Follows a job step by step: which plan a step followed, how long it took and what it drew.
class RunLog : public JobObserver {
 public:
  /// `gpus`: UUIDs of what the meter reads. `base`: the plan to follow when nobody straggles, number 0 of the
  /// job's.
  RunLog(const Schedule& schedule, std::size_t base, const ReleaseRule& rule, EnergyMeter& meter,
         std::vector<std::string> gpus);

  void on_join(int member, const JobPlace& place, const std::vector<std::string>& gpus) override;
  void on_event(int member, const JobEvent& event) override;
  void on_end(int member) override;
  void on_refusal(const std::string& reason) override { refusal_ = reason; }
  void on_stranger(const std::string& reason) override;
  void on_notice(int pipeline, double slowdown) override;

  [[nodiscard]] const std::string& refusal() const { return refusal_; }
  [[nodiscard]] bool wants_release() const { return wants_release_; }
  void set_released();
  [[nodiscard]] bool too_slow() const { return too_slow_; }
  [[nodiscard]] bool out_of_sequence() const { return out_of_sequence_; }
  [[nodiscard]] bool lacks_lease() const { return lacks_lease_; }
  /// Whole iterations of all pipelines, beside the first of each.
  [[nodiscard]] std::size_t steps() const;

  /// Books the energy of steps whose ends the counters have passed. Every step, `at_end`.
  void settle(bool at_end = false);
  /// Of those that are settled.
  [[nodiscard]] std::size_t steps_without_energy() const;

  [[nodiscard]] const DriftWatch& drift() const { return drift_; }
  /// What ran, pipeline by pipeline: all-max first, then planned, then what was run for stragglers.
  [[nodiscard]] std::vector<RunPhase> phases() const;

 private:
  /// What steps are put together by. A pipeline's first step only shows its order.
  enum class Regime { kFirst, kBaseline, kPlanned, kReleased };
  struct Phase {
    Regime regime = Regime::kFirst;
    int plan = 0;
    auto operator<=>(const Phase&) const = default;
  };
  struct Totals {
    std::size_t steps = 0;
    Seconds time;
    std::size_t steps_with_energy = 0;
    Joules energy;
  };
  struct Pipeline {
    StepLog log;
    std::map<int, std::vector<std::size_t>> gpus;  // of each member, by their places in the meter
    std::size_t members = 0;                       // that the job has, here or elsewhere
    std::vector<Phase> phases;                     // of each step
    std::map<Phase, Totals> totals;
    std::size_t settled = 0;
    int slow_steps = 0;
  };

  void on_step(Pipeline& pipeline, const StepTimes& step);
  [[nodiscard]] Phase phase_of(const Pipeline& pipeline, const StepTimes& step) const;
  [[nodiscard]] const Plan& plan(int number) const {
    return schedule_.plans[base_ + static_cast<std::size_t>(number)];
  }
  [[nodiscard]] Seconds promised(const Pipeline& pipeline, int number) const;
  [[nodiscard]] RunPhase phase(const Pipeline& pipeline, const Phase& phase, const Totals& totals) const;
  void settle(Pipeline& pipeline, bool at_end);

  const Schedule& schedule_;
  std::size_t base_;
  ReleaseRule rule_;
  EnergyMeter& meter_;
  std::vector<std::string> gpus_;
  std::map<int, JobPlace> places_;  // of members
  DriftWatch drift_;
  std::map<int, Pipeline> pipelines_;
  bool wants_release_ = false;
  bool released_ = false;
  bool too_slow_ = false;
  bool out_of_sequence_ = false;
  bool lacks_lease_ = false;
  std::string refusal_;
};

}  // namespace slackline
