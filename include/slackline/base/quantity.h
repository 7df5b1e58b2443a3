#pragma once
#include <compare>

namespace slackline {

/// A physical quantity in SI units whose dimension is second^TimeExponent * joule^EnergyExponent. Only sums
/// of one dimension compile; products and quotients carry the dimension along, so W * s is J and J / J a
/// number.
template <int TimeExponent, int EnergyExponent>
class Quantity {
 public:
  constexpr Quantity() = default;
  constexpr explicit Quantity(double si) : si_(si) {}
  [[nodiscard]] constexpr double value() const { return si_; }

  constexpr auto operator<=>(const Quantity&) const = default;
  constexpr Quantity operator-() const { return Quantity(-si_); }
  constexpr Quantity& operator+=(Quantity other) { return si_ += other.si_, *this; }
  constexpr Quantity& operator-=(Quantity other) { return si_ -= other.si_, *this; }
  friend constexpr Quantity operator+(Quantity a, Quantity b) { return a += b; }
  friend constexpr Quantity operator-(Quantity a, Quantity b) { return a -= b; }
  friend constexpr Quantity operator*(Quantity a, double k) { return Quantity(a.si_ * k); }
  friend constexpr Quantity operator*(double k, Quantity a) { return Quantity(k * a.si_); }
  friend constexpr Quantity operator/(Quantity a, double k) { return Quantity(a.si_ / k); }

 private:
  double si_ = 0;
};

namespace detail {
template <int T, int E>
constexpr auto quantity_or_number(double si) {
  if constexpr (T == 0 && E == 0) {
    return si;
  } else {
    return Quantity<T, E>(si);
  }
}
}  // namespace detail

template <int T1, int E1, int T2, int E2>
constexpr auto operator*(Quantity<T1, E1> a, Quantity<T2, E2> b) {
  return detail::quantity_or_number<T1 + T2, E1 + E2>(a.value() * b.value());
}
template <int T1, int E1, int T2, int E2>
constexpr auto operator/(Quantity<T1, E1> a, Quantity<T2, E2> b) {
  return detail::quantity_or_number<T1 - T2, E1 - E2>(a.value() / b.value());
}

using Seconds = Quantity<1, 0>;
using Joules = Quantity<0, 1>;
using Watts = Quantity<-1, 1>;

}  // namespace slackline
