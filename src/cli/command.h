#pragma once
#include <CLI/CLI.hpp>
#include <functional>

#include "slackline/schedule/schedule.h"

namespace slackline {

/// What a process of ours ends with.
enum ExitStatus : int {
  kOk = 0,
  kNoAnswer = 1,     // infeasible, or something does not verify
  kBadInput = 2,     // usage, or a file that is not right
  kDeviceFault = 3,  // missing, refused or lost
  kCannotRun = 126,  // as shells do
  kNotFound = 127,
  kInterrupted = 130,
};

/// Set by the subcommand that was called; `main` runs it after parsing.
using Action = std::function<int()>;

/// The value of a --plan flag, checked.
[[nodiscard]] std::size_t plan_index(const Schedule& schedule, int plan);

void add_plan(CLI::App& app, Action& action);
void add_verify(CLI::App& app, Action& action);
void add_inspect(CLI::App& app, Action& action);
void add_import(CLI::App& app, Action& action);
void add_order(CLI::App& app, Action& action);
void add_compare(CLI::App& app, Action& action);
void add_apply(CLI::App& app, Action& action);
void add_profile(CLI::App& app, Action& action);
void add_straggler(CLI::App& app, Action& action);
void add_export(CLI::App& app, Action& action);
void add_restore(CLI::App& app, Action& action);
void add_agent(CLI::App& app, Action& action);
void add_devices(CLI::App& app, Action& action);
void add_measure(CLI::App& app, Action& action);
void add_calibrate(CLI::App& app, Action& action);

}  // namespace slackline
