#include <algorithm>

#include "../base/strict_yaml.h"
#include "journal_entry.h"
#include "slackline/base/file.h"

namespace slackline {
namespace {

constexpr std::int32_t kMaxClock = 100'000;

std::string text_or_empty(const YamlNode& node, const char* key) {
  return node.has(key) ? node.at(key).text() : "";
}

}  // namespace

bool is_plain_name(const std::string& text) {
  const auto is_plain_character = [](char c) {
    return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') || c == '-' ||
           c == '_' || c == '.';
  };
  return text.size() <= 200 && std::ranges::all_of(text, is_plain_character);
}

Journal::Entry read_journal_entry(const std::string& path, const std::string& gpu) {
  const std::string text = read_file(path);
  const YamlNode root = YamlNode::document(path, text, "journal", 2);
  root.expect_keys({"slackline", "device", "gpu", "state", "baseline_mhz", "owner", "complete"});
  if (root.at("gpu").text() != gpu) root.at("gpu").fail("is not what the file's name says");
  static_cast<void>(root.at("complete"));  // the last line: without it the rest may be cut short
  Journal::Entry entry{root.at("device").text(), gpu, text_or_empty(root, "state"), Megahertz(0),
                       root.at("owner").integer(1, INT32_MAX)};
  if (root.has("baseline_mhz")) entry.baseline = Megahertz(root.at("baseline_mhz").integer(1, kMaxClock));
  if (!is_plain_name(entry.state)) root.at("state").fail("is none of ours");
  return entry;
}

std::string to_yaml(const Journal::Entry& entry) {
  YAML::Emitter out;
  out << YAML::BeginMap << YAML::Key << "slackline" << YAML::Value << "journal/2" << YAML::Key << "device"
      << YAML::Value << entry.device << YAML::Key << "gpu" << YAML::Value << entry.gpu;
  if (!entry.state.empty()) out << YAML::Key << "state" << YAML::Value << entry.state;
  if (entry.baseline != Megahertz(0))
    out << YAML::Key << "baseline_mhz" << YAML::Value << entry.baseline.value();
  out << YAML::Key << "owner" << YAML::Value << entry.owner << YAML::Key << "complete" << YAML::Value << "yes"
      << YAML::EndMap;
  return std::string(out.c_str()) + "\n";
}

}  // namespace slackline
