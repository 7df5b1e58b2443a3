#include "slackline/pipeline/order.h"

#include <algorithm>

#include "order_makers.h"
#include "slackline/base/error.h"

namespace slackline {
namespace {

[[noreturn]] void refuse(const char* flag, const std::string& reason) {
  throw InputError("", 0, flag, reason);
}

std::string number(std::int64_t n) {
  return std::to_string(n);
}

/// Megatron-LM's rules for its microbatch groups (core/pipeline_parallel/schedules.py).
void check_groups(const OrderSize& size) {
  const int rest = size.microbatches % size.group_size;
  if (size.group_size < size.ranks || size.group_size > size.microbatches) {
    refuse("--group-size", "groups of " + number(size.group_size) + " microbatches; they must be from " +
                               number(size.ranks) + " (the ranks) to " + number(size.microbatches) +
                               " (the microbatches)");
  }
  if (rest != 0 && rest < size.ranks) {
    refuse("--group-size", number(size.microbatches) + " microbatches in groups of " +
                               number(size.group_size) + " leave a last group of " + number(rest) +
                               ", fewer than the " + number(size.ranks) + " ranks");
  }
}

void check_groups_of_chunks(const OrderSize& size) {
  if (size.chunks > 1) check_groups(size);
}

void check_dual_pipe(const OrderSize& size) {
  if (size.microbatches < 2 * size.ranks) {
    refuse("--microbatches", "must be at least " + number(2 * size.ranks) + ", twice the ranks");
  }
}

void check_both_ends(const OrderSize& size) {
  if (size.ranks % 2 != 0) refuse("--stages", "must be even, so that the pipeline has a middle");
  if (size.microbatches % 2 != 0) refuse("--microbatches", "must be even: half enter at each end");
  check_dual_pipe(size);
}

void accept(const OrderSize&) {}

struct KnownOrder {
  const char* name;
  std::vector<Instruction> (*row)(const OrderSize&, int rank);
  int default_chunks;
  int least_chunks;
  int most_chunks;
  bool grouped;      // takes a group size
  int instructions;  // at most, of a stage and microbatch
  void (*check)(const OrderSize&) = accept;
};

constexpr int kManyChunks = 1024;
const std::vector<KnownOrder> kOrders{
    {"1f1b", one_f_one_b_row, 1, 1, 1, false, 2},
    {"gpipe", gpipe_row, 1, 1, 1, false, 2},
    {"looped-bfs", looped_bfs_row, 2, 1, kManyChunks, false, 2},
    {"interleaved-1f1b", interleaved_row, 2, 2, kManyChunks, true, 2, check_groups},
    {"early-recompute-1f1b", early_recompute_row, 1, 1, 1, false, 3},
    {"zb-h1", zb_h1_row, 1, 1, kManyChunks, true, 3, check_groups_of_chunks},
    {"zbv", zbv_row, 2, 2, 2, false, 3},
    {"dualpipev", dualpipev_row, 2, 2, 2, false, 3, check_dual_pipe},
    {"dualpipe", dualpipe_row, 1, 1, 1, false, 3, check_both_ends},
};

const KnownOrder& known_order(std::string_view name) {
  const auto found =
      std::find_if(kOrders.begin(), kOrders.end(), [&](const KnownOrder& o) { return o.name == name; });
  if (found != kOrders.end()) return *found;
  std::string names;
  for (const std::string& known : order_names()) names += known + ", ";
  refuse("--order", "unknown order '" + std::string(name) + "'; known: " + names + "csv:FILE");
}

OrderSize legal_size(const KnownOrder& order, const OrderSpec& spec, int stages) {
  const int chunks = spec.chunks == 0 ? order.default_chunks : spec.chunks;
  const std::string name = order.name;
  if (stages < 1) refuse("--stages", "must be at least 1");
  if (spec.microbatches < 1) refuse("--microbatches", "must be at least 1");
  if (chunks < order.least_chunks || chunks > order.most_chunks) {
    refuse("--chunks",
           order.least_chunks == order.most_chunks
               ? name + " runs with " + number(order.least_chunks) + " chunks a rank, not " + number(chunks)
               : name + " runs with " + number(order.least_chunks) + " to " + number(order.most_chunks) +
                     " chunks a rank, not " + number(chunks));
  }
  if (stages % chunks != 0) {
    refuse("--chunks", number(stages) + " stages are no multiple of " + number(chunks) + " chunks a rank");
  }
  if (spec.microbatches > kMaxInstructions / order.instructions / stages) {
    refuse("--microbatches", number(stages) + " stages x " + number(spec.microbatches) +
                                 " microbatches are more than the " + number(kMaxInstructions) +
                                 " instructions that can be planned");
  }
  if (spec.group_size != 0 && !order.grouped) refuse("--group-size", name + " has no microbatch groups");
  if (spec.group_size > spec.microbatches) refuse("--group-size", "must be at most the microbatches");
  if (spec.group_size < 0) refuse("--group-size", "must be at least 1");
  OrderSize size{stages / chunks, chunks, static_cast<int>(spec.microbatches), 0};
  size.group_size = spec.group_size == 0 ? size.ranks : spec.group_size;
  order.check(size);
  return size;
}

}  // namespace

const std::vector<std::string>& order_names() {
  static const std::vector<std::string> names = [] {
    std::vector<std::string> all;
    for (const KnownOrder& order : kOrders) all.emplace_back(order.name);
    return all;
  }();
  return names;
}

int default_chunks(std::string_view name) {
  return known_order(name).default_chunks;
}

int stage_count(const Order& order) {
  int stages = 0;
  for (const auto& row : order) {
    for (const Instruction& i : row)
      stages = std::max({stages, i.stage.value() + 1, i.backward_stage.value() + 1});
  }
  return stages;
}

Order make_order(const OrderSpec& spec, int stages) {
  if (spec.name == "csv") return spec.rows;
  const KnownOrder& known = known_order(spec.name);
  const OrderSize size = legal_size(known, spec, stages);
  Order order;
  for (int rank = 0; rank < size.ranks; ++rank) order.push_back(known.row(size, rank));
  return order;
}

}  // namespace slackline
