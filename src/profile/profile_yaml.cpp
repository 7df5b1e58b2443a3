#include <set>
#include <tuple>
#include <utility>

#include "../base/strict_yaml.h"
#include "slackline/base/number_text.h"
#include "slackline/profile/profile_io.h"

namespace slackline {
namespace {

constexpr int kMaxRuns = 1'000'000'000;

double number_or_zero(const YamlNode& node, std::string_view key) {
  return node.has(key) ? node.at(key).non_negative_number() : 0.0;
}

/// A mark that is there or not.
bool read_true(const YamlNode& node) {
  if (node.text() != "true") node.fail("it is 'true' or left out");
  return true;
}

double read_share(const YamlNode& node, std::string_view key) {
  return node.has(key) ? node.at(key).share() : 0;
}

std::vector<Megahertz> read_clocks(const YamlNode& node, std::string_view key) {
  std::vector<Megahertz> clocks;
  if (!node.has(key)) return clocks;
  for (const YamlNode& item : node.at(key).items()) {
    const Megahertz clock(item.integer(1, kMaxClock));
    if (!clocks.empty() && clocks.back() <= clock)
      item.fail("clocks must fall from the highest to the lowest");
    clocks.push_back(clock);
  }
  return clocks;
}

MeasuringNotes read_notes(const YamlNode& node) {
  node.expect_keys({"blocking_power_error_w", "second_blocking_power_w", "second_blocking_power_error_w",
                    "counter_period_s", "duration_s", "throttled_share", "foreign_share", "unreadable_share",
                    "drift_share", "drift_error_share", "throttled_clocks_mhz", "missed_clocks_mhz"});
  const auto number = [&](std::string_view key) { return number_or_zero(node, key); };
  return {Watts(number("blocking_power_error_w")),
          Watts(number("second_blocking_power_w")),
          Watts(number("second_blocking_power_error_w")),
          Seconds(number("counter_period_s")),
          Seconds(number("duration_s")),
          read_share(node, "throttled_share"),
          read_share(node, "foreign_share"),
          read_share(node, "unreadable_share"),
          node.has("drift_share") ? node.at("drift_share").number() : 0.0,
          number("drift_error_share"),
          read_clocks(node, "throttled_clocks_mhz"),
          read_clocks(node, "missed_clocks_mhz")};
}

Measurement read_fixed_time(const YamlNode& node) {
  node.expect_keys({"time_s", "energy_j"});
  return {Megahertz(0), Seconds(node.at("time_s").positive_number()),
          Joules(node.at("energy_j").non_negative_number())};
}

Measurement read_measurement(const YamlNode& node, std::vector<std::string>& configs) {
  node.expect_keys({"clock_mhz", "config", "time_s", "energy_j", "time_error_s", "energy_error_j",
                    "second_energy_j", "second_energy_error_j", "runs", "modelled"});
  const auto number = [&](std::string_view key) { return number_or_zero(node, key); };
  return {Megahertz(node.at("clock_mhz").integer(1, kMaxClock)),
          Seconds(node.at("time_s").positive_number()),
          Joules(node.at("energy_j").non_negative_number()),
          node.has("config") ? config_of(configs, node.at("config").text()) : ConfigId(0),
          Seconds(number("time_error_s")),
          Joules(number("energy_error_j")),
          Joules(number("second_energy_j")),
          Joules(number("second_energy_error_j")),
          node.has("runs") ? node.at("runs").integer(1, kMaxRuns) : 0,
          node.has("modelled") && read_true(node.at("modelled"))};
}

std::vector<Measurement> read_options(const YamlNode& node, InstructionKind kind,
                                      std::vector<std::string>& configs) {
  if (is_fixed_time(kind)) {
    if (node.items().size() != 1)
      node.fail("'" + std::string(name_of(kind)) + "' takes a fixed time; one option");
    return {read_fixed_time(node.items().front())};
  }
  std::vector<Measurement> options;
  std::set<ClockSetting> seen;
  for (const YamlNode& item : node.items()) {
    const Measurement option = read_measurement(item, configs);
    if (!seen.insert({option.clock, option.config}).second) {
      item.at("clock_mhz").fail("the clock " + std::to_string(option.clock.value()) + " MHz comes twice");
    }
    if (!options.empty() && options.back().clock < option.clock) {
      item.at("clock_mhz").fail("clocks must fall from the highest to the lowest");
    }
    options.push_back(option);
  }
  return options;
}

StageProfile read_stage(const YamlNode& node, int expected, std::vector<std::string>& configs) {
  node.expect_keys(
      {"stage", "tensor_parallel", "blocking_power_w", "transfer_s", "gpu", "measuring", "instructions"});
  const YamlNode number = node.at("stage");
  if (number.integer(0, kMaxStages) != expected) {
    number.fail("expected stage " + std::to_string(expected) + "; stages are numbered from 0 without a gap");
  }
  StageProfile stage;
  stage.tensor_parallel = node.at("tensor_parallel").integer(1, kMaxTensorParallel);
  if (node.has("blocking_power_w")) {
    stage.blocking_power = Watts(node.at("blocking_power_w").non_negative_number());
  }
  if (node.has("transfer_s")) stage.transfer = Seconds(node.at("transfer_s").non_negative_number());
  if (node.has("gpu")) stage.gpu = node.at("gpu").text();
  if (node.has("measuring")) stage.notes = read_notes(node.at("measuring"));
  for (const YamlNode& item : node.at("instructions").items()) {
    item.expect_keys({"kind", "options"});
    const YamlNode name = item.at("kind");
    const auto kind = instruction_kind(name.text());
    if (!kind) name.fail("unknown instruction kind '" + name.text() + "'");
    if (!stage.instructions.emplace(*kind, read_options(item.at("options"), *kind, configs)).second) {
      name.fail("'" + name.text() + "' comes twice in stage " + std::to_string(expected));
    }
  }
  if (const auto missing = missing_kind(stage)) {
    node.at("instructions")
        .fail("stage " + std::to_string(expected) + " has no '" + std::string(name_of(*missing)) + "'");
  }
  return stage;
}

/// The two times that a pair and the whole have in common.
std::pair<double, double> read_arrival(const YamlNode& node) {
  const double first_change = node.at("first_change").non_negative_number();
  const double stable = node.at("stable").non_negative_number();
  if (stable < first_change) node.at("stable").fail("a clock cannot be stable before the first change");
  return {first_change, stable};
}

SwitchTimes read_switch_times(const YamlNode& node) {
  node.expect_keys({"call", "first_change", "stable", "pairs"});
  SwitchTimes times;
  times.call_ms = node.at("call").non_negative_number();
  std::tie(times.first_change_ms, times.stable_ms) = read_arrival(node);
  if (!node.has("pairs")) return times;
  std::set<std::pair<Megahertz, Megahertz>> seen;
  for (const YamlNode& item : node.at("pairs").items()) {
    item.expect_keys({"from_mhz", "to_mhz", "first_change", "stable"});
    const Megahertz from(item.at("from_mhz").integer(1, kMaxClock));
    const Megahertz to(item.at("to_mhz").integer(1, kMaxClock));
    if (from == to) item.at("to_mhz").fail("a switch goes to another clock");
    if (!seen.insert({from, to}).second) item.at("to_mhz").fail("the pair of clocks comes twice");
    const auto [first_change, stable] = read_arrival(item);
    times.pairs.push_back({from, to, first_change, stable});
  }
  return times;
}

void emit(YAML::Emitter& out, const SwitchTimes& times) {
  const auto emit_arrival = [&](double first_change, double stable) {
    out << YAML::Key << "first_change" << YAML::Value << exact_text(first_change) << YAML::Key << "stable"
        << YAML::Value << exact_text(stable);
  };
  out << YAML::Key << "switch_ms" << YAML::Value << YAML::BeginMap;
  out << YAML::Key << "call" << YAML::Value << exact_text(times.call_ms);
  emit_arrival(times.first_change_ms, times.stable_ms);
  if (!times.pairs.empty()) out << YAML::Key << "pairs" << YAML::Value << YAML::BeginSeq;
  for (const SwitchTimes::Pair& pair : times.pairs) {
    out << YAML::Flow << YAML::BeginMap << YAML::Key << "from_mhz" << YAML::Value
        << std::to_string(pair.from.value()) << YAML::Key << "to_mhz" << YAML::Value
        << std::to_string(pair.to.value());
    emit_arrival(pair.first_change_ms, pair.stable_ms);
    out << YAML::EndMap;
  }
  if (!times.pairs.empty()) out << YAML::EndSeq;
  out << YAML::EndMap;
}

/// What is 0 is left out.
void emit_number(YAML::Emitter& out, const char* key, double value) {
  if (value != 0) out << YAML::Key << key << YAML::Value << exact_text(value);
}

void emit(YAML::Emitter& out, const MeasuringNotes& notes) {
  out << YAML::Key << "measuring" << YAML::Value << YAML::BeginMap;
  emit_number(out, "blocking_power_error_w", notes.blocking_error.value());
  emit_number(out, "second_blocking_power_w", notes.second_blocking_power.value());
  emit_number(out, "second_blocking_power_error_w", notes.second_blocking_error.value());
  emit_number(out, "counter_period_s", notes.counter_period.value());
  emit_number(out, "duration_s", notes.duration.value());
  emit_number(out, "throttled_share", notes.throttled_share);
  emit_number(out, "foreign_share", notes.foreign_share);
  emit_number(out, "unreadable_share", notes.unreadable_share);
  emit_number(out, "drift_share", notes.drift);
  emit_number(out, "drift_error_share", notes.drift_error);
  const auto emit_clocks = [&](const char* key, const std::vector<Megahertz>& clocks) {
    if (clocks.empty()) return;
    out << YAML::Key << key << YAML::Value << YAML::Flow << YAML::BeginSeq;
    for (const Megahertz clock : clocks) out << std::to_string(clock.value());
    out << YAML::EndSeq;
  };
  emit_clocks("throttled_clocks_mhz", notes.throttled_clocks);
  emit_clocks("missed_clocks_mhz", notes.missed_clocks);
  out << YAML::EndMap;
}

void emit(YAML::Emitter& out, const Profile& profile, const StageProfile& stage, int number) {
  out << YAML::BeginMap << YAML::Key << "stage" << YAML::Value << std::to_string(number);
  out << YAML::Key << "tensor_parallel" << YAML::Value << std::to_string(stage.tensor_parallel);
  if (stage.blocking_power) {
    out << YAML::Key << "blocking_power_w" << YAML::Value << exact_text(stage.blocking_power->value());
  }
  if (stage.transfer > Seconds(0)) {
    out << YAML::Key << "transfer_s" << YAML::Value << exact_text(stage.transfer.value());
  }
  if (!stage.gpu.empty()) out << YAML::Key << "gpu" << YAML::Value << stage.gpu;
  if (stage.notes) emit(out, *stage.notes);
  out << YAML::Key << "instructions" << YAML::Value << YAML::BeginSeq;
  for (const auto& [kind, options] : stage.instructions) {
    out << YAML::BeginMap << YAML::Key << "kind" << YAML::Value << std::string(name_of(kind));
    out << YAML::Key << "options" << YAML::Value << YAML::BeginSeq;
    for (const Measurement& option : options) {
      out << YAML::Flow << YAML::BeginMap;
      if (!is_fixed_time(kind)) {
        out << YAML::Key << "clock_mhz" << YAML::Value << std::to_string(option.clock.value());
      }
      if (option.config.value() != 0) {
        out << YAML::Key << "config" << YAML::Value << label_of(profile.configs, option.config);
      }
      out << YAML::Key << "time_s" << YAML::Value << exact_text(option.time.value()) << YAML::Key
          << "energy_j" << YAML::Value << exact_text(option.energy.value());
      emit_number(out, "time_error_s", option.time_error.value());
      emit_number(out, "energy_error_j", option.energy_error.value());
      emit_number(out, "second_energy_j", option.second_energy.value());
      emit_number(out, "second_energy_error_j", option.second_energy_error.value());
      if (option.runs > 0) out << YAML::Key << "runs" << YAML::Value << std::to_string(option.runs);
      if (option.is_modelled) out << YAML::Key << "modelled" << YAML::Value << "true";
      out << YAML::EndMap;
    }
    out << YAML::EndSeq << YAML::EndMap;
  }
  out << YAML::EndSeq << YAML::EndMap;
}

}  // namespace

Profile parse_profile_yaml(const std::string& file, const std::string& text) {
  const YamlNode root = YamlNode::document(file, text, "profile", 1);
  root.expect_keys({"slackline", "model", "gpu", "origin", "licence", "switch_ms", "stages"});
  const auto optional_text = [&](std::string_view key) {
    return root.has(key) ? root.at(key).text() : std::string();
  };
  Profile profile{
      optional_text("model"), optional_text("gpu"), optional_text("origin"), optional_text("licence"), {}};
  if (root.has("switch_ms")) profile.switch_times = read_switch_times(root.at("switch_ms"));
  const std::vector<YamlNode> stages = root.at("stages").items();
  if (stages.size() > static_cast<std::size_t>(kMaxStages)) root.at("stages").fail("too many stages");
  for (const YamlNode& stage : stages) {
    profile.stages.push_back(read_stage(stage, static_cast<int>(profile.stages.size()), profile.configs));
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
  if (profile.switch_times) emit(out, *profile.switch_times);
  out << YAML::Key << "stages" << YAML::Value << YAML::BeginSeq;
  for (std::size_t i = 0; i < profile.stages.size(); ++i)
    emit(out, profile, profile.stages[i], static_cast<int>(i));
  out << YAML::EndSeq << YAML::EndMap;
  return std::string(out.c_str()) + "\n";
}

}  // namespace slackline
