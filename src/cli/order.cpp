#include <cstdio>
#include <memory>
#include <optional>

#include "command.h"
#include "slackline/base/error.h"
#include "slackline/base/file.h"
#include "slackline/pipeline/dag.h"
#include "slackline/pipeline/order_csv.h"
#include "workload_flags.h"

namespace slackline {
namespace {

struct ShowOrderFlags {
  OrderFlags order;
  std::optional<int> stages;
  std::optional<int> ranks;
  std::string csv;
  std::string dot;
};

int stages_of(const ShowOrderFlags& flags, const OrderSpec& spec) {
  if (spec.name == "csv") {
    const int stages = stage_count(spec.rows);
    if (flags.stages && *flags.stages != stages) {
      throw InputError("", 0, "--stages", "the file has " + std::to_string(stages));
    }
    return stages;
  }
  if (flags.stages) return *flags.stages;
  if (!flags.ranks) throw InputError("", 0, "--stages", "or --ranks is required");
  const int chunks = spec.chunks == 0 ? default_chunks(spec.name) : spec.chunks;
  const std::int64_t stages = std::int64_t{*flags.ranks} * std::max(1, chunks);
  if (stages < 1 || stages > kMaxInstructions) {
    throw InputError("", 0, "--ranks",
                     "with the chunks must make 1 to " + std::to_string(kMaxInstructions) + " stages");
  }
  return static_cast<int>(stages);
}

void print(const Order& order) {
  for (std::size_t rank = 0; rank < order.size(); ++rank) {
    std::string line = "rank " + std::to_string(rank) + ":";
    for (const Instruction& instruction : order[rank]) line += " " + short_name(instruction);
    std::puts(line.c_str());
  }
}

int run(const ShowOrderFlags& flags) {
  const OrderSpec spec = order_spec(flags.order);
  const Order order = make_order(spec, stages_of(flags, spec));
  const Dag dag(order);
  if (!flags.csv.empty()) write_file(flags.csv, order_csv(order));
  if (!flags.dot.empty()) write_file(flags.dot, dag.graphviz());
  if (flags.dot != "-" && flags.csv != "-") print(order);
  return kOk;
}

}  // namespace

void add_order(CLI::App& app, Action& action) {
  auto flags = std::make_shared<ShowOrderFlags>();
  CLI::App* command =
      app.add_subcommand("order", "Show who runs what when, write it for torch, or draw its DAG");
  add_order_flags(*command, flags->order);
  CLI::Option* stages =
      command->add_option("--stages", flags->stages, "Pipeline stages, over all ranks and their chunks");
  command->add_option("--ranks", flags->ranks, "Pipeline ranks, instead of --stages: stages = ranks x chunks")
      ->excludes(stages);
  command->add_option("--csv", flags->csv,
                      "Write it as the schedule CSV of torch.distributed.pipelining; - is standard output");
  command->add_option("--dot", flags->dot, "Write the DAG for Graphviz here; - is standard output");
  command->footer(
      "F3@1 is the forward of microbatch 3 on stage 1, B a backward, I and W its input's and its weights' "
      "part,\n"
      "R a recompute, FB a recompute and backward in one, F3@1&B0@6 an overlapped pair.\n"
      "Example: slackline order --order zbv --ranks 4 --microbatches 8 --csv zbv.csv");
  command->callback([&action, flags] { action = [flags] { return run(*flags); }; });
}

}  // namespace slackline
