#include "strict_yaml.h"

#include <algorithm>
#include <set>
#include <utility>

#include "slackline/base/error.h"
#include "slackline/base/number_text.h"

namespace slackline {
namespace {

YAML::Node parse(const std::string& file, const std::string& text) {
  try {
    return YAML::Load(text);
  } catch (const YAML::Exception& error) {
    throw InputError(file, error.mark.line + 1, "", "not YAML: " + error.msg);
  }
}

void check_version(const YamlNode& header, std::string_view format, int version) {
  const std::string text = header.text();
  const std::size_t slash = text.find('/');
  if (slash == std::string::npos || text.substr(0, slash) != format) {
    header.fail("this is a '" + text + "' file; expected '" + std::string(format) + "/" +
                std::to_string(version) + "'");
  }
  const auto number = parse_integer(text.substr(slash + 1));
  if (!number || *number < 0) header.fail("'" + text + "' has no version number");
  if (*number > version) {
    header.fail("'" + text + "' is too new for this slackline, which reads version " +
                std::to_string(version));
  }
  if (*number < version) {
    header.fail("'" + text + "' is too old for this slackline, which reads version " +
                std::to_string(version));
  }
}

}  // namespace

YamlNode::YamlNode(const std::string* file, std::string key, YAML::Node node)
    : file_(file), key_(std::move(key)), node_(std::move(node)) {}

YamlNode YamlNode::document(const std::string& file, const std::string& text, std::string_view format,
                            int version) {
  if (std::all_of(text.begin(), text.end(), [](unsigned char c) { return std::isspace(c) != 0; })) {
    throw InputError(file, 0, "", "the file is empty");
  }
  const YamlNode root(&file, "", parse(file, text));
  if (!root.node_.IsMap() || !root.has("slackline")) {
    throw InputError(file, 1, "",
                     "not a slackline file: it does not begin with 'slackline: " + std::string(format) + "/" +
                         std::to_string(version) + "'");
  }
  check_version(root.at("slackline"), format, version);
  return root;
}

int YamlNode::line() const {
  return node_.Mark().is_null() ? 0 : node_.Mark().line + 1;
}

void YamlNode::fail(const std::string& reason) const {
  throw InputError(*file_, line(), key_, reason);
}

void YamlNode::expect_keys(std::initializer_list<std::string_view> known) const {
  if (!node_.IsMap()) fail("expected keys and values");
  std::set<std::string> seen;
  for (const auto& entry : node_) {
    const YamlNode key(file_, entry.first.IsScalar() ? entry.first.Scalar() : "", entry.first);
    if (std::find(known.begin(), known.end(), key.key_) == known.end()) key.fail("unknown key");
    if (!seen.insert(key.key_).second) key.fail("the key comes twice");
  }
}

bool YamlNode::has(std::string_view key) const {
  return node_.IsMap() && std::any_of(node_.begin(), node_.end(), [&](const auto& entry) {
           return entry.first.IsScalar() && entry.first.Scalar() == key;
         });
}

YamlNode YamlNode::at(std::string_view key) const {
  if (!node_.IsMap()) fail("expected keys and values");
  for (const auto& entry : node_) {
    if (entry.first.IsScalar() && entry.first.Scalar() == key) return {file_, std::string(key), entry.second};
  }
  throw InputError(*file_, line(), std::string(key), "the key is missing");
}

std::vector<YamlNode> YamlNode::items() const {
  if (!node_.IsSequence()) fail("expected a list");
  if (node_.size() == 0) fail("the list is empty");
  std::vector<YamlNode> items;
  items.reserve(node_.size());
  for (const auto& item : node_) items.push_back(YamlNode(file_, key_, item));
  return items;
}

std::string YamlNode::text() const {
  if (!node_.IsScalar()) fail("expected text");
  return node_.Scalar();
}

double YamlNode::number() const {
  if (!node_.IsScalar()) fail("expected a number");
  const auto value = parse_number(node_.Scalar());
  if (!value) fail("'" + node_.Scalar() + "' is not a finite number");
  return *value;
}

double YamlNode::positive_number() const {
  const double value = number();
  if (value <= 0) fail("'" + node_.Scalar() + "' must be above 0");
  return value;
}

double YamlNode::non_negative_number() const {
  const double value = number();
  if (value < 0) fail("'" + node_.Scalar() + "' must not be negative");
  return value;
}

double YamlNode::share() const {
  const double value = non_negative_number();
  if (value > 1) fail("a share is not above 1");
  return value;
}

std::int32_t YamlNode::integer(std::int32_t low, std::int32_t high) const {
  if (!node_.IsScalar()) fail("expected a whole number");
  const auto value = parse_integer(node_.Scalar());
  if (!value || *value < low || *value > high) {
    fail("'" + node_.Scalar() + "' is not a whole number from " + std::to_string(low) + " to " +
         std::to_string(high));
  }
  return static_cast<std::int32_t>(*value);
}

}  // namespace slackline
