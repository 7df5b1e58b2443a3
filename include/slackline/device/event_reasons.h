#pragma once
#include <cstdint>
#include <string>

namespace slackline {

/// Why a GPU does not run at its highest clock right now.
enum class EventReason : std::uint32_t {
  kIdle = 1U << 0,
  kUserSet = 1U << 1,  // somebody locked the clock, we for instance
  kPowerCap = 1U << 2,
  kHardwareSlowdown = 1U << 3,
  kSyncBoost = 1U << 4,  // waits for other GPUs of its group
  kThermal = 1U << 5,
  kHardwareThermal = 1U << 6,
  kPowerBrake = 1U << 7,  // the power supply asked for it
  kDisplay = 1U << 8,
  kOther = 1U << 9,
};

/// A set of them.
class EventReasons {
 public:
  constexpr EventReasons() = default;
  constexpr explicit EventReasons(std::uint32_t bits) : bits_(bits) {}
  [[nodiscard]] constexpr std::uint32_t bits() const { return bits_; }
  [[nodiscard]] constexpr bool has(EventReason reason) const {
    return (bits_ & static_cast<std::uint32_t>(reason)) != 0;
  }
  constexpr EventReasons& operator|=(EventReason reason) {
    return bits_ |= static_cast<std::uint32_t>(reason), *this;
  }
  constexpr EventReasons& operator|=(EventReasons other) { return bits_ |= other.bits_, *this; }
  constexpr bool operator==(const EventReasons&) const = default;

  /// Something beyond idleness and the user's own wish slows the GPU: what is measured now is not the
  /// clock's.
  [[nodiscard]] constexpr bool throttles() const { return throttling().bits() != 0; }
  /// Those that do.
  [[nodiscard]] constexpr EventReasons throttling() const {
    constexpr auto kHarmless =
        static_cast<std::uint32_t>(EventReason::kIdle) | static_cast<std::uint32_t>(EventReason::kUserSet);
    return EventReasons(bits_ & ~kHarmless);
  }

 private:
  std::uint32_t bits_ = 0;
};

/// "power-cap, thermal"; "none" for the empty set.
[[nodiscard]] std::string text_of(EventReasons reasons);

}  // namespace slackline
