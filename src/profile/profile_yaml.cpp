#include <set>

#include "../base/strict_yaml.h"
#include "slackline/base/number_text.h"
#include "slackline/profile/profile_io.h"

namespace slackline {
namespace {

constexpr int kMaxClock = 100'000;

Measurement read_measurement(const YamlNode& node) {
  node.expect_keys({"clock_mhz", "time_s", "energy_j"});
  return {Megahertz(node.at("clock_mhz").integer(1, kMaxClock)), Seconds(node.at("time_s").positive_number()),
          Joules(node.at("energy_j").non_negative_number())};
}

std::vector<Measurement> read_options(const YamlNode& node) {
  std::vector<Measurement> options;
  std::set<Megahertz> seen;
  for (const YamlNode& item : node.items()) {
    const Measurement option = read_measurement(item);
    if (!seen.insert(option.clock).second) {
      item.at("clock_mhz").fail("the clock " + std::to_string(option.clock.value()) + " MHz comes twice");
    }
    if (!options.empty() && options.back().clock < option.clock) {
      item.at("clock_mhz").fail("clocks must fall from the highest to the lowest");
    }
    options.push_back(option);
  }
  return options;
}

StageProfile read_stage(const YamlNode& node, int expected) {
  node.expect_keys({"stage", "tensor_parallel", "blocking_power_w", "instructions"});
  const YamlNode number = node.at("stage");
  if (number.integer(0, kMaxStages) != expected) {
    number.fail("expected stage " + std::to_string(expected) + "; stages are numbered from 0 without a gap");
  }
  StageProfile stage;
  stage.tensor_parallel = node.at("tensor_parallel").integer(1, kMaxTensorParallel);
  if (node.has("blocking_power_w")) {
    stage.blocking_power = Watts(node.at("blocking_power_w").non_negative_number());
  }
  for (const YamlNode& item : node.at("instructions").items()) {
    item.expect_keys({"kind", "options"});
    const YamlNode name = item.at("kind");
    const auto kind = instruction_kind(name.text());
    if (!kind) name.fail("unknown instruction kind '" + name.text() + "'");
    if (!stage.instructions.emplace(*kind, read_options(item.at("options"))).second) {
      name.fail("'" + name.text() + "' comes twice in stage " + std::to_string(expected));
    }
  }
  for (const InstructionKind kind : kInstructionKinds) {
    if (!stage.instructions.contains(kind)) {
      node.at("instructions")
          .fail("stage " + std::to_string(expected) + " has no '" + std::string(name_of(kind)) + "'");
    }
  }
  return stage;
}

void emit(YAML::Emitter& out, const StageProfile& stage, int number) {
  out << YAML::BeginMap << YAML::Key << "stage" << YAML::Value << std::to_string(number);
  out << YAML::Key << "tensor_parallel" << YAML::Value << std::to_string(stage.tensor_parallel);
  if (stage.blocking_power) {
    out << YAML::Key << "blocking_power_w" << YAML::Value << exact_text(stage.blocking_power->value());
  }
  out << YAML::Key << "instructions" << YAML::Value << YAML::BeginSeq;
  for (const auto& [kind, options] : stage.instructions) {
    out << YAML::BeginMap << YAML::Key << "kind" << YAML::Value << std::string(name_of(kind));
    out << YAML::Key << "options" << YAML::Value << YAML::BeginSeq;
    for (const Measurement& option : options) {
      out << YAML::Flow << YAML::BeginMap << YAML::Key << "clock_mhz" << YAML::Value
          << std::to_string(option.clock.value()) << YAML::Key << "time_s" << YAML::Value
          << exact_text(option.time.value()) << YAML::Key << "energy_j" << YAML::Value
          << exact_text(option.energy.value()) << YAML::EndMap;
    }
    out << YAML::EndSeq << YAML::EndMap;
  }
  out << YAML::EndSeq << YAML::EndMap;
}

}  // namespace

Profile parse_profile_yaml(const std::string& file, const std::string& text) {
  const YamlNode root = YamlNode::document(file, text, "profile", 1);
  root.expect_keys({"slackline", "model", "gpu", "origin", "licence", "stages"});
  const auto optional_text = [&](std::string_view key) {
    return root.has(key) ? root.at(key).text() : std::string();
  };
  Profile profile{
      optional_text("model"), optional_text("gpu"), optional_text("origin"), optional_text("licence"), {}};
  const std::vector<YamlNode> stages = root.at("stages").items();
  if (stages.size() > static_cast<std::size_t>(kMaxStages)) root.at("stages").fail("too many stages");
  for (const YamlNode& stage : stages) {
    profile.stages.push_back(read_stage(stage, static_cast<int>(profile.stages.size())));
  }
  return profile;
}

std::string to_yaml(const Profile& profile) {
  YAML::Emitter out;
  out << YAML::BeginMap << YAML::Key << "slackline" << YAML::Value << "profile/1";
  const auto emit_text = [&](const char* key, const std::string& value) {
    if (!value.empty()) out << YAML::Key << key << YAML::Value << value;
  };
  emit_text("model", profile.model);
  emit_text("gpu", profile.gpu);
  emit_text("origin", profile.origin);
  emit_text("licence", profile.licence);
  out << YAML::Key << "stages" << YAML::Value << YAML::BeginSeq;
  for (std::size_t i = 0; i < profile.stages.size(); ++i) emit(out, profile.stages[i], static_cast<int>(i));
  out << YAML::EndSeq << YAML::EndMap;
  return std::string(out.c_str()) + "\n";
}

}  // namespace slackline
