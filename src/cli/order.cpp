#include <cstdio>
#include <memory>

#include "command.h"
#include "slackline/base/file.h"
#include "slackline/pipeline/dag.h"

namespace slackline {
namespace {

struct OrderFlags {
  std::string order = "1f1b";
  int stages = 0;
  std::int64_t microbatches = 0;
  std::string dot;
};

int run(const OrderFlags& flags) {
  const Order order = make_order(flags.order, flags.stages, flags.microbatches);
  if (!flags.dot.empty()) write_file(flags.dot, Dag(order).graphviz());
  if (flags.dot == "-") return kOk;
  for (std::size_t stage = 0; stage < order.size(); ++stage) {
    std::string line = "stage " + std::to_string(stage) + ":";
    for (const Instruction& instruction : order[stage]) {
      const std::string name = short_name(instruction);
      line += " " + name.substr(0, name.find('@'));
    }
    std::puts(line.c_str());
  }
  return kOk;
}

}  // namespace

void add_order(CLI::App& app, Action& action) {
  auto flags = std::make_shared<OrderFlags>();
  CLI::App* command = app.add_subcommand("order", "Show who runs what when, or draw its DAG");
  command->add_option("--order", flags->order, "1f1b or gpipe")->capture_default_str();
  command->add_option("--stages", flags->stages, "Pipeline stages")->required();
  command->add_option("--microbatches", flags->microbatches, "Microbatches of an iteration")->required();
  command->add_option("--dot", flags->dot, "Write the DAG for Graphviz here; - is standard output");
  command->footer(
      "Example: slackline order --order 1f1b --stages 4 --microbatches 8 --dot - | dot -Tsvg > dag.svg");
  command->callback([&action, flags] { action = [flags] { return run(*flags); }; });
}

}  // namespace slackline
