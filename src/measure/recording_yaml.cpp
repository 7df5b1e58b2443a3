#include <algorithm>

#include "../base/strict_yaml.h"
#include "slackline/base/number_text.h"
#include "slackline/measure/recording.h"
#include "slackline/profile/profile_io.h"

namespace slackline {
namespace {

constexpr int kMost = 1'000'000'000;

Estimate read_estimate(const YamlNode& node) {
  const std::vector<YamlNode> pair = node.items();
  if (pair.size() != 2) node.fail("an estimate is [value, standard error]");
  return {pair[0].non_negative_number(), pair[1].non_negative_number()};
}

KindEstimate read_kind(const YamlNode& node) {
  KindEstimate kind;
  kind.runs = static_cast<std::size_t>(node.at("runs").integer(1, kMost));
  kind.time = read_estimate(node.at("time_s"));
  kind.interpolated = read_estimate(node.at("interpolated_j"));
  kind.regressed = read_estimate(node.at("regressed_j"));
  if (kind.time.value <= 0) node.at("time_s").fail("a run takes longer than 0");
  return kind;
}

double read_share(const YamlNode& node, std::string_view key) {
  return node.has(key) ? node.at(key).share() : 0;
}

Visit read_visit(const YamlNode& node) {
  node.expect_keys({"round", "clock_mhz", "begin_s", "end_s", "ticks", "kinds", "waited_s", "blocking_w",
                    "regressed_blocking_w", "throttled_share", "foreign_share", "unreadable_share", "marks"});
  Visit visit;
  visit.round = node.at("round").integer(0, kMost);
  visit.clock = Megahertz(node.at("clock_mhz").integer(1, kMaxClock));
  visit.span = {Seconds(node.at("begin_s").non_negative_number()),
                Seconds(node.at("end_s").non_negative_number())};
  if (visit.span.length() <= Seconds(0)) node.at("end_s").fail("a visit ends after it begins");
  visit.estimate.ticks = static_cast<std::size_t>(node.at("ticks").integer(0, kMost));
  if (node.has("kinds")) {
    for (const YamlNode& item : node.at("kinds").items()) {
      item.expect_keys({"kind", "chunk", "runs", "time_s", "interpolated_j", "regressed_j"});
      const YamlNode name = item.at("kind");
      const auto kind = instruction_kind(name.text());
      if (!kind) name.fail("unknown instruction kind '" + name.text() + "'");
      const int chunk = item.has("chunk") ? item.at("chunk").integer(0, kMaxStages - 1) : 0;
      if (!visit.estimate.kinds.emplace(Task(*kind, chunk), read_kind(item)).second)
        name.fail("it comes twice");
    }
  }
  if (node.has("blocking_w")) {
    visit.estimate.waited = Seconds(node.at("waited_s").positive_number());
    visit.estimate.interpolated_blocking = read_estimate(node.at("blocking_w"));
    visit.estimate.regressed_blocking = read_estimate(node.at("regressed_blocking_w"));
  }
  visit.throttled_share = read_share(node, "throttled_share");
  visit.foreign_share = read_share(node, "foreign_share");
  visit.unreadable_share = read_share(node, "unreadable_share");
  if (!node.has("marks")) return visit;
  for (const YamlNode& mark : node.at("marks").items()) {
    bool* const flag = mark.text() == "throttled" ? &visit.is_throttled
                       : mark.text() == "missed"  ? &visit.is_missed
                       : mark.text() == "wait"    ? &visit.is_wait
                                                  : nullptr;
    if (flag == nullptr) mark.fail("unknown mark '" + mark.text() + "'; known: throttled, missed, wait");
    *flag = true;
  }
  return visit;
}

StageRecording read_stage(const YamlNode& node, int pipeline_stages) {
  node.expect_keys({"stage", "stages", "gpus", "clocks_mhz", "visits"});
  StageRecording stage;
  if (node.has("stages")) {
    for (const YamlNode& item : node.at("stages").items()) {
      stage.stages.push_back(item.integer(0, pipeline_stages - 1));
      const auto last = stage.stages.end() - 1;
      if (std::find(stage.stages.begin(), last, *last) != last) item.fail("the stage comes twice");
    }
  } else {
    stage.stages.push_back(node.at("stage").integer(0, pipeline_stages - 1));
  }
  stage.gpus = node.at("gpus").integer(1, kMaxTensorParallel);
  for (const YamlNode& item : node.at("clocks_mhz").items()) {
    const Megahertz clock(item.integer(1, kMaxClock));
    if (!stage.clocks.empty() && stage.clocks.back() <= clock) item.fail("clocks must fall");
    stage.clocks.push_back(clock);
  }
  if (!node.has("visits")) return stage;
  for (const YamlNode& item : node.at("visits").items()) {
    stage.visits.push_back(read_visit(item));
    if (stage.visits.size() > 1 && stage.visits[stage.visits.size() - 2].round > stage.visits.back().round) {
      item.at("round").fail("rounds must not fall");
    }
  }
  return stage;
}

void emit(YAML::Emitter& out, const char* key, const Estimate& estimate) {
  out << YAML::Key << key << YAML::Value << YAML::Flow << YAML::BeginSeq << exact_text(estimate.value)
      << exact_text(estimate.error) << YAML::EndSeq;
}

void emit(YAML::Emitter& out, const Visit& visit) {
  const auto emit_number = [&](const char* key, double value) {
    out << YAML::Key << key << YAML::Value << exact_text(value);
  };
  out << YAML::BeginMap;
  out << YAML::Key << "round" << YAML::Value << std::to_string(visit.round);
  out << YAML::Key << "clock_mhz" << YAML::Value << std::to_string(visit.clock.value());
  emit_number("begin_s", visit.span.begin.value());
  emit_number("end_s", visit.span.end.value());
  out << YAML::Key << "ticks" << YAML::Value << std::to_string(visit.estimate.ticks);
  if (visit.throttled_share > 0) emit_number("throttled_share", visit.throttled_share);
  if (visit.foreign_share > 0) emit_number("foreign_share", visit.foreign_share);
  if (visit.unreadable_share > 0) emit_number("unreadable_share", visit.unreadable_share);
  if (visit.is_throttled || visit.is_missed || visit.is_wait) {
    out << YAML::Key << "marks" << YAML::Value << YAML::Flow << YAML::BeginSeq;
    if (visit.is_throttled) out << "throttled";
    if (visit.is_missed) out << "missed";
    if (visit.is_wait) out << "wait";
    out << YAML::EndSeq;
  }
  if (visit.estimate.interpolated_blocking && visit.estimate.regressed_blocking) {
    emit_number("waited_s", visit.estimate.waited.value());
    emit(out, "blocking_w", *visit.estimate.interpolated_blocking);
    emit(out, "regressed_blocking_w", *visit.estimate.regressed_blocking);
  }
  if (!visit.estimate.kinds.empty()) {
    out << YAML::Key << "kinds" << YAML::Value << YAML::BeginSeq;
    for (const auto& [task, estimate] : visit.estimate.kinds) {
      out << YAML::Flow << YAML::BeginMap;
      out << YAML::Key << "kind" << YAML::Value << std::string(name_of(task.kind));
      if (task.chunk > 0) out << YAML::Key << "chunk" << YAML::Value << std::to_string(task.chunk);
      out << YAML::Key << "runs" << YAML::Value << std::to_string(estimate.runs);
      emit(out, "time_s", estimate.time);
      emit(out, "interpolated_j", estimate.interpolated);
      emit(out, "regressed_j", estimate.regressed);
      out << YAML::EndMap;
    }
    out << YAML::EndSeq;
  }
  out << YAML::EndMap;
}

}  // namespace

Recording parse_recording(const std::string& file, const std::string& text) {
  const YamlNode root = YamlNode::document(file, text, "recording", 1);
  root.expect_keys({"slackline", "model", "gpu", "origin", "order", "rank", "ranks", "pipeline_stages",
                    "microbatches", "counter_period_s", "complete", "stages"});
  const auto optional_text = [&](std::string_view key) {
    return root.has(key) ? root.at(key).text() : std::string();
  };
  Recording recording;
  recording.model = optional_text("model");
  recording.gpu = optional_text("gpu");
  recording.origin = optional_text("origin");
  recording.order = optional_text("order");
  recording.ranks = root.at("ranks").integer(1, kMost);
  recording.rank = root.at("rank").integer(0, recording.ranks - 1);
  recording.pipeline_stages = root.at("pipeline_stages").integer(1, kMaxStages);
  recording.microbatches = root.at("microbatches").integer(0, kMost);
  recording.counter_period = Seconds(root.at("counter_period_s").positive_number());
  const YamlNode complete = root.at("complete");
  recording.is_complete = complete.text() == "true";
  if (!recording.is_complete && complete.text() != "false") complete.fail("it is 'true' or 'false'");
  for (const YamlNode& item : root.at("stages").items()) {
    recording.stages.push_back(read_stage(item, recording.pipeline_stages));
  }
  return recording;
}

std::string to_yaml(const Recording& recording) {
  YAML::Emitter out;
  out << YAML::BeginMap << YAML::Key << "slackline" << YAML::Value << "recording/1";
  const auto emit_text = [&](const char* key, const std::string& value) {
    if (!value.empty()) out << YAML::Key << key << YAML::Value << value;
  };
  emit_text("model", recording.model);
  emit_text("gpu", recording.gpu);
  emit_text("origin", recording.origin);
  emit_text("order", recording.order);
  emit_text("rank", std::to_string(recording.rank));
  emit_text("ranks", std::to_string(recording.ranks));
  emit_text("pipeline_stages", std::to_string(recording.pipeline_stages));
  emit_text("microbatches", std::to_string(recording.microbatches));
  emit_text("counter_period_s", exact_text(recording.counter_period.value()));
  emit_text("complete", recording.is_complete ? "true" : "false");
  out << YAML::Key << "stages" << YAML::Value << YAML::BeginSeq;
  for (const StageRecording& stage : recording.stages) {
    out << YAML::BeginMap;
    if (stage.stages.size() == 1) {
      out << YAML::Key << "stage" << YAML::Value << std::to_string(stage.stages.front());
    } else {
      out << YAML::Key << "stages" << YAML::Value << YAML::Flow << YAML::BeginSeq;
      for (const int chunk : stage.stages) out << std::to_string(chunk);
      out << YAML::EndSeq;
    }
    out << YAML::Key << "gpus" << YAML::Value << std::to_string(stage.gpus);
    out << YAML::Key << "clocks_mhz" << YAML::Value << YAML::Flow << YAML::BeginSeq;
    for (const Megahertz clock : stage.clocks) out << std::to_string(clock.value());
    out << YAML::EndSeq;
    if (!stage.visits.empty()) {
      out << YAML::Key << "visits" << YAML::Value << YAML::BeginSeq;
      for (const Visit& visit : stage.visits) emit(out, visit);
      out << YAML::EndSeq;
    }
    out << YAML::EndMap;
  }
  out << YAML::EndSeq << YAML::EndMap;
  return std::string(out.c_str()) + "\n";
}

}  // namespace slackline
