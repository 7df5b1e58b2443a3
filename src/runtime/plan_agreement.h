#pragma once
#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "slackline/base/quantity.h"
#include "slackline/device/sim_world.h"
#include "slackline/runtime/job_memory.h"
#include "slackline/runtime/mapping.h"

namespace slackline {

/// One process's part in the choice of plans; see JobBoard. Of a job on one node.
class PlanAgreement {
 public:
  /// Its place, and how the job is to behave.
  struct Setup {
    JobHello place{};
    std::int32_t epoch = 0;
    bool joins_late = false;
    int detect_steps = 0;
    double detect_share = 0;
  };
  /// `seconds`: iteration time of each plan, by its number.
  PlanAgreement(Mapping board, const Setup& setup, std::span<const double> seconds);

  /// Whether the job has several plans to choose from.
  [[nodiscard]] bool is_needed() const { return board().plan_count.load(std::memory_order_relaxed) > 1; }
  /// What this pipeline should follow as things are now: the slowest plan that ends before the slowest other
  /// pipeline does.
  [[nodiscard]] std::int32_t best() const;
  /// The plan of step `step`, the same for all ranks of the pipeline, or -1, the baseline, for a rank that
  /// does not hear of it. `participant`: this process's part in simulated time, or null.
  [[nodiscard]] std::int32_t agree_on(std::uint32_t step, SimWorld* world,
                                      SimWorld::Participant* participant);

  /// This rank's step took so long, from its first instruction to its last, with plan `plan`.
  void step_took(std::int32_t plan, Seconds time);

  /// Notices received; see JobBoard.
  [[nodiscard]] std::uint32_t notices() const { return board().notices.load(std::memory_order_acquire); }
  /// Of a pipeline, or (-1) of something outside. False for a pipeline that does not exist or a factor that
  /// makes no sense.
  bool set_slowdown(std::int32_t pipeline, double slowdown);
  [[nodiscard]] double slowdown(std::int32_t pipeline) const;

  /// What the user should know, once; or "".
  [[nodiscard]] std::string take_news();

 private:
  [[nodiscard]] JobBoard& board() const { return *static_cast<JobBoard*>(board_.get()); }
  [[nodiscard]] JobBoard::Pipeline& own() const {
    return board().pipelines()[static_cast<std::size_t>(setup_.place.pipeline)];
  }
  [[nodiscard]] bool leads() const { return setup_.place.rank == 0 && setup_.place.lane == 0; }
  void announce(std::uint32_t step, std::int32_t plan, SimWorld* world);
  [[nodiscard]] std::optional<std::int32_t> await(std::uint32_t step);
  /// Simulated time goes on while a rank waits on its channel.
  [[nodiscard]] SimWorld::Channel channel_of(std::int32_t rank) const;
  [[nodiscard]] double pace_of_the_fastest() const;

  Mapping board_;
  Setup setup_;
  std::span<const double> seconds_;
  bool has_heard_ = false;
  int unheard_ = 0;            // steps in a row
  int behind_ = 0;             // steps in a row
  int abreast_ = 0;            // steps in a row
  bool has_found_ = false;     // that this pipeline is a straggler
  std::vector<double> paces_;  // of the steps that are behind
  std::string news_;
};

}  // namespace slackline
