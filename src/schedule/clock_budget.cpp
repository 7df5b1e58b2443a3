#include "slackline/schedule/clock_budget.h"
namespace slackline {
NextClocks next_clocks(const Profile& measured, const std::vector<std::vector<Megahertz>>&,
                       const OrderSpec&) {
  return {std::vector<std::optional<Megahertz>>(measured.stages.size()), 0};
}
Profile completed(const Profile& measured, const std::vector<std::vector<Megahertz>>&) {
  return measured;
}
}  // namespace slackline
