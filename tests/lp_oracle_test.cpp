// The frontier against an LP solver (CLP), which knows nothing of flows: the same tick-rounded curves as
// linear inequalities, one LP for each iteration time.
#include <Clp_C_Interface.h>

#include <limits>
#include <memory>
#include <vector>

#include "catch.h"
#include "random_pipeline.h"
#include "slackline/frontier/parametric_solver.h"

namespace slackline {
namespace {

constexpr double kNoLimit = std::numeric_limits<double>::max();

/// Rows of an LP that are only bounded from below.
class Rows {
 public:
  explicit Rows(int columns) : columns_(columns) {}
  void add(std::initializer_list<std::pair<int, double>> entries, double low) {
    for (const auto& [column, value] : entries) {
      index_.push_back(column);
      value_.push_back(value);
    }
    begin_.push_back(static_cast<CoinBigIndex>(index_.size()));
    low_.push_back(low);
  }
  void load(Clp_Simplex* model) const {
    const std::vector<double> high(low_.size(), kNoLimit);
    Clp_resize(model, 0, columns_);
    Clp_addRows(model, static_cast<int>(low_.size()), low_.data(), high.data(), begin_.data(), index_.data(),
                value_.data());
  }

 private:
  int columns_;
  std::vector<CoinBigIndex> begin_{0};
  std::vector<int> index_;
  std::vector<double> value_;
  std::vector<double> low_;
};

/// The relaxed problem in seconds and joules. Columns: the events' times, then the instructions' costs.
class LinearProgram {
 public:
  explicit LinearProgram(const Problem& problem)
      : problem_(problem), model_(Clp_newModel(), Clp_deleteModel) {
    const auto events = static_cast<int>(problem.events());
    const auto columns = events + static_cast<int>(problem.instructions());
    Rows rows(columns);
    for (std::uint32_t a = 0; a < problem.arcs().size(); ++a) {
      const auto tail = static_cast<int>(problem.arcs()[a].tail);
      const auto head = static_cast<int>(problem.arcs()[a].head);
      if (!problem.is_instruction(a)) {
        rows.add({{head, 1}, {tail, -1}}, to_seconds(problem.arcs()[a].lag).value());
        continue;
      }
      const LinearCurve& curve = problem.curve(a);
      rows.add({{head, 1}, {tail, -1}}, to_seconds(curve.times.front()).value());
      for (std::size_t j = 1; j < curve.times.size(); ++j) {
        // On or above the line through vertices j-1 and j.
        const double slope = static_cast<double>(curve.slope(j)) / kMicrowattsPerWatt;
        rows.add({{events + static_cast<int>(a), 1}, {head, slope}, {tail, -slope}},
                 to_joules(curve.costs[j]).value() + slope * to_seconds(curve.times[j]).value());
      }
    }
    Clp_setLogLevel(model_.get(), 0);
    rows.load(model_.get());
    for (int column = 0; column < columns; ++column) {
      const double low = 0;
      Clp_columnLower(model_.get())[column] = low;
      Clp_columnUpper(model_.get())[column] = kNoLimit;
      Clp_objective(model_.get())[column] = column < events ? 0 : 1;
    }
    Clp_columnUpper(model_.get())[problem.source()] = 0;
    Clp_setPrimalTolerance(model_.get(), 1e-10);
    Clp_setDualTolerance(model_.get(), 1e-10);
  }

  [[nodiscard]] double least_cost(Ticks time) {
    Clp_columnUpper(model_.get())[problem_.sink()] = to_seconds(time).value();
    Clp_dual(model_.get(), 0);
    REQUIRE(Clp_status(model_.get()) == 0);
    return Clp_objectiveValue(model_.get());
  }

 private:
  const Problem& problem_;
  std::unique_ptr<Clp_Simplex, decltype(&Clp_deleteModel)> model_;
};

TEST_CASE("lp: the frontier's energy is what an LP solver finds, for every order", "[lp]") {
  Dice dice(80);
  int compared = 0;
  for (int round = 0; compared < 320; ++round) {
    CAPTURE(round);
    const Workload workload = random_workload(dice, 6, 16, 8);
    if (workload.dag().size() < 20 || workload.dag().size() > 300) continue;
    ++compared;
    CAPTURE(workload.order().name, workload.dag().size());
    const Problem problem = workload.problem();
    const Frontier frontier = workload.frontier(solve_parametric(problem).breakpoints);
    LinearProgram lp(problem);
    for (const double part : {0.0, 0.2, 0.55, 1.0}) {
      const Ticks time =
          frontier.fastest() +
          static_cast<Ticks>(part * static_cast<double>(frontier.slowest() - frontier.fastest()));
      // A hair later than the fastest possible, so that rounding in the LP does not make it infeasible.
      const Ticks limit = part == 0 ? time + 10 : time;
      const Joules energy = workload.cheapest_cost() + Joules(lp.least_cost(limit)) +
                            workload.blocking_power() * to_seconds(limit);
      CHECK(std::abs(energy / frontier.energy(limit) - 1) < 1e-7);
    }
  }
}

}  // namespace
}  // namespace slackline
