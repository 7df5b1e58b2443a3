#include <map>
#include <string_view>
#include <utility>

#include "../base/strict_yaml.h"
#include "slackline/base/error.h"
#include "slackline/base/file.h"
#include "slackline/base/number_text.h"
#include "slackline/profile/profile_io.h"
#include "slackline/schedule/schedule_io.h"

namespace slackline {
namespace {

constexpr int kMaxClock = 100'000;

/// Indices of the instructions of one stage and kind, in the order of execution.
using Group = std::vector<std::size_t>;

std::map<std::pair<int, InstructionKind>, Group> groups_of(const Order& order) {
  std::map<std::pair<int, InstructionKind>, Group> groups;
  std::size_t index = 0;
  for (const auto& stage : order) {
    for (const Instruction& instruction : stage) {
      groups[{instruction.stage.value(), instruction.kind}].push_back(index++);
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
    text += std::to_string(clocks[group[i]].value());
    if (end - i > 1) text += "x" + std::to_string(end - i);
    i = end;
  }
  return text;
}

void read_runs(const YamlNode& node, const Group& group, Clocks& clocks) {
  const std::string text = node.text();
  std::size_t filled = 0;
  for (std::size_t begin = 0; begin < text.size();) {
    const std::size_t end = std::min(text.find(' ', begin), text.size());
    const std::string_view run = std::string_view(text).substr(begin, end - begin);
    begin = end + 1;
    const std::size_t times = run.find('x');
    const auto clock = parse_integer(run.substr(0, times));
    const auto count = times == std::string_view::npos ? 1 : parse_integer(run.substr(times + 1));
    if (!clock || *clock < 1 || *clock > kMaxClock || !count || *count < 1) {
      node.fail("'" + std::string(run) + "' is not a clock in MHz or CLOCKxCOUNT");
    }
    if (*count > static_cast<std::int64_t>(group.size() - filled)) {
      node.fail("more than the " + std::to_string(group.size()) + " clocks that this stage and kind need");
    }
    for (std::int64_t i = 0; i < *count; ++i) {
      clocks[group[filled++]] = Megahertz(static_cast<std::int32_t>(*clock));
    }
  }
  if (filled != group.size()) {
    node.fail(std::to_string(filled) + " clocks where this stage and kind need " +
              std::to_string(group.size()));
  }
}

Plan read_plan(const YamlNode& node, const std::map<std::pair<int, InstructionKind>, Group>& groups,
               std::size_t instructions) {
  node.expect_keys({"time_s", "energy_j", "bound_j", "gap_percent", "clocks"});
  Plan plan{Seconds(node.at("time_s").positive_number()), Joules(node.at("energy_j").non_negative_number()),
            Joules(node.at("bound_j").positive_number()), Clocks(instructions)};
  (void)node.at("gap_percent").number();
  std::map<std::pair<int, InstructionKind>, bool> seen;
  for (const YamlNode& item : node.at("clocks").items()) {
    item.expect_keys({"stage", "kind", "mhz"});
    const auto kind = instruction_kind(item.at("kind").text());
    if (!kind) item.at("kind").fail("unknown instruction kind '" + item.at("kind").text() + "'");
    const auto group = groups.find({item.at("stage").integer(0, kMaxStages), *kind});
    if (group == groups.end()) item.at("stage").fail("the schedule has no such stage");
    if (std::exchange(seen[group->first], true)) item.at("kind").fail("the stage and kind come twice");
    read_runs(item.at("mhz"), group->second, plan.clocks);
  }
  for (const auto& [key, group] : groups) {
    if (seen.contains(key)) continue;
    node.at("clocks").fail("no clocks for " + std::string(name_of(key.second)) + " of stage " +
                           std::to_string(key.first));
  }
  return plan;
}

ScheduleStage read_stage(const YamlNode& node, int expected) {
  node.expect_keys({"stage", "tensor_parallel", "blocking_power_w", "baseline_clock_mhz"});
  if (node.at("stage").integer(0, kMaxStages) != expected) {
    node.at("stage").fail("expected stage " + std::to_string(expected) +
                          "; stages are numbered from 0 without a gap");
  }
  return {node.at("tensor_parallel").integer(1, kMaxTensorParallel),
          Watts(node.at("blocking_power_w").non_negative_number()),
          Megahertz(node.at("baseline_clock_mhz").integer(1, kMaxClock))};
}

}  // namespace

Schedule read_schedule(const std::string& path) {
  return parse_schedule_yaml(path, read_file(path));
}

Schedule parse_schedule_yaml(const std::string& file, const std::string& text) {
  const YamlNode root = YamlNode::document(file, text, "schedule", 1);
  root.expect_keys({"slackline", "model", "gpu", "order", "microbatches", "stages", "all_max_time_s",
                    "all_max_energy_j", "fastest_time_s", "least_energy_time_s", "cheapest_time_s", "chosen",
                    "plans"});
  Schedule schedule;
  if (root.has("model")) schedule.model = root.at("model").text();
  if (root.has("gpu")) schedule.gpu = root.at("gpu").text();
  schedule.order_name = root.at("order").text();
  schedule.microbatches = root.at("microbatches").integer(1, static_cast<std::int32_t>(kMaxInstructions));
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
  const auto groups = groups_of(order);
  std::size_t instructions = 0;
  for (const auto& stage : order) instructions += stage.size();
  const std::vector<YamlNode> plans = root.at("plans").items();
  if (instructions * plans.size() > 100 * static_cast<std::size_t>(kMaxInstructions)) {
    root.at("plans").fail("too many plans for an iteration of this size");
  }
  for (const YamlNode& plan : plans) schedule.plans.push_back(read_plan(plan, groups, instructions));
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
  out << YAML::Key << "order" << YAML::Value << schedule.order_name;
  out << YAML::Key << "microbatches" << YAML::Value << std::to_string(schedule.microbatches);
  out << YAML::Key << "stages" << YAML::Value << YAML::BeginSeq;
  for (std::size_t s = 0; s < schedule.stages.size(); ++s) {
    const ScheduleStage& stage = schedule.stages[s];
    out << YAML::Flow << YAML::BeginMap << YAML::Key << "stage" << YAML::Value << std::to_string(s);
    out << YAML::Key << "tensor_parallel" << YAML::Value << std::to_string(stage.tensor_parallel);
    number("blocking_power_w", stage.blocking_power.value());
    out << YAML::Key << "baseline_clock_mhz" << YAML::Value << std::to_string(stage.baseline_clock.value())
        << YAML::EndMap;
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
