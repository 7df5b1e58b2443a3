#pragma once
#include <array>
#include <optional>
#include <string_view>

namespace slackline {

/// What a stage does to a microbatch, or once an iteration. The values are part of the C ABI (slackline.h).
enum class InstructionKind {
  kForward = 0,
  kBackward = 1,         // both gradients: of the input and of the weights
  kBackwardInput = 2,    // only the gradient that the stage before waits for
  kBackwardWeight = 3,   // only the gradient that nobody waits for
  kRecompute = 4,        // the activations anew, before a backward
  kForwardBackward = 5,  // recompute and backward in one
  kOverlapped = 6,       // a forward and the backward of another microbatch side by side

  // Fixed time: they run at whatever clock the GPU has and leave nothing to choose.
  kDataLoad = 7,
  kSendForward = 8,
  kReceiveForward = 9,
  kSendBackward = 10,
  kReceiveBackward = 11,
  kGradientAllReduce = 12,  // once an iteration
  kOptimizer = 13,          // once an iteration
};

inline constexpr std::array kInstructionKinds{
    InstructionKind::kForward,           InstructionKind::kBackward,     InstructionKind::kBackwardInput,
    InstructionKind::kBackwardWeight,    InstructionKind::kRecompute,    InstructionKind::kForwardBackward,
    InstructionKind::kOverlapped,        InstructionKind::kDataLoad,     InstructionKind::kSendForward,
    InstructionKind::kReceiveForward,    InstructionKind::kSendBackward, InstructionKind::kReceiveBackward,
    InstructionKind::kGradientAllReduce, InstructionKind::kOptimizer};

[[nodiscard]] constexpr bool is_fixed_time(InstructionKind kind) {
  return kind >= InstructionKind::kDataLoad;
}

/// The name used in every file: "forward", "backward-input", "gradient-all-reduce".
[[nodiscard]] std::string_view name_of(InstructionKind kind);
[[nodiscard]] std::optional<InstructionKind> instruction_kind(std::string_view name);

}  // namespace slackline
