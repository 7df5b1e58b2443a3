#include <chrono>
#include <cstdio>
#include <memory>
#include <optional>
#include <vector>

#include "command.h"
#include "slackline/base/error.h"
#include "slackline/base/number_text.h"
#include "slackline/report/comparison.h"
#include "slackline/report/progress_bar.h"
#include "slackline/schedule/baselines.h"
#include "slackline/schedule/envpipe.h"
#include "slackline/schedule/perseus.h"
#include "slackline/schedule/planner.h"
#include "workload_flags.h"

namespace slackline {
namespace {

constexpr double kLongestUnit = 1e6;

struct CompareFlags {
  WorkloadFlags workload;
  double slowdown = 0;
  std::vector<std::string> with;
  double unit_ms = 1;
  bool json = false;
};

/// Runs `find` and says how long that took.
template <class Find>
auto timed(Find find, Seconds& took) {
  const auto begin = std::chrono::steady_clock::now();
  auto found = find();
  took = Seconds(std::chrono::duration<double>(std::chrono::steady_clock::now() - begin).count());
  return found;
}

class Comparison {
 public:
  Comparison(const Workload& workload, double slowdown) : workload_(workload) {
    const Evaluation all_max = workload.evaluate(workload.all_max());
    add("all-max", all_max);
    const double deadline = static_cast<double>(all_max.time) * (1 + slowdown / 100);
    deadline_ = deadline >= static_cast<double>(kMaxTicks) ? kMaxTicks : static_cast<Ticks>(deadline);
  }

  void add_zeus() {
    Seconds took;
    const auto one_clock = timed([&] { return zeus_global(workload_); }, took);
    add_best("one clock for all (Zeus)", one_clock, took);
    const auto stage_clocks = timed([&] { return zeus_per_stage(workload_); }, took);
    add_best("one clock a stage (Zeus, balanced)", stage_clocks, took);
  }

  void add_envpipe() {
    Seconds took;
    const EnvPipePlan plan = timed([&] { return envpipe(workload_); }, took);
    add("EnvPipe", plan.evaluation, took);
  }

  void add_perseus(Seconds unit_time) {
    Seconds took;
    const std::vector<PerseusPoint> points = timed(
        [&] {
          ProgressBar bar("Perseus");
          return perseus_frontier(workload_, {unit_time}, [&](double done) { bar.show(done); });
        },
        took);
    // The fastest it has, where the real times of its clocks are all above the deadline.
    const PerseusPoint* best = &points.front();
    Evaluation real = workload_.evaluate(best->clocks);
    for (const PerseusPoint& point : points) {
      const Evaluation found = workload_.evaluate(point.clocks);
      const bool is_better = real.time > deadline_ || found.energy < real.energy;
      if (found.time > deadline_ || !is_better) continue;
      best = &point;
      real = found;
    }
    rows_.push_back({"Perseus, as it reports", best->time, best->energy, took});
    add("Perseus, its clocks", real);
  }

  void add_ours() {
    Seconds took;
    PlanOptions options;
    options.plans = 1;
    options.deadline = to_seconds(deadline_);
    const Planning planning = timed([&] { return make_plans(workload_, options); }, took);
    const Plan& plan = planning.schedule.plans[planning.schedule.chosen];
    rows_.push_back({"Slackline", plan.time, plan.energy, took});
    rows_.push_back({"bound at its time", plan.time, plan.bound});
  }

  [[nodiscard]] const std::vector<ComparisonRow>& rows() const { return rows_; }

 private:
  void add(const std::string& method, const Evaluation& found, std::optional<Seconds> took = {}) {
    rows_.push_back({method, to_seconds(found.time), found.energy, took});
  }
  void add_best(const std::string& method, const std::vector<BaselinePoint>& points, Seconds took) {
    if (const BaselinePoint* best = best_within(points, deadline_)) add(method, best->evaluation, took);
  }

  const Workload& workload_;
  Ticks deadline_ = 0;
  std::vector<ComparisonRow> rows_;
};

int run(const CompareFlags& flags) {
  const double slowdown = checked("--slowdown", flags.slowdown, 0);
  if (checked("--unit-ms", flags.unit_ms, 0) > kLongestUnit) {
    throw InputError("", 0, "--unit-ms", "must be at most " + exact_text(kLongestUnit));
  }
  const Workload workload = load_workload(flags.workload);
  Comparison comparison(workload, slowdown);
  comparison.add_zeus();
  if (workload.order().name == "1f1b") comparison.add_envpipe();
  if (!flags.with.empty()) comparison.add_perseus(Seconds(flags.unit_ms / 1e3));
  comparison.add_ours();
  const std::vector<ComparisonRow>& rows = comparison.rows();
  std::fputs((flags.json ? comparison_json(rows) : comparison_text(rows)).c_str(), stdout);
  return kOk;
}

}  // namespace

void add_compare(CLI::App& app, Action& action) {
  auto flags = std::make_shared<CompareFlags>();
  CLI::App* command =
      app.add_subcommand("compare", "The same iteration as others would run it, and as we plan it");
  add_workload_flags(*command, flags->workload);
  command
      ->add_option("--slowdown", flags->slowdown,
                   "Each method's plan of least energy that is at most this many percent slower than all-max")
      ->capture_default_str();
  command
      ->add_option("--with", flags->with,
                   "Also perseus; its fixed time step takes its time on long iterations")
      ->check(CLI::IsMember({"perseus"}));
  command
      ->add_option("--unit-ms", flags->unit_ms,
                   "Perseus's time step; its artifact has 1 (of times shrunk tenfold)")
      ->capture_default_str();
  command->add_flag("--json", flags->json, "Print as JSON");
  command->footer(
      "Every row but 'as it reports' is computed from the clocks and the measurements. EnvPipe plans 1f1b\n"
      "only. Perseus is our replica: it plans as the published program does, but much faster.\n"
      "Example: slackline compare profiles/gpt3-175b-a100-sxm.yaml --microbatches 12 --with perseus "
      "--unit-ms 10");
  command->callback([&action, flags] { action = [flags] { return run(*flags); }; });
}

}  // namespace slackline
