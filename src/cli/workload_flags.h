#pragma once
#include <CLI/CLI.hpp>
#include <optional>
#include <string>
#include <vector>

#include "slackline/schedule/workload.h"

namespace slackline {

/// Flags that name an order.
struct OrderFlags {
  std::string order = "1f1b";
  std::optional<std::int64_t> microbatches;
  int chunks = 0;
  int group_size = 0;
};
void add_order_flags(CLI::App& command, OrderFlags& flags);
/// Reads the file of csv:FILE.
[[nodiscard]] OrderSpec order_spec(const OrderFlags& flags);

/// Flags that name a profile and what it does not say itself.
struct WorkloadFlags {
  std::string profile;
  OrderFlags order;
  std::optional<int> stages;
  std::optional<int> tensor_parallel;
  std::optional<double> blocking_power;
  std::optional<double> transfer_ms;
  std::vector<std::string> derive;
  std::string smooth = "auto";
};
void add_workload_flags(CLI::App& command, WorkloadFlags& flags);
[[nodiscard]] Workload load_workload(const WorkloadFlags& flags);

/// A number that was given to `flag`. InputError unless it is finite and at least `least`.
[[nodiscard]] double checked(const char* flag, double value, double least);

}  // namespace slackline
