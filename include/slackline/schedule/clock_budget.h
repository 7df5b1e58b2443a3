#pragma once
#include <optional>
#include <vector>

#include "slackline/pipeline/order.h"
#include "slackline/profile/profile.h"
namespace slackline {
struct NextClocks {
  std::vector<std::optional<Megahertz>> clocks;
  double predicted_regret = 0;
};
[[nodiscard]] NextClocks next_clocks(const Profile& measured,
                                     const std::vector<std::vector<Megahertz>>& supported,
                                     const OrderSpec& order);
[[nodiscard]] Profile completed(const Profile& measured,
                                const std::vector<std::vector<Megahertz>>& supported);
}  // namespace slackline
