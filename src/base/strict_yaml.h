#pragma once
#include <yaml-cpp/yaml.h>

#include <cstdint>
#include <initializer_list>
#include <string>
#include <string_view>
#include <vector>

namespace slackline {

/// One node of a YAML file, read strictly: a missing, unknown, doubled or ill-typed value is an InputError
/// that names file, line, key and reason. Only for the `*_yaml.cpp` readers.
class YamlNode {
 public:
  /// Parses `text` and checks its first key, `slackline: FORMAT/VERSION`, with different words for a file
  /// that is not ours, too old and too new.
  [[nodiscard]] static YamlNode document(const std::string& file, const std::string& text,
                                         std::string_view format, int version);

  /// Call first on a mapping: every key must be one of `known`, and none may come twice.
  void expect_keys(std::initializer_list<std::string_view> known) const;
  [[nodiscard]] bool has(std::string_view key) const;
  [[nodiscard]] YamlNode at(std::string_view key) const;
  /// The items of a sequence that holds at least one.
  [[nodiscard]] std::vector<YamlNode> items() const;

  /// Rather than a list, keys and values, or nothing.
  [[nodiscard]] bool is_text() const { return node_.IsScalar(); }
  [[nodiscard]] std::string text() const;
  [[nodiscard]] double number() const;
  [[nodiscard]] double positive_number() const;
  [[nodiscard]] double non_negative_number() const;
  /// From 0 to 1.
  [[nodiscard]] double share() const;
  [[nodiscard]] std::int32_t integer(std::int32_t low, std::int32_t high) const;

  [[noreturn]] void fail(const std::string& reason) const;

 private:
  YamlNode(const std::string* file, std::string key, YAML::Node node);
  [[nodiscard]] int line() const;

  const std::string* file_;  // owned by the caller of document()
  std::string key_;
  YAML::Node node_;
};

}  // namespace slackline
