#include "slackline/base/quantity.h"

#include <type_traits>

#include "catch.h"
#include "slackline/base/ids.h"

namespace slackline {
namespace {

template <class A, class B>
concept Addable = requires(A a, B b) {
  a + b;
};
template <class A, class B>
concept Comparable = requires(A a, B b) {
  a < b;
};
template <class A, class B>
concept Assignable = std::is_assignable_v<A&, B>;

// Must not compile: sums and comparisons of different dimensions.
static_assert(!Addable<Seconds, Joules>);
static_assert(!Addable<Watts, Joules>);
static_assert(!Addable<Seconds, double>);
static_assert(!Comparable<Seconds, Joules>);
static_assert(!Comparable<Watts, double>);
static_assert(!Assignable<Seconds, Joules>);
// Must not compile: a bare number where a unit is meant, and a unit where a number is.
static_assert(!Assignable<Seconds, double>);
static_assert(!std::is_convertible_v<double, Watts>);
static_assert(!std::is_convertible_v<Watts, double>);
// Must not compile: an id of one thing for that of another.
static_assert(!Comparable<StageId, MicrobatchId>);
static_assert(!std::is_convertible_v<StageId, GpuId>);
static_assert(!std::is_convertible_v<int, Megahertz>);
static_assert(!Addable<StageId, int>);

static_assert(Addable<Seconds, Seconds> && Comparable<Joules, Joules>);
static_assert(std::is_same_v<decltype(Watts(1) * Seconds(1)), Joules>);
static_assert(std::is_same_v<decltype(Seconds(1) * Watts(1)), Joules>);
static_assert(std::is_same_v<decltype(Joules(1) / Seconds(1)), Watts>);
static_assert(std::is_same_v<decltype(Joules(1) / Watts(1)), Seconds>);
static_assert(std::is_same_v<decltype(Joules(1) / Joules(1)), double>);

TEST_CASE("quantity: watts times seconds are joules", "[base]") {
  CHECK((Watts(300) * Seconds(2)).value() == 600);
  CHECK((Joules(600) / Watts(300)).value() == 2);
  CHECK(Joules(6) / Joules(3) == 2);
  CHECK(-Joules(6) + Joules(8) - Joules(1) == Joules(1));
}

}  // namespace
}  // namespace slackline
