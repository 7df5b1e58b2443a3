#include <unistd.h>

#include <algorithm>
#include <chrono>
#include <cmath>
#include <cstring>
#include <filesystem>
#include <functional>
#include <thread>

#include "catch.h"
#include "fake_amdsmi.h"
#include "slackline/base/error.h"
#include "slackline/device/amdsmi_device.h"

namespace slackline {
namespace {

constexpr GpuId kFirst(0);
constexpr std::uint32_t kAuto = 0;
constexpr std::uint32_t kManual = 3;

using Calls = std::vector<std::string>;

AmdsmiDevice open(int major = 26, const std::vector<std::string>& selection = {},
                  DeviceAccess access = DeviceAccess::kIfPrivileged) {
  return {FakeAmdsmi::library(major), selection, access};
}

std::string refusal(const std::function<void()>& action) {
  try {
    action();
  } catch (const DeviceError& error) {
    return error.what();
  }
  return "(it was not refused)";
}

bool contains(const std::string& text, const std::string& part) {
  return text.find(part) != std::string::npos;
}

/// The resolution comes as a float.
bool is_near(double a, double b) {
  return std::abs(a - b) <= 1e-7 * b;
}

/// Whatever changes a GPU.
Calls setters(const FakeAmdsmi& fake) {
  return fake.calls(" set_");
}

TEST_CASE("amdsmi: what 24, 25 and 26 say is read as each of them lays it out", "[amdsmi]") {
  for (const int major : {24, 25, 26}) {
    CAPTURE(major);
    FakeAmdsmi fake;
    AmdsmiDevice device = open(major);
    CHECK(device.driver() == "AMD SMI " + std::to_string(major) + (major == 26 ? ".2" : ".7"));
    CHECK(device.spec() == "amdsmi,library=" + FakeAmdsmi::library(major));
    REQUIRE(device.gpu_count() == 4);
    const GpuId second(1);
    CHECK(device.identity(second).uuid == "AMD-0000-05-00.0");
    CHECK(device.identity(second).pci_address == "0000:05:00.0");
    CHECK(device.identity(second).model == "AMD Instinct MI300X");
    CHECK(device.power(second) == Watts(301));
    CHECK(device.power_cap(second) == Watts(750));
    CHECK(device.temperature(second) == 51);
    CHECK(device.observed_clock(second) == Megahertz(1234));
    const GpuAbilities abilities = device.abilities(second);
    for (const Ability* ability : {&abilities.set_clock, &abilities.energy, &abilities.power,
                                   &abilities.power_cap, &abilities.temperature}) {
      CHECK(ability->why_not == "");
    }
    CHECK(abilities.event_reasons.why_not != "");
    device.lock_clock(second, Megahertz(1700));
    CHECK(fake.gpu(1).max_mhz == 1700);
    device.restore(second, "level-0");
    CHECK(fake.gpu(1).level == kAuto);
  }
}

TEST_CASE("amdsmi: of 27 only calls are made whose arguments are known not to have changed", "[amdsmi]") {
  FakeAmdsmi fake;
  AmdsmiDevice device = open(27);
  CHECK(device.driver() == "AMD SMI 27.2");
  const GpuAbilities abilities = device.abilities(kFirst);
  CHECK(abilities.set_clock);
  CHECK(abilities.energy);
  for (const Ability* ability : {&abilities.power, &abilities.power_cap, &abilities.temperature}) {
    CHECK(ability->why_not == "not known for this version of AMD SMI");
  }
  CHECK(contains(refusal([&] { static_cast<void>(device.power(kFirst)); }), "not known for this version"));
  CHECK(contains(refusal([&] { static_cast<void>(device.power_cap(kFirst)); }), "not known for this"));
  CHECK(contains(refusal([&] { static_cast<void>(device.temperature(kFirst)); }), "not known for this"));
  CHECK(device.observed_clock(kFirst) == Megahertz(1234));
  device.lock_clock(kFirst, Megahertz(1700));
  CHECK(device.state(kFirst) == "level-3-132-1700");
  device.restore(kFirst, "level-0");
  CHECK(fake.gpu(0).max_mhz == 2100);
  // A range that somebody else has set is seen in the list of clocks alone, and comes back.
  fake.gpu(0).level = 3;
  fake.gpu(0).min_mhz = 500;
  fake.gpu(0).max_mhz = 1700;
  const std::string theirs = device.state(kFirst);
  CHECK(theirs == "level-3-500-1700");
  device.lock_clock(kFirst, Megahertz(1200));
  device.restore(kFirst, theirs);
  CHECK(fake.gpu(0).min_mhz == 500);
  CHECK(fake.gpu(0).max_mhz == 1700);
  device.restore(kFirst, "level-0");
  for (const char* unknown :
       {"get_power_info", "get_power_cap_info", "get_temp", "get_clock_info", "get_gpu_od"}) {
    CAPTURE(unknown);
    CHECK(fake.calls(unknown).empty());
  }
}

TEST_CASE("amdsmi: versions that are not known are refused by name, before any call", "[amdsmi]") {
  for (const int major : {23, 28}) {
    CAPTURE(major);
    const FakeAmdsmi fake;
    const std::string why = refusal([&] { open(major); });
    CHECK(contains(why, FakeAmdsmi::library(major)));
    CHECK(contains(why, "is libamd_smi.so." + std::to_string(major)));
    CHECK(contains(why, "libamd_smi.so.24 to 27"));
    CHECK(fake.calls().empty());
  }
}

TEST_CASE("amdsmi: the version is what the library says of itself, whatever its file is called", "[amdsmi]") {
  const FakeAmdsmi fake;
  const ScratchFolder folder;
  const std::string plain = folder.file("libamd_smi.so");
  std::filesystem::copy_file(FakeAmdsmi::library(25), plain);
  CHECK(AmdsmiDevice(plain, {}, DeviceAccess::kReadOnly).driver() == "AMD SMI 25.7");
  const std::string wrong = folder.file("libamd_smi.so.26");
  std::filesystem::copy_file(FakeAmdsmi::library(28), wrong);
  CHECK(contains(refusal([&] { AmdsmiDevice(wrong, {}, DeviceAccess::kReadOnly); }), "is libamd_smi.so.28"));
  CHECK_THROWS_AS(AmdsmiDevice("libamd_smi.so.26", {}, DeviceAccess::kReadOnly), InputError);
  CHECK_THROWS_AS(AmdsmiDevice(folder.file("missing"), {}, DeviceAccess::kReadOnly), DeviceError);
}

/// Alone in its process: the loader takes a library that is loaded already for whatever has its soname.
TEST_CASE("amdsmi: ROCM_PATH is for processes without privileges, and who has none may only read",
          "[.rocm-path]") {
  const FakeAmdsmi fake;
  const ScratchFolder folder;
  std::filesystem::create_directory(folder.file("lib"));
  std::filesystem::copy_file(FakeAmdsmi::library(25), folder.file("lib/libamd_smi.so.25"));
  ::setenv("ROCM_PATH", folder.file("").c_str(), 1);
  const auto open_found = [] { return AmdsmiDevice(std::nullopt, {}, DeviceAccess::kIfPrivileged); };
  if (::geteuid() == 0) {
    CHECK_THROWS_AS(open_found(), DeviceError);
    CHECK(fake.calls().empty());
  } else {
    AmdsmiDevice device = open_found();
    CHECK(device.spec() == "amdsmi");
    CHECK(device.driver() == "AMD SMI 25.7");
    CHECK(contains(device.abilities(kFirst).set_clock.remedy, "CAP_SYS_ADMIN"));
    CHECK_THROWS_AS(device.lock_clock(kFirst, Megahertz(1700)), DeviceError);
    CHECK(setters(fake).empty());
  }
  ::unsetenv("ROCM_PATH");
}

TEST_CASE("amdsmi: a library that does not start says why, and is not left started", "[amdsmi]") {
  FakeAmdsmi fake;
  fake.script("init * error=34");
  CHECK(contains(refusal([] { open(); }), "the amdgpu driver is not loaded"));
  fake.script("init * error=77");
  CHECK(contains(refusal([] { open(); }), "FAKE: seventy-seven"));
  CHECK(fake.calls("shut_down").empty());
  fake.script("get_gpu_device_bdf 2 error=43");
  fake.forget_calls();
  CHECK(contains(refusal([] { open(); }), "on 2: unexpected data"));
  CHECK(fake.calls("shut_down").size() == 1);
  fake.script("");
  { const AmdsmiDevice device = open(); }
  CHECK(fake.calls("shut_down").size() == 2);
}

TEST_CASE("amdsmi: GPUs are chosen by number, PCI address or UUID, and keep the order of the choice",
          "[amdsmi]") {
  FakeAmdsmi fake;
  const AmdsmiDevice device = open(26, {"3", "0000:c1:00.0", "AMD-0000-a3-00.0"});
  REQUIRE(device.gpu_count() == 3);
  CHECK(device.identity(GpuId(0)).pci_address == "0000:26:00.0");
  CHECK(device.identity(GpuId(1)).pci_address == "0000:c1:00.0");
  CHECK(device.identity(GpuId(2)).pci_address == "0000:a3:00.0");
  CHECK(contains(refusal([] { open(26, {"4"}); }), "0000:c1:00.0, 0000:05:00.0"));
  CHECK_THROWS_AS(open(26, {"0000:77:00.0"}), DeviceError);
  CHECK_THROWS_AS(open(26, {"-1"}), DeviceError);
  CHECK_THROWS_AS(open(26, {"0", "0000:c1:00.0"}), InputError);
}

TEST_CASE("amdsmi: PCI addresses are written as the system does, and parts of one GPU are that GPU",
          "[amdsmi]") {
  FakeAmdsmi fake;
  fake.gpu(0).bdf = std::uint64_t{0x10001} << 16 | 0xc1 << 8 | 0x1f << 3 | 7;
  fake.gpu(2).bdf = fake.gpu(1).bdf;
  fake.set_gpus(3);
  const AmdsmiDevice device = open();
  REQUIRE(device.gpu_count() == 2);
  CHECK(device.identity(kFirst).pci_address == "10001:c1:1f.7");
  CHECK(device.identity(kFirst).uuid == "AMD-10001-c1-1f.7");
}

TEST_CASE("amdsmi: a continuous clock gets a grid from the highest to the lowest", "[amdsmi]") {
  FakeAmdsmi fake;
  for (const std::uint32_t now : {132U, 777U, 2100U}) {  // the driver adds the current clock to the two ends
    fake.gpu(0).now_mhz = now;
    const auto clocks = open().supported_clocks(kFirst);
    REQUIRE(clocks.size() == 41);
    CHECK(clocks.front() == Megahertz(2100));
    CHECK(clocks[1] == Megahertz(2050));
    CHECK(clocks[39] == Megahertz(150));
    CHECK(clocks.back() == Megahertz(132));
  }
}

TEST_CASE("amdsmi: a clock of fixed levels has just these", "[amdsmi]") {
  FakeAmdsmi fake;
  fake.gpu(0).dpm_levels = 4;
  fake.gpu(0).low_mhz = 500;
  fake.gpu(0).high_mhz = 1700;
  const auto clocks = open().supported_clocks(kFirst);
  CHECK(clocks == std::vector{Megahertz(1700), Megahertz(1300), Megahertz(900), Megahertz(500)});
}

TEST_CASE("amdsmi: a lock does not narrow what the GPU is said to support", "[amdsmi]") {
  FakeAmdsmi fake;
  AmdsmiDevice device = open();
  device.lock_clock(kFirst, Megahertz(1000));
  CHECK(device.supported_clocks(kFirst).front() == Megahertz(2100));
  AmdsmiDevice later = open();  // comes when the range is set already
  CHECK(later.supported_clocks(kFirst).front() == Megahertz(1000));
  later.restore(kFirst, "level-0");
  CHECK(later.supported_clocks(kFirst).front() == Megahertz(2100));
}

TEST_CASE("amdsmi: a lock is a cap, set so that no range is ever upside down", "[amdsmi]") {
  FakeAmdsmi fake;
  AmdsmiDevice device = open();
  for (const int clock : {1000, 1700, 132, 2100, 150}) {  // down, up, and to both ends
    CAPTURE(clock);
    fake.forget_calls();
    device.lock_clock(kFirst, Megahertz(clock));
    CHECK(setters(fake) ==
          Calls{"set_gpu_clk_limit 0 min 132", "set_gpu_clk_limit 0 max " + std::to_string(clock)});
    CHECK(fake.gpu(0).min_mhz == 132);
    CHECK(fake.gpu(0).max_mhz == static_cast<std::uint32_t>(clock));
  }
  CHECK(fake.gpu(1).level == kAuto);
}

TEST_CASE("amdsmi: a range that somebody else has set is no obstacle, above or below it", "[amdsmi]") {
  for (const int clock : {1000, 1600, 2000}) {
    CAPTURE(clock);
    FakeAmdsmi fake;
    AmdsmiDevice device = open();
    REQUIRE_FALSE(device.supported_clocks(kFirst).empty());
    fake.gpu(0).level = kManual;
    fake.gpu(0).min_mhz = 1500;
    fake.gpu(0).max_mhz = 1700;
    device.lock_clock(kFirst, Megahertz(clock));
    CHECK(fake.gpu(0).max_mhz == static_cast<std::uint32_t>(clock));
  }
}

TEST_CASE("amdsmi: a lock of which one half fails leaves what was there before", "[amdsmi]") {
  struct Before {
    std::uint32_t level, min_mhz, max_mhz;
  };
  for (const int major : {24, 26}) {
    for (const Before& before :
         {Before{kAuto, 132, 2100}, Before{6, 132, 2100}, Before{kManual, 1500, 1700}}) {
      for (const char* half : {"", "after=1 "}) {
        CAPTURE(major, before.level, half);
        FakeAmdsmi fake;
        AmdsmiDevice device = open(major);
        REQUIRE_FALSE(device.supported_clocks(kFirst).empty());
        fake.gpu(0).level = before.level;
        fake.gpu(0).min_mhz = before.min_mhz;
        fake.gpu(0).max_mhz = before.max_mhz;
        // A comment keeps its count of calls apart from those of other rounds.
        static int round = 0;
        fake.script("set_gpu_clk_limit * error=30 " + std::string(half) + "times=1 #" +
                    std::to_string(++round));
        CHECK(contains(refusal([&] { device.lock_clock(kFirst, Megahertz(1000)); }), "the GPU is busy"));
        CHECK(fake.gpu(0).level == before.level);
        CHECK(fake.gpu(0).min_mhz == before.min_mhz);
        CHECK(fake.gpu(0).max_mhz == before.max_mhz);
      }
    }
  }
}

TEST_CASE("amdsmi: what cannot be put back after half a lock is told", "[amdsmi]") {
  FakeAmdsmi fake;
  AmdsmiDevice device = open();
  fake.script("set_gpu_clk_limit * error=30\nset_gpu_perf_level * error=8");
  const std::string why = refusal([&] { device.lock_clock(kFirst, Megahertz(1000)); });
  CHECK(contains(why, "the GPU is busy; its range could not be put back: the driver did not answer in time"));
}

TEST_CASE("amdsmi: without permission nothing is changed, nor tried again", "[amdsmi]") {
  FakeAmdsmi fake;
  AmdsmiDevice device = open();
  fake.script("set_gpu_clk_limit * error=10");
  CHECK(contains(refusal([&] { device.lock_clock(kFirst, Megahertz(1000)); }), "permission denied"));
  CHECK(setters(fake).size() == 1);
}

TEST_CASE("amdsmi: what is refused anyway is refused before it is tried", "[amdsmi]") {
  FakeAmdsmi fake;
  AmdsmiDevice reader = open(26, {}, DeviceAccess::kReadOnly);
  CHECK(contains(refusal([&] { reader.lock_clock(kFirst, Megahertz(1000)); }), "reading only"));
  CHECK(contains(reader.abilities(kFirst).set_clock.why_not, "reading only"));
  AmdsmiDevice device = open();
  CHECK(contains(refusal([&] { device.lock_clock(kFirst, Megahertz(1001)); }), "1001 MHz is none of its"));
  AmdsmiDevice early(FakeAmdsmi::folder() + "/early/libamd_smi.so.24", {}, DeviceAccess::kIfPrivileged);
  CHECK(contains(refusal([&] { early.lock_clock(kFirst, Megahertz(1000)); }), "cannot limit clocks"));
  CHECK(contains(early.abilities(kFirst).set_clock.remedy, "ROCm 6.3"));
  CHECK(setters(fake).empty());
}

TEST_CASE("amdsmi: a reader calls no setter, whatever it is asked for", "[amdsmi]") {
  FakeAmdsmi fake;
  AmdsmiDevice device = open(26, {}, DeviceAccess::kReadOnly);
  for (const GpuId gpu : all_gpus(device)) {
    static_cast<void>(device.abilities(gpu));
    static_cast<void>(device.supported_clocks(gpu));
    static_cast<void>(device.state(gpu));
    CHECK_THROWS_AS(device.lock_clock(gpu, Megahertz(1000)), DeviceError);
    device.restore(gpu, "level-0");  // nothing to do
    fake.gpu(gpu.value()).level = kManual;
    CHECK_THROWS_AS(device.restore(gpu, "level-0"), DeviceError);
    static_cast<void>(device.observed_clock(gpu));
    static_cast<void>(device.event_reasons(gpu));
    static_cast<void>(device.energy(gpu));
    static_cast<void>(device.power(gpu));
    static_cast<void>(device.power_cap(gpu));
    static_cast<void>(device.temperature(gpu));
  }
  CHECK(setters(fake).empty());
}

TEST_CASE("amdsmi: the level before a lock is saved, and restored to just that", "[amdsmi]") {
  for (const std::uint32_t level : {0U, 1U, 2U, 4U, 5U, 6U, 7U, 8U}) {
    CAPTURE(level);
    FakeAmdsmi fake;
    AmdsmiDevice device = open();
    fake.gpu(0).level = level;
    const std::string state = device.state(kFirst);
    CHECK(state == "level-" + std::to_string(level));
    device.lock_clock(kFirst, Megahertz(1000));
    device.lock_clock(kFirst, Megahertz(1500));
    device.restore(kFirst, state);
    CHECK(fake.gpu(0).level == level);
    CHECK(fake.gpu(0).max_mhz == 2100);
  }
}

TEST_CASE("amdsmi: a range that somebody had set by hand comes back", "[amdsmi]") {
  for (const int major : {24, 25, 26}) {
    CAPTURE(major);
    FakeAmdsmi fake;
    AmdsmiDevice device = open(major);
    REQUIRE_FALSE(device.supported_clocks(kFirst).empty());
    fake.gpu(0).level = kManual;
    fake.gpu(0).min_mhz = 1500;
    fake.gpu(0).max_mhz = 1700;
    const std::string state = device.state(kFirst);
    CHECK(state == "level-3-1500-1700");
    device.lock_clock(kFirst, Megahertz(1000));
    device.restore(kFirst, state);
    CHECK(fake.gpu(0).level == kManual);
    CHECK(fake.gpu(0).min_mhz == 1500);
    CHECK(fake.gpu(0).max_mhz == 1700);
  }
}

TEST_CASE("amdsmi: whatever the saved state says, a restore ends every lock", "[amdsmi]") {
  for (const char* state : {"", "level-0", "level-3", "level-256", "level-", "level-x", "level-3-1", "auto",
                            "level--1", "level-99999999999999999999"}) {
    CAPTURE(state);
    FakeAmdsmi fake;
    AmdsmiDevice device = open();
    device.lock_clock(kFirst, Megahertz(1000));
    device.restore(kFirst, state);
    CHECK(fake.gpu(0).level == kAuto);
    CHECK(fake.gpu(0).max_mhz == 2100);
  }
}

TEST_CASE("amdsmi: what somebody else has changed since a lock is theirs", "[amdsmi]") {
  for (const std::uint32_t level : {0U, 1U, 2U, 5U, 8U, 256U}) {
    CAPTURE(level);
    FakeAmdsmi fake;
    AmdsmiDevice device = open();
    device.lock_clock(kFirst, Megahertz(1000));
    fake.gpu(0).level = level;
    fake.forget_calls();
    device.restore(kFirst, "level-4");
    CHECK(setters(fake).empty());
    CHECK(fake.gpu(0).level == level);
  }
}

TEST_CASE("amdsmi: a level that cannot be read is no reason to leave a lock", "[amdsmi]") {
  FakeAmdsmi fake;
  AmdsmiDevice device = open();
  device.lock_clock(kFirst, Megahertz(1000));
  fake.script("get_gpu_perf_level * error=2");
  CHECK_THROWS_AS(device.state(kFirst), DeviceError);  // so that there is no first lock
  CHECK_THROWS_AS(device.event_reasons(kFirst), DeviceError);
  device.restore(kFirst, "");
  CHECK(fake.gpu(0).level == kAuto);
  fake.script("get_gpu_perf_level * error=2\nset_gpu_perf_level * error=30");
  CHECK_THROWS_AS(device.restore(kFirst, ""), DeviceError);
}

TEST_CASE("amdsmi: a GPU is user-set while its level is manual", "[amdsmi]") {
  FakeAmdsmi fake;
  AmdsmiDevice device = open();
  CHECK(device.event_reasons(kFirst) == EventReasons());
  device.lock_clock(kFirst, Megahertz(1000));
  CHECK(text_of(device.event_reasons(kFirst)) == "user-set");
  device.restore(kFirst, "level-0");
  CHECK(device.event_reasons(kFirst) == EventReasons());
}

TEST_CASE("amdsmi: power caps are never set", "[amdsmi]") {
  FakeAmdsmi fake;
  AmdsmiDevice device = open();
  for (const GpuId gpu : all_gpus(device)) {
    const std::string state = device.state(gpu);
    device.lock_clock(gpu, Megahertz(1000));
    static_cast<void>(device.power_cap(gpu));
    device.restore(gpu, state);
    CHECK(fake.gpu(gpu.value()).cap_uw == 750'000'000);
  }
  CHECK(fake.calls("set_power_cap").empty());
}

TEST_CASE("amdsmi: a step of the energy counter is 15.3 uJ", "[amdsmi]") {
  FakeAmdsmi fake;
  fake.gpu(0).steps_a_tick = 0;
  AmdsmiDevice device = open();
  fake.gpu(0).accumulator = 1'000'000;
  CHECK(is_near(device.energy(kFirst).total.value(), 15.3));
  ++fake.gpu(0).timestamp_ns;
  fake.gpu(0).accumulator = 60'000'000'000'000;
  CHECK(is_near(device.energy(kFirst).total.value(), 918e6));
}

TEST_CASE("amdsmi: readings are dated by the GPU's clock, on ours", "[amdsmi]") {
  FakeAmdsmi fake;
  fake.gpu(0).steps_a_tick = 0;
  AmdsmiDevice device = open();
  const auto now = [&] { return device.make_timeline()->now(); };
  const Seconds before = now();
  const EnergyReading first = device.energy(kFirst);
  CHECK(first.at >= before);
  CHECK(first.at <= now());
  // However late it is asked: the same reading is the same.
  std::this_thread::sleep_for(std::chrono::milliseconds(30));
  CHECK(device.energy(kFirst).at == first.at);
  // The counter moved 20 ms after the first reading; we only asked after 30.
  fake.gpu(0).timestamp_ns += 20'000'000;
  fake.gpu(0).accumulator += 1;
  const EnergyReading second = device.energy(kFirst);
  CHECK(std::abs((second.at - first.at).value() - 0.020) < 10e-6);
  // A reading that is younger than any before shows that these were older than they seemed; time stands
  // still for a moment, but never turns back.
  fake.gpu(0).timestamp_ns += 1'000'000'000;
  fake.gpu(0).accumulator += 1;
  const EnergyReading third = device.energy(kFirst);
  CHECK(third.at >= second.at);
  CHECK(third.at <= now());
  fake.gpu(0).timestamp_ns += 500'000'000;
  fake.gpu(0).accumulator += 1;
  const EnergyReading fourth = device.energy(kFirst);
  CHECK(fourth.at <= now());
}

TEST_CASE("amdsmi: readings without a date are dated when they are seen to have changed", "[amdsmi]") {
  FakeAmdsmi fake;
  fake.gpu(0).steps_a_tick = 0;
  fake.gpu(0).timestamp_ns = 0;
  AmdsmiDevice device = open();
  const EnergyReading first = device.energy(kFirst);
  CHECK(device.energy(kFirst).at == first.at);
  fake.gpu(0).accumulator += 1;
  const EnergyReading second = device.energy(kFirst);
  CHECK(second.at > first.at);
  fake.gpu(0).timestamp_ns = 1'000'000;
  CHECK(device.energy(kFirst).at > second.at);
}

TEST_CASE("amdsmi: a counter that goes backwards is an error, once", "[amdsmi]") {
  FakeAmdsmi fake;
  fake.gpu(0).steps_a_tick = 0;
  AmdsmiDevice device = open();
  const EnergyReading first = device.energy(kFirst);
  const auto move = [&](std::int64_t steps, std::int64_t ns) {
    fake.gpu(0).accumulator += static_cast<std::uint64_t>(steps);
    fake.gpu(0).timestamp_ns += static_cast<std::uint64_t>(ns);
  };
  move(-1, 1000);
  CHECK(contains(refusal([&] { static_cast<void>(device.energy(kFirst)); }),
                 "backwards, from 1000000 to 999999"));
  move(1, 1000);
  CHECK(device.energy(kFirst).total == first.total);
  move(1, -1000);
  CHECK(contains(refusal([&] { static_cast<void>(device.energy(kFirst)); }), "backwards"));
  move(1, 1000);
  CHECK(device.energy(kFirst).at >= first.at);
}

TEST_CASE("amdsmi: an energy counter that stands still is found out, and no other is", "[amdsmi]") {
  FakeAmdsmi fake;
  fake.script("get_energy_count 1 stale\nget_energy_count 2 error=2");
  AmdsmiDevice device = open();
  CHECK(device.abilities(GpuId(0)).energy);
  CHECK(contains(device.abilities(GpuId(1)).energy.why_not, "does not move"));
  CHECK(contains(device.abilities(GpuId(2)).energy.why_not, "not supported"));
  CHECK(device.abilities(GpuId(3)).energy);
  CHECK(contains(refusal([&] { static_cast<void>(device.energy(GpuId(2))); }), "not supported"));
}

TEST_CASE("amdsmi: of an MI250's two dies one counts for both", "[amdsmi]") {
  FakeAmdsmi fake;
  for (const int g : {0, 1}) std::strcpy(fake.gpu(g).name, "AMD Instinct MI250X");
  fake.gpu(1).accumulator = 0;
  fake.gpu(1).steps_a_tick = 0;
  AmdsmiDevice device = open();
  const GpuAbilities even = device.abilities(GpuId(0));
  CHECK(even.energy);
  CHECK(std::count(even.remarks.begin(), even.remarks.end(),
                   "energy and power cover both dies of the card") == 1);
  CHECK(contains(device.abilities(GpuId(1)).energy.why_not, "other die"));
}

TEST_CASE("amdsmi: a sentinel is no reading", "[amdsmi]") {
  FakeAmdsmi fake;
  AmdsmiDevice device = open();
  fake::AmdGpu& gpu = fake.gpu(0);
  for (const std::uint32_t missing : {0xFFFFU, UINT32_MAX}) {
    CAPTURE(missing);
    gpu.current_w = missing;  // before MI300
    gpu.average_w = 222;
    CHECK(device.power(kFirst) == Watts(222));
    gpu.average_w = missing;
    CHECK(contains(refusal([&] { static_cast<void>(device.power(kFirst)); }), "not available"));
    CHECK(device.abilities(kFirst).power.why_not == "not available");
  }
  gpu.cap_uw = UINT64_MAX;
  CHECK_THROWS_AS(device.power_cap(kFirst), DeviceError);
  CHECK(device.abilities(kFirst).power_cap.why_not == "not available");
  gpu.celsius = INT64_MAX;
  CHECK_THROWS_AS(device.temperature(kFirst), DeviceError);
  CHECK(device.abilities(kFirst).temperature.why_not == "not available");
  gpu.now_mhz = UINT32_MAX;
  CHECK_THROWS_AS(device.observed_clock(kFirst), DeviceError);
  gpu.steps_a_tick = 0;
  gpu.accumulator = UINT64_MAX;
  CHECK_THROWS_AS(device.energy(kFirst), DeviceError);
  CHECK(open().abilities(kFirst).energy.why_not == "not available");
}

TEST_CASE("amdsmi: the refresh period is that of the counter", "[amdsmi]") {
  const FakeAmdsmi fake;
  AmdsmiDevice device = open();
  const Seconds period = device.energy_refresh_period();
  CHECK(period >= Seconds(0.001));  // the fake's; we look every 2 ms
  CHECK(period <= Seconds(0.100));  // on a busy host
  CHECK(device.energy_refresh_period() == period);
}

TEST_CASE("amdsmi: one call at a time, from however many threads and devices", "[amdsmi]") {
  FakeAmdsmi fake;
  fake.script("get_energy_count * delay_ms=1\nset_gpu_clk_limit * delay_ms=1");
  AmdsmiDevice one = open(26);
  AmdsmiDevice other = open(26);
  std::vector<std::thread> threads;
  for (int t = 0; t < 8; ++t) {
    threads.emplace_back([&, t] {
      AmdsmiDevice& device = t % 2 == 0 ? one : other;
      const GpuId gpu(t % 4);
      for (int round = 0; round < 20; ++round) {
        device.lock_clock(gpu, Megahertz(t < 4 ? 1000 : 2000));
        static_cast<void>(device.energy(gpu));
        static_cast<void>(device.power(gpu));
        static_cast<void>(device.state(gpu));
        device.restore(gpu, "level-0");
      }
    });
  }
  for (std::thread& thread : threads) thread.join();
  CHECK(fake.calls("CONCURRENT").empty());
  CHECK(fake.calls("get_energy_count").size() == 8 * 20);
}

TEST_CASE("amdsmi: a shutdown ends the sleep of its timelines", "[amdsmi]") {
  const FakeAmdsmi fake;
  AmdsmiDevice device = open();
  const auto timeline = device.make_timeline();
  bool slept = true;
  std::thread sleeper([&] { slept = timeline->sleep_until(timeline->now() + Seconds(60)); });
  device.shut_down_timelines();
  sleeper.join();
  CHECK_FALSE(slept);
}

}  // namespace
}  // namespace slackline
