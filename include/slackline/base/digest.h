#pragma once
#include <string>
#include <string_view>

namespace slackline {

/// 16 hexadecimal digits that stand for a text of any length and content (FNV-1a, 64 bits): a short, fixed
/// name for a file, say. Not against forgery.
[[nodiscard]] std::string digest(std::string_view text);

}  // namespace slackline
