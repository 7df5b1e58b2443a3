#pragma once
#include <cstdint>
#include <optional>
#include <string>
#include <string_view>

namespace slackline {

/// The whole of `text` as a finite decimal number; nothing for trailing junk, NaN, infinity, hex or overflow.
/// Independent of the locale.
[[nodiscard]] std::optional<double> parse_number(std::string_view text);
[[nodiscard]] std::optional<std::int64_t> parse_integer(std::string_view text);

/// The shortest text that reads back as exactly `number`.
[[nodiscard]] std::string exact_text(double number);
/// `number` with `decimals` digits after the point, for people.
[[nodiscard]] std::string fixed_text(double number, int decimals);

}  // namespace slackline
