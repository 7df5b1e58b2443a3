#include <map>
#include <optional>
#include <string_view>
#include <utility>

#include "../base/strict_yaml.h"
#include "slackline/base/error.h"
#include "slackline/base/file.h"
#include "slackline/base/number_text.h"
#include "slackline/pipeline/order_csv.h"
#include "slackline/profile/profile_io.h"
#include "slackline/schedule/schedule_io.h"

namespace slackline {
namespace {

/// Indices of the instructions of one stage and kind, in the order of execution. Fixed-time kinds have none:
/// there is nothing to say of them.
using Group = std::vector<std::size_t>;

std::map<std::pair<int, InstructionKind>, Group> groups_of(const Order& order) {
  std::map<std::pair<int, InstructionKind>, Group> groups;
  std::size_t index = 0;
  for (const auto& stage : order) {
    for (const Instruction& instruction : stage) {
      if (!is_fixed_time(instruction.kind))
        groups[{instruction.stage.value(), instruction.kind}].push_back(index);
      ++index;
    }
  }
  return groups;
}

std::string runs_text(const Clocks& clocks, const Group& group) {
  std::string text;
  for (std::size_t i = 0; i < group.size();) {
    std::size_t end = i;
    while (end < group.size() && clocks[group[end]] == clocks[group[i]]) ++end;
    if (!text.empty()) text += ' ';
    text += std::to_string(clocks[group[i]].mhz.value());
    if (const ConfigId config = clocks[group[i]].config; config.value() != 0) {
      text += "@" + std::to_string(config.value());
    }
    if (end - i > 1) text += "x" + std::to_string(end - i);
    i = end;
  }
  return text;
}

/// "1410", "1410x3", "1410@2" or "1410@2x3": clock, number of its label, how often.
struct Run {
  ClockSetting clock;
  std::int64_t count = 1;
};

std::optional<Run> parse_run(std::string_view text, std::size_t configs) {
  const std::size_t times = text.find('x');
  const std::string_view setting = text.substr(0, times);
  const std::size_t at = setting.find('@');
  const auto clock = parse_integer(setting.substr(0, at));
  const auto config = at == std::string_view::npos ? 0 : parse_integer(setting.substr(at + 1));
  const auto count = times == std::string_view::npos ? 1 : parse_integer(text.substr(times + 1));
  if (!clock || *clock < 1 || *clock > kMaxClock || !count || *count < 1) return std::nullopt;
  if (!config || *config < 0 || *config > static_cast<std::int64_t>(configs)) return std::nullopt;
  return Run{{Megahertz(static_cast<std::int32_t>(*clock)), ConfigId(static_cast<std::int32_t>(*config))},
             *count};
}

void read_runs(const YamlNode& node, const Group& group, std::size_t configs, Clocks& clocks) {
  const std::string text = node.text();
  std::size_t filled = 0;
  for (std::size_t begin = 0; begin < text.size();) {
    const std::size_t end = std::min(text.find(' ', begin), text.size());
    const std::string_view token = std::string_view(text).substr(begin, end - begin);
    begin = end + 1;
    const std::optional<Run> run = parse_run(token, configs);
    if (!run) node.fail("'" + std::string(token) + "' is not a clock in MHz or CLOCKxCOUNT");
    if (run->count > static_cast<std::int64_t>(group.size() - filled)) {
      node.fail("more than the " + std::to_string(group.size()) + " clocks that this stage and kind need");
    }
    for (std::int64_t i = 0; i < run->count; ++i) clocks[group[filled++]] = run->clock;
  }
  if (filled != group.size()) {
    node.fail(std::to_string(filled) + " clocks where this stage and kind need " +
              std::to_string(group.size()));
  }
}

Plan read_plan(const YamlNode& node, const std::map<std::pair<int, InstructionKind>, Group>& groups,
               std::size_t instructions, std::size_t configs) {
  node.expect_keys({"time_s", "energy_j", "bound_j", "gap_percent", "late_time_s", "clocks"});
  Plan plan{Seconds(node.at("time_s").positive_number()), Joules(node.at("energy_j").non_negative_number()),
            Joules(node.at("bound_j").positive_number()), Clocks(instructions)};
  (void)node.at("gap_percent").number();  // follows from the two before it
  if (node.has("late_time_s")) plan.late_time = Seconds(node.at("late_time_s").positive_number());
  std::map<std::pair<int, InstructionKind>, bool> seen;
  for (const YamlNode& item : node.at("clocks").items()) {
    item.expect_keys({"stage", "kind", "mhz"});
    const auto kind = instruction_kind(item.at("kind").text());
    if (!kind) item.at("kind").fail("unknown instruction kind '" + item.at("kind").text() + "'");
    const auto group = groups.find({item.at("stage").integer(0, kMaxStages), *kind});
    if (group == groups.end()) item.at("stage").fail("the schedule has no such stage");
    if (std::exchange(seen[group->first], true)) item.at("kind").fail("the stage and kind come twice");
    read_runs(item.at("mhz"), group->second, configs, plan.clocks);
  }
  for (const auto& [key, group] : groups) {
    if (seen.contains(key)) continue;
    node.at("clocks").fail("no clocks for " + std::string(name_of(key.second)) + " of stage " +
                           std::to_string(key.first));
  }
  return plan;
}

ScheduleStage read_stage(const YamlNode& node, int expected) {
  node.expect_keys(
      {"stage", "tensor_parallel", "blocking_power_w", "baseline_clock_mhz", "transfer_s", "special_kinds"});
  if (node.at("stage").integer(0, kMaxStages) != expected) {
    node.at("stage").fail("expected stage " + std::to_string(expected) +
                          "; stages are numbered from 0 without a gap");
  }
  ScheduleStage stage{node.at("tensor_parallel").integer(1, kMaxTensorParallel),
                      Watts(node.at("blocking_power_w").non_negative_number()),
                      Megahertz(node.at("baseline_clock_mhz").integer(1, kMaxClock))};
  if (node.has("transfer_s")) stage.transfer = Seconds(node.at("transfer_s").non_negative_number());
  if (!node.has("special_kinds")) return stage;
  for (const YamlNode& item : node.at("special_kinds").items()) {
    const auto kind = instruction_kind(item.text());
    const bool is_special = kind && (is_fixed_time(*kind) || *kind == InstructionKind::kOverlapped);
    if (!is_special) item.fail("'" + item.text() + "' is neither a fixed-time kind nor an overlapped pair");
    stage.special_kinds.insert(*kind);
  }
  return stage;
}

OrderSpec read_order_spec(const YamlNode& root) {
  OrderSpec spec;
  spec.name = root.at("order").text();
  spec.microbatches = root.at("microbatches").integer(1, static_cast<std::int32_t>(kMaxInstructions));
  if (root.has("chunks")) spec.chunks = root.at("chunks").integer(1, kMaxStages);
  if (root.has("group_size")) {
    spec.group_size = root.at("group_size").integer(1, static_cast<std::int32_t>(kMaxInstructions));
  }
  if (spec.name != "csv") {
    if (root.has("rows")) root.at("rows").fail("only order csv has rows");
    return spec;
  }
  for (const char* key : {"chunks", "group_size"}) {
    if (root.has(key)) root.at(key).fail("order csv says it by its rows");
  }
  std::string rows;
  for (const YamlNode& row : root.at("rows").items()) rows += row.text() + "\n";
  const std::int64_t said = spec.microbatches;
  try {
    spec = parse_order_csv("rows", rows);
  } catch (const InputError& error) {
    root.at("rows").fail("row " + std::to_string(error.line()) + ", " + error.key() + ": " + error.reason());
  }
  if (spec.microbatches != said) {
    root.at("microbatches").fail("the rows run " + std::to_string(spec.microbatches) + " microbatches");
  }
  return spec;
}

void emit_order_spec(YAML::Emitter& out, const OrderSpec& spec) {
  out << YAML::Key << "order" << YAML::Value << spec.name;
  out << YAML::Key << "microbatches" << YAML::Value << std::to_string(spec.microbatches);
  if (spec.chunks != 0) out << YAML::Key << "chunks" << YAML::Value << std::to_string(spec.chunks);
  if (spec.group_size != 0)
    out << YAML::Key << "group_size" << YAML::Value << std::to_string(spec.group_size);
  if (spec.name != "csv") return;
  out << YAML::Key << "rows" << YAML::Value << YAML::BeginSeq;
  for (const auto& row : spec.rows) {
    const std::string line = order_csv({row});
    out << line.substr(0, line.size() - 1);
  }
  out << YAML::EndSeq;
}

}  // namespace

Schedule read_schedule(const std::string& path) {
  return parse_schedule_yaml(path, read_file(path));
}

Schedule parse_schedule_yaml(const std::string& file, const std::string& text) {
  const YamlNode root = YamlNode::document(file, text, "schedule", 1);
  root.expect_keys({"slackline", "model", "gpu", "order", "microbatches", "chunks", "group_size", "rows",
                    "configs", "derived", "data_parallel", "stages", "all_max_time_s", "all_max_energy_j",
                    "fastest_time_s", "least_energy_time_s", "cheapest_time_s", "chosen", "plans"});
  Schedule schedule;
  if (root.has("model")) schedule.model = root.at("model").text();
  if (root.has("gpu")) schedule.gpu = root.at("gpu").text();
  schedule.order_spec = read_order_spec(root);
  if (root.has("data_parallel"))
    schedule.data_parallel = root.at("data_parallel").integer(1, kMaxDataParallel);
  if (root.has("configs")) {
    for (const YamlNode& label : root.at("configs").items()) {
      const auto number = static_cast<std::int32_t>(schedule.configs.size()) + 1;
      if (config_of(schedule.configs, label.text()) != ConfigId(number))
        label.fail("is empty or comes twice");
    }
  }
  if (root.has("derived")) {
    for (const YamlNode& request : root.at("derived").items()) schedule.derived.push_back(request.text());
  }
  for (const YamlNode& stage : root.at("stages").items()) {
    schedule.stages.push_back(read_stage(stage, static_cast<int>(schedule.stages.size())));
  }
  schedule.all_max_time = Seconds(root.at("all_max_time_s").positive_number());
  schedule.all_max_energy = Joules(root.at("all_max_energy_j").positive_number());
  schedule.fastest_time = Seconds(root.at("fastest_time_s").positive_number());
  schedule.least_energy_time = Seconds(root.at("least_energy_time_s").positive_number());
  schedule.cheapest_time = Seconds(root.at("cheapest_time_s").positive_number());

  Order order;
  try {
    order = schedule.order();
  } catch (const InputError& error) {
    root.at("order").fail(error.reason());
  }
  if (static_cast<std::size_t>(stage_count(order)) != schedule.stages.size()) {
    root.at("stages").fail("the order has " + std::to_string(stage_count(order)) + " stages");
  }
  const auto groups = groups_of(order);
  std::size_t instructions = 0;
  for (const auto& stage : order) instructions += stage.size();
  const std::vector<YamlNode> plans = root.at("plans").items();
  if (instructions * plans.size() > 100 * static_cast<std::size_t>(kMaxInstructions)) {
    root.at("plans").fail("too many plans for an iteration of this size");
  }
  for (const YamlNode& plan : plans) {
    schedule.plans.push_back(read_plan(plan, groups, instructions, schedule.configs.size()));
    const std::size_t count = schedule.plans.size();
    if (count > 1 && schedule.plans[count - 1].time <= schedule.plans[count - 2].time) {
      plan.at("time_s").fail("plans must go from the fastest to the slowest");
    }
  }
  schedule.chosen =
      static_cast<std::size_t>(root.at("chosen").integer(0, static_cast<std::int32_t>(plans.size()) - 1));
  return schedule;
}

std::string to_yaml(const Schedule& schedule) {
  YAML::Emitter out;
  const auto number = [&](const char* key, double value) {
    out << YAML::Key << key << YAML::Value << exact_text(value);
  };
  out << YAML::BeginMap << YAML::Key << "slackline" << YAML::Value << "schedule/1";
  if (!schedule.model.empty()) out << YAML::Key << "model" << YAML::Value << schedule.model;
  if (!schedule.gpu.empty()) out << YAML::Key << "gpu" << YAML::Value << schedule.gpu;
  emit_order_spec(out, schedule.order_spec);
  if (schedule.data_parallel > 1) {
    out << YAML::Key << "data_parallel" << YAML::Value << std::to_string(schedule.data_parallel);
  }
  if (!schedule.configs.empty()) {
    out << YAML::Key << "configs" << YAML::Value << YAML::Flow << schedule.configs;
  }
  if (!schedule.derived.empty()) {
    out << YAML::Key << "derived" << YAML::Value << YAML::Flow << schedule.derived;
  }
  out << YAML::Key << "stages" << YAML::Value << YAML::BeginSeq;
  for (std::size_t s = 0; s < schedule.stages.size(); ++s) {
    const ScheduleStage& stage = schedule.stages[s];
    out << YAML::Flow << YAML::BeginMap << YAML::Key << "stage" << YAML::Value << std::to_string(s);
    out << YAML::Key << "tensor_parallel" << YAML::Value << std::to_string(stage.tensor_parallel);
    number("blocking_power_w", stage.blocking_power.value());
    out << YAML::Key << "baseline_clock_mhz" << YAML::Value << std::to_string(stage.baseline_clock.value());
    if (stage.transfer > Seconds(0)) number("transfer_s", stage.transfer.value());
    if (!stage.special_kinds.empty()) {
      out << YAML::Key << "special_kinds" << YAML::Value << YAML::BeginSeq;
      for (const InstructionKind kind : stage.special_kinds) out << std::string(name_of(kind));
      out << YAML::EndSeq;
    }
    out << YAML::EndMap;
  }
  out << YAML::EndSeq;
  number("all_max_time_s", schedule.all_max_time.value());
  number("all_max_energy_j", schedule.all_max_energy.value());
  number("fastest_time_s", schedule.fastest_time.value());
  number("least_energy_time_s", schedule.least_energy_time.value());
  number("cheapest_time_s", schedule.cheapest_time.value());
  out << YAML::Key << "chosen" << YAML::Value << std::to_string(schedule.chosen);
  const auto groups = groups_of(schedule.order());
  out << YAML::Key << "plans" << YAML::Value << YAML::BeginSeq;
  for (const Plan& plan : schedule.plans) {
    out << YAML::BeginMap;
    number("time_s", plan.time.value());
    number("energy_j", plan.energy.value());
    number("bound_j", plan.bound.value());
    number("gap_percent", plan.gap_percent());
    if (plan.late_time) number("late_time_s", plan.late_time->value());
    out << YAML::Key << "clocks" << YAML::Value << YAML::BeginSeq;
    for (const auto& [key, group] : groups) {
      out << YAML::Flow << YAML::BeginMap << YAML::Key << "stage" << YAML::Value << std::to_string(key.first)
          << YAML::Key << "kind" << YAML::Value << std::string(name_of(key.second)) << YAML::Key << "mhz"
          << YAML::Value << runs_text(plan.clocks, group) << YAML::EndMap;
    }
    out << YAML::EndSeq << YAML::EndMap;
  }
  out << YAML::EndSeq << YAML::EndMap;
  return std::string(out.c_str()) + "\n";
}

}  // namespace slackline
