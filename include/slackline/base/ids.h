#pragma once
#include <compare>
#include <cstdint>

namespace slackline {

/// An integer that does not mix with integers of another meaning.
template <class Tag>
class Id {
 public:
  constexpr Id() = default;
  constexpr explicit Id(std::int32_t number) : number_(number) {}
  [[nodiscard]] constexpr std::int32_t value() const { return number_; }
  [[nodiscard]] constexpr std::size_t index() const { return static_cast<std::size_t>(number_); }
  constexpr auto operator<=>(const Id&) const = default;

 private:
  std::int32_t number_ = 0;
};

using StageId = Id<struct StageTag>;
using MicrobatchId = Id<struct MicrobatchTag>;
/// Position of a GPU on its node, in the order of the device.
using GpuId = Id<struct GpuTag>;
/// A GPU's core clock. 0 MHz never names a clock; interfaces use it for "not locked".
using Megahertz = Id<struct MegahertzTag>;
/// One of the labels of a profile, counted from 1; 0 is none.
using ConfigId = Id<struct ConfigTag>;

/// What an option runs with: a clock and, where somebody plans kernel or communication configurations with
/// it, a label that is opaque to us.
struct ClockSetting {
  Megahertz mhz;
  ConfigId config;

  constexpr ClockSetting() = default;
  constexpr ClockSetting(Megahertz clock, ConfigId label = {}) : mhz(clock), config(label) {}
  constexpr auto operator<=>(const ClockSetting&) const = default;
};

}  // namespace slackline
