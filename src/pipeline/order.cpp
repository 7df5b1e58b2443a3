#include "slackline/pipeline/order.h"

#include <algorithm>

#include "slackline/base/error.h"

namespace slackline {
namespace {

using StageOrder = std::vector<Instruction>;

void append(StageOrder& order, InstructionKind kind, int stage, int first, int last) {
  for (int m = first; m < last; ++m) order.push_back({kind, StageId(stage), MicrobatchId(m)});
}

StageOrder gpipe_stage(int stage, int microbatches) {
  StageOrder order;
  append(order, InstructionKind::kForward, stage, 0, microbatches);
  append(order, InstructionKind::kBackward, stage, 0, microbatches);
  return order;
}

StageOrder one_f_one_b_stage(int stage, int stages, int microbatches) {
  const int warm_up = std::min(stages - 1 - stage, microbatches);
  StageOrder order;
  append(order, InstructionKind::kForward, stage, 0, warm_up);
  for (int k = 0; k < microbatches - warm_up; ++k) {
    append(order, InstructionKind::kForward, stage, warm_up + k, warm_up + k + 1);
    append(order, InstructionKind::kBackward, stage, k, k + 1);
  }
  append(order, InstructionKind::kBackward, stage, microbatches - warm_up, microbatches);
  return order;
}

}  // namespace

const std::vector<std::string>& order_names() {
  static const std::vector<std::string> names{"1f1b", "gpipe"};
  return names;
}

Order make_order(std::string_view name, int stages, std::int64_t microbatches) {
  if (std::find(order_names().begin(), order_names().end(), name) == order_names().end()) {
    throw InputError("", 0, "--order", "unknown order '" + std::string(name) + "'; known: 1f1b, gpipe");
  }
  if (stages < 1) throw InputError("", 0, "--stages", "must be at least 1");
  if (microbatches < 1) throw InputError("", 0, "--microbatches", "must be at least 1");
  if (microbatches > kMaxInstructions / 2 / stages) {
    throw InputError("", 0, "--microbatches",
                     std::to_string(stages) + " stages x " + std::to_string(microbatches) +
                         " microbatches are more than the " + std::to_string(kMaxInstructions) +
                         " instructions that can be planned");
  }
  Order order;
  for (int stage = 0; stage < stages; ++stage) {
    const int count = static_cast<int>(microbatches);
    order.push_back(name == "gpipe" ? gpipe_stage(stage, count) : one_f_one_b_stage(stage, stages, count));
  }
  return order;
}

}  // namespace slackline
