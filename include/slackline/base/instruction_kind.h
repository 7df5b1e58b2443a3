#pragma once
#include <array>
#include <optional>
#include <string_view>

namespace slackline {

/// What a stage does to a microbatch. The values are part of the C ABI (slackline.h).
enum class InstructionKind { kForward = 0, kBackward = 1 };

inline constexpr std::array kInstructionKinds{InstructionKind::kForward, InstructionKind::kBackward};

/// The name used in every file: "forward", "backward".
[[nodiscard]] std::string_view name_of(InstructionKind kind);
[[nodiscard]] std::optional<InstructionKind> instruction_kind(std::string_view name);

}  // namespace slackline
