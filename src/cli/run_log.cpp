#include "run_log.h"

#include <algorithm>
#include <cmath>
#include <utility>

#include "slackline/base/log_line.h"
#include "slackline/base/number_text.h"

namespace slackline {

RunLog::RunLog(const Schedule& schedule, std::size_t base, const ReleaseRule& rule, EnergyMeter& meter,
               std::vector<std::string> gpus)
    : schedule_(schedule), base_(base), rule_(rule), meter_(meter), gpus_(std::move(gpus)) {}

void RunLog::on_join(int member, const JobPlace& place, const std::vector<std::string>& gpus) {
  places_[member] = place;
  Pipeline& pipeline = pipelines_[place.pipeline];
  pipeline.log.join(member);
  pipeline.members = static_cast<std::size_t>(place.ranks) * static_cast<std::size_t>(place.lanes);
  std::vector<std::size_t>& places = pipeline.gpus[member];
  places.clear();
  for (const std::string& gpu : gpus) {
    const auto found = std::ranges::find(gpus_, gpu);
    if (found != gpus_.end()) places.push_back(static_cast<std::size_t>(found - gpus_.begin()));
  }
}

void RunLog::on_event(int member, const JobEvent& event) {
  if (event.type == JobEventType::kOutOfSequence) out_of_sequence_ = wants_release_ = true;
  if (event.type == JobEventType::kNoLease) lacks_lease_ = wants_release_ = true;
  if (event.type == JobEventType::kStepBegin) meter_.mark(Seconds(static_cast<double>(event.time_ns) / 1e9));
  drift_.add(member, places_.at(member).rank, event);
  Pipeline& pipeline = pipelines_.at(places_.at(member).pipeline);
  if (!pipeline.log.add(member, event)) return;
  meter_.mark(pipeline.log.steps().back().end);
  on_step(pipeline, pipeline.log.steps().back());
}

void RunLog::on_end(int member) {
  pipelines_.at(places_.at(member).pipeline).log.abandon_step_of(member);
}

void RunLog::on_stranger(const std::string& reason) {
  log_line("slackline: ", reason);
}

void RunLog::on_notice(int pipeline, double slowdown) {
  const std::string who = pipeline < 0 ? "something outside" : "pipeline " + std::to_string(pipeline);
  log_line("slackline: ", who + (slowdown > 1 ? " takes " + exact_text(slowdown) + " times as long"
                                              : " is no straggler any more"));
}

void RunLog::set_released() {
  wants_release_ = false;
  released_ = true;
}

std::size_t RunLog::steps() const {
  std::size_t steps = 0;
  for (const auto& [number, pipeline] : pipelines_) {
    steps += pipeline.phases.empty() ? 0 : pipeline.phases.size() - 1;
  }
  return steps;
}

RunLog::Phase RunLog::phase_of(const Pipeline& pipeline, const StepTimes& step) const {
  if (pipeline.phases.empty()) return {Regime::kFirst, 0};
  if (released_ || wants_release_ || !step.plan) return {Regime::kReleased, 0};
  if (*step.plan >= 0) return {Regime::kPlanned, *step.plan};
  // A baseline step comes before the first that followed a plan; later it is one that lost it.
  const bool has_followed = std::ranges::any_of(
      pipeline.phases, [](const Phase& phase) { return phase.regime > Regime::kBaseline; });
  return {has_followed ? Regime::kReleased : Regime::kBaseline, 0};
}

void RunLog::on_step(Pipeline& pipeline, const StepTimes& step) {
  const Phase phase = phase_of(pipeline, step);
  pipeline.phases.push_back(phase);
  Totals& totals = pipeline.totals[phase];
  ++totals.steps;
  totals.time += step.duration();
  if (phase.regime != Regime::kPlanned) return;
  const bool is_slow = step.duration() > promised(pipeline, phase.plan) * (1 + rule_.tolerance);
  pipeline.slow_steps = is_slow ? pipeline.slow_steps + 1 : 0;
  too_slow_ = too_slow_ || std::ranges::all_of(pipelines_, [this](const auto& entry) {
                return entry.second.slow_steps >= rule_.slow_steps;
              });
  wants_release_ = wants_release_ || too_slow_;
}

/// What a plan promises for a step here: relative to the measured baseline if there is one, since that holds
/// what the profile does not know.
Seconds RunLog::promised(const Pipeline& pipeline, int number) const {
  const auto baseline = pipeline.totals.find({Regime::kBaseline, 0});
  if (baseline == pipeline.totals.end()) return plan(number).time;
  const Totals& totals = baseline->second;
  return totals.time / static_cast<double>(totals.steps) * (plan(number).time / schedule_.all_max_time);
}

void RunLog::settle(bool at_end) {
  for (auto& [number, pipeline] : pipelines_) settle(pipeline, at_end);
  Seconds begin(INFINITY);
  for (const auto& [number, pipeline] : pipelines_) {
    if (pipeline.settled == 0) return;
    begin = std::min(begin, pipeline.log.steps()[pipeline.settled - 1].end);
  }
  if (!pipelines_.empty()) meter_.forget_before(begin);
}

void RunLog::settle(Pipeline& pipeline, bool at_end) {
  std::vector<std::size_t> gpus;
  for (const auto& [member, places] : pipeline.gpus) gpus.insert(gpus.end(), places.begin(), places.end());
  for (; pipeline.settled < pipeline.log.steps().size(); ++pipeline.settled) {
    const StepTimes& step = pipeline.log.steps()[pipeline.settled];
    if (!at_end && (meter_.is_open(step.begin) || meter_.is_open(step.end))) return;
    Totals& totals = pipeline.totals[pipeline.phases[pipeline.settled]];
    if (const auto energy = meter_.energy_between(step.begin, step.end, gpus)) {
      totals.energy += *energy;
      ++totals.steps_with_energy;
    }
  }
}

std::size_t RunLog::steps_without_energy() const {
  std::size_t count = 0;
  for (const auto& [number, pipeline] : pipelines_) {
    count += pipeline.settled;
    for (const auto& [phase, totals] : pipeline.totals) count -= totals.steps_with_energy;
  }
  return count;
}

RunPhase RunLog::phase(const Pipeline& pipeline, const Phase& phase, const Totals& totals) const {
  const bool is_planned = phase.regime == Regime::kPlanned;
  RunPhase result;
  result.name = phase.regime == Regime::kBaseline   ? kAllMaxPhase
                : phase.regime == Regime::kReleased ? "released"
                : phase.plan == 0                   ? "planned"
                                  : "plan " + std::to_string(base_ + static_cast<std::size_t>(phase.plan));
  result.steps = totals.steps;
  result.predicted_time = is_planned ? plan(phase.plan).time : schedule_.all_max_time;
  // Of a pipeline only part of which is here, nobody predicts the energy.
  if (pipeline.gpus.size() == pipeline.members) {
    result.predicted_energy = is_planned ? plan(phase.plan).energy : schedule_.all_max_energy;
  }
  if (is_planned) result.gap_percent = plan(phase.plan).gap_percent();
  if (totals.steps > 0) result.time = totals.time / static_cast<double>(totals.steps);
  if (totals.steps_with_energy > 0) {
    result.energy = totals.energy / static_cast<double>(totals.steps_with_energy);
  }
  return result;
}

std::vector<RunPhase> RunLog::phases() const {
  std::vector<RunPhase> phases;
  for (const auto& [number, pipeline] : pipelines_) {
    for (const auto& [key, totals] : pipeline.totals) {
      if (key.regime == Regime::kFirst || totals.steps == 0) continue;
      phases.push_back(phase(pipeline, key, totals));
      if (pipelines_.size() > 1) phases.back().pipeline = number;
    }
  }
  return phases;
}

}  // namespace slackline
