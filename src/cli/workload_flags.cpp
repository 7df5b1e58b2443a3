#include "workload_flags.h"

#include <algorithm>
#include <cmath>
#include <cstdio>
#include <utility>

#include "slackline/base/error.h"
#include "slackline/base/number_text.h"
#include "slackline/curve/smoothing.h"
#include "slackline/pipeline/order_csv.h"
#include "slackline/profile/derive.h"
#include "slackline/profile/profile_io.h"

namespace slackline {
namespace {

constexpr std::string_view kCsvPrefix = "csv:";

std::string order_help() {
  std::string names;
  for (const std::string& name : order_names()) names += name + ", ";
  return "Order of the pipeline: " + names + "or csv:FILE with a schedule of torch.distributed.pipelining";
}

/// Relative; with less noise than this there is nothing to take away.
constexpr double kNoise = 1e-4;

/// Profiles with errors are measurements with noise; published tables without are taken at their word.
bool states_errors(const Profile& profile) {
  return std::ranges::any_of(profile.stages, [](const StageProfile& stage) {
    return std::ranges::any_of(stage.instructions, [](const auto& entry) {
      return std::ranges::any_of(entry.second,
                                 [](const Measurement& m) { return m.time_error > kNoise * m.time; });
    });
  });
}

struct OptionCount {
  std::size_t modelled = 0;
  std::size_t all = 0;
};

OptionCount count_options(const Profile& profile) {
  OptionCount count;
  for (const StageProfile& stage : profile.stages) {
    for (const auto& [kind, options] : stage.instructions) {
      count.all += options.size();
      count.modelled += static_cast<std::size_t>(std::ranges::count_if(options, &Measurement::is_modelled));
    }
  }
  return count;
}

Profile load_profile(const WorkloadFlags& flags) {
  Profile profile = read_profile(flags.profile);
  const auto stages = static_cast<int>(profile.stages.size());
  if (flags.stages && *flags.stages != stages) {
    throw InputError(
        flags.profile, 0, "--stages",
        "the profile has " + std::to_string(stages) + " stages, not " + std::to_string(*flags.stages));
  }
  for (StageProfile& stage : profile.stages) {
    if (flags.tensor_parallel) stage.tensor_parallel = *flags.tensor_parallel;
    if (flags.blocking_power) {
      stage.blocking_power = Watts(checked("--blocking-power", *flags.blocking_power, 0));
    }
    if (flags.transfer_ms) stage.transfer = Seconds(checked("--transfer-ms", *flags.transfer_ms, 0) / 1e3);
  }
  const OptionCount count = count_options(profile);
  if (count.modelled > 0) {
    std::fprintf(stderr, "slackline: %zu of %zu options are modelled, not measured\n", count.modelled,
                 count.all);
  }
  // Modelled options are smooth already, and smoothing takes from the few measured ones what they alone tell.
  const bool is_noisy = states_errors(profile) && count.modelled == 0;
  if (flags.smooth == "convex" || (flags.smooth == "auto" && is_noisy)) {
    const SmoothingResidual residual = smooth_convex(profile);
    std::fprintf(
        stderr,
        "slackline: smoothed: the measurements lie %s %% (time) and %s %% (energy) from their curves\n",
        fixed_text(residual.time * 100, 2).c_str(), fixed_text(residual.energy * 100, 2).c_str());
  }
  for (const std::string& request : flags.derive) derive_kinds(profile, request);
  return profile;
}

}  // namespace

double checked(const char* flag, double value, double least) {
  if (std::isfinite(value) && value >= least) return value;
  throw InputError("", 0, flag, "must be a number of at least " + std::to_string(static_cast<int>(least)));
}

void add_order_flags(CLI::App& command, OrderFlags& flags) {
  command.add_option("--order", flags.order, order_help())->capture_default_str();
  command.add_option("--microbatches", flags.microbatches,
                     "Microbatches of an iteration; csv:FILE says them itself");
  command.add_option("--chunks", flags.chunks,
                     "Stages a rank holds, for looped-bfs, interleaved-1f1b (2) and zb-h1 (1)");
  command.add_option("--group-size", flags.group_size,
                     "Megatron's microbatch group size, for interleaved-1f1b and zb-h1 (default: the ranks)");
}

OrderSpec order_spec(const OrderFlags& flags) {
  if (!flags.order.starts_with(kCsvPrefix)) {
    if (!flags.microbatches) throw InputError("", 0, "--microbatches", "is required with this order");
    return {flags.order, *flags.microbatches, flags.chunks, flags.group_size};
  }
  if (flags.chunks != 0) throw InputError("", 0, "--chunks", "the file says where the stages are");
  if (flags.group_size != 0) throw InputError("", 0, "--group-size", "the file says the order itself");
  OrderSpec spec = read_order_csv(flags.order.substr(kCsvPrefix.size()));
  if (flags.microbatches && *flags.microbatches != spec.microbatches) {
    throw InputError("", 0, "--microbatches",
                     "the file runs " + std::to_string(spec.microbatches) + ", not " +
                         std::to_string(*flags.microbatches));
  }
  return spec;
}

void add_workload_flags(CLI::App& command, WorkloadFlags& flags) {
  command
      .add_option("PROFILE", flags.profile,
                  "Profile: .yaml, or .csv with stage,instruction,frequency,time,energy")
      ->required();
  add_order_flags(command, flags.order);
  command.add_option("--stages", flags.stages, "Check that the profile has this many stages");
  command
      .add_option("--tensor-parallel", flags.tensor_parallel, "GPUs a stage (default: the profile's, else 1)")
      ->check(CLI::Range(1, kMaxTensorParallel));
  command.add_option("--blocking-power", flags.blocking_power,
                     "Watts a GPU draws while it waits (default: the profile's)");
  command.add_option(
      "--transfer-ms", flags.transfer_ms,
      "From the end of an instruction until its result is on the next rank (default: the profile's, "
      "else 0)");
  command
      .add_option(
          "--smooth", flags.smooth,
          "none: plan on the measurements themselves; convex: on smooth curves near them, which at 1 % "
          "of noise takes away a third to a half of what noise costs (table in bench/README.md); auto: "
          "convex where the profile states standard errors and no option is modelled")
      ->check(CLI::IsMember({"auto", "none", "convex"}))
      ->capture_default_str();
  command.add_option("--derive", flags.derive,
                     "Estimate kinds that were not measured: split-backward=SHARE (of the input's gradient), "
                     "backward, recompute");
}

Workload load_workload(const WorkloadFlags& flags) {
  Profile profile = load_profile(flags);
  OrderSpec order = order_spec(flags.order);
  try {
    return {std::move(profile), std::move(order)};
  } catch (const InputError& error) {
    // What is wrong with the profile's figures together is said with the profile's name.
    if (error.key().starts_with("--")) throw;
    throw InputError(flags.profile, error.line(), error.key(), error.reason());
  }
}

}  // namespace slackline
