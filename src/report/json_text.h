#pragma once
#include <nlohmann/json.hpp>
#include <string>

namespace slackline {

/// As every command prints it. Bytes that are no UTF-8, of a command line for instance, are replaced.
[[nodiscard]] inline std::string json_text(const nlohmann::ordered_json& json) {
  return json.dump(2, ' ', false, nlohmann::ordered_json::error_handler_t::replace) + "\n";
}

}  // namespace slackline
