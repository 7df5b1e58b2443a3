#pragma once
#include <string>
#include <string_view>

namespace slackline {

/// As text or as an attribute of XML. What XML cannot say, and bytes that are no UTF-8, become U+FFFD.
[[nodiscard]] std::string xml_text(std::string_view text);
/// The characters of valid UTF-8.
[[nodiscard]] std::size_t character_count(std::string_view text);

}  // namespace slackline
