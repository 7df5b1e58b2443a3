#include <sys/prctl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <atomic>
#include <chrono>
#include <cmath>
#include <filesystem>
#include <functional>
#include <set>
#include <thread>

#include "catch.h"
#include "child.h"
#include "fake_nvml.h"
#include "slackline/base/error.h"
#include "slackline/device/nvml_device.h"
#include "slackline/device/refresh_period.h"

namespace slackline {
namespace {

constexpr GpuId kFirst(0);
constexpr GpuId kSecond(1);

/// With the library by its path, the driver and not we decide who may set clocks: so these laws hold for any
/// user.
std::unique_ptr<Device> open_fake(const std::string& gpus = "",
                                  DeviceAccess access = DeviceAccess::kIfPrivileged) {
  return open_device("nvml" + gpus + ",library=" FAKE_NVML, access);
}
std::unique_ptr<Device> open_edition(const std::string& edition) {
  return open_device("nvml,library=" FAKE_NVML_FOLDER "/" + edition + "/libnvidia-ml.so.1");
}

/// What a DeviceError of `action` says; empty if there is none.
std::string device_error(const std::function<void()>& action) {
  try {
    action();
  } catch (const DeviceError& error) {
    return error.what();
  }
  return "";
}

bool says(const std::string& text, const std::string& part) {
  return text.find(part) != std::string::npos;
}
bool says(const std::vector<std::string>& texts, const std::string& part) {
  return std::any_of(texts.begin(), texts.end(), [&](const std::string& text) { return says(text, part); });
}

void pass_wall_time(int milliseconds) {
  std::this_thread::sleep_for(std::chrono::milliseconds(milliseconds));
}

TEST_CASE("nvml: a GPU says what it is, what it can do and what it shows", "[nvml]") {
  const FakeNvml node;
  const auto device = open_fake();
  CHECK(device->spec() == "nvml,library=" FAKE_NVML);
  CHECK(device->driver() == "NVML 13.580.65.06, driver 580.65.06");
  REQUIRE(device->gpu_count() == 2);
  const GpuIdentity identity = device->identity(kSecond);
  CHECK(identity.uuid == FakeNvml::uuid(1));
  CHECK(identity.pci_address == "0001:3c:00.0");
  CHECK(identity.model == "Fake H100");

  const GpuAbilities abilities = device->abilities(kSecond);
  CHECK(abilities.set_clock);
  CHECK(abilities.energy);
  CHECK(abilities.power);
  CHECK(abilities.power_cap);
  CHECK(abilities.temperature);
  CHECK(abilities.event_reasons);
  CHECK(abilities.remarks.empty());
  CHECK(device->observed_clock(kSecond) == Megahertz(1980));
  CHECK(device->power(kSecond) == Watts(400));
  CHECK(device->power_cap(kSecond) == Watts(700));
  CHECK(device->temperature(kSecond) == 40);
  CHECK(device->event_reasons(kSecond) == EventReasons());
  CHECK(device->state(kSecond).empty());
  CHECK(node.changes().empty());
}

TEST_CASE("nvml: processes on a GPU are told whole, or not at all", "[nvml]") {
  const FakeNvml node;
  const auto device = open_fake();
  CHECK(device->processes(kSecond) == std::vector<int>{});
  node.script("ComputeRunningProcesses 1 value=3\n");
  CHECK(device->processes(kFirst) == std::vector<int>{});
  CHECK(device->processes(kSecond) == std::vector{4000, 4001, 4002});
  node.script("ComputeRunningProcesses 1 value=1000\n");  // more than is asked for at first
  const auto many = device->processes(kSecond);
  REQUIRE(many);
  REQUIRE(many->size() == 1000);
  CHECK(many->back() == 4999);
  for (const char* error : {"3", "4", "7", "15", "999"}) {
    CAPTURE(error);
    node.script("ComputeRunningProcesses 1 error=" + std::string(error) + "\n");
    CHECK(device->processes(kSecond) == std::nullopt);
  }
  node.script("");
  CHECK(open_edition("old")->processes(kFirst));
  CHECK(open_edition("bare")->processes(kFirst) == std::nullopt);
}

TEST_CASE("nvml: an identity has no character that a path or a line could stumble over", "[nvml]") {
  const FakeNvml node;
  node.script("GetUUID 0 value=1\n");
  const auto device = open_fake();
  CHECK(device->identity(kFirst).uuid == FakeNvml::uuid(0) + "--x");
  CHECK(find_gpu(*device, FakeNvml::uuid(1)) == kSecond);
}

TEST_CASE("nvml: only versioned names are called, and what was started is shut down", "[nvml]") {
  const FakeNvml node;  // an old name would abort
  {
    const auto device = open_fake();
    const auto another = open_fake();
    (void)device->abilities(kFirst);
    CHECK(node.count("nvmlInit_v2") == 2);
    CHECK(node.count("nvmlShutdown") == 0);
  }
  CHECK(node.count("nvmlShutdown") == 2);
  for (const char* name :
       {"nvmlDeviceGetCount_v2", "nvmlDeviceGetHandleByIndex_v2", "nvmlDeviceGetPciInfo_v3"}) {
    CAPTURE(name);
    CHECK(node.count(name) > 0);
  }
  // A device that cannot be opened leaves nothing behind either.
  CHECK_THROWS_AS(open_fake(":9"), DeviceError);
  CHECK(node.count("nvmlShutdown") == 3);
}

TEST_CASE("nvml: a lock asks for one clock and nothing else, and a restore takes it away", "[nvml]") {
  const FakeNvml node;
  const auto device = open_fake();
  device->lock_clock(kSecond, Megahertz(1200));
  device->lock_clock(kSecond, Megahertz(1410));
  CHECK(node.locked(0) == std::nullopt);
  CHECK(node.locked(1) == 1410);
  pass_wall_time(10);
  CHECK(device->observed_clock(kSecond) == Megahertz(1410));
  CHECK(device->event_reasons(kSecond).has(EventReason::kUserSet));
  CHECK_FALSE(device->event_reasons(kSecond).throttles());
  device->restore(kSecond, device->state(kSecond));
  CHECK(node.locked(1) == std::nullopt);
  pass_wall_time(10);
  CHECK(device->observed_clock(kSecond) == Megahertz(1980));
  CHECK(node.changes() == std::vector<std::string>{"SetGpuLockedClocks 1 1200 1200",
                                                   "SetGpuLockedClocks 1 1410 1410",
                                                   "ResetGpuLockedClocks 1"});
}

TEST_CASE("nvml: a lock outlives the device, and whoever finds its GPU by spec and UUID undoes it",
          "[nvml]") {
  const FakeNvml node;
  std::string spec;
  std::string uuid;
  {
    const auto device = open_fake(":1");
    spec = device->spec();
    uuid = device->identity(kFirst).uuid;
    device->lock_clock(kFirst, Megahertz(900));
  }
  CHECK(node.locked(1) == 900);
  REQUIRE(is_device_spec(spec));
  const auto again = open_device(spec);
  const auto gpu = find_gpu(*again, uuid);
  REQUIRE(gpu == kSecond);
  again->restore(*gpu, "");
  CHECK(node.locked(1) == std::nullopt);
}

TEST_CASE("nvml: GPUs come in the order in which they are named, by number or by UUID", "[nvml]") {
  const FakeNvml node(4);
  const auto device = open_fake(":3," + FakeNvml::uuid(1) + ",0");
  REQUIRE(device->gpu_count() == 3);
  CHECK(device->identity(GpuId(0)).uuid == FakeNvml::uuid(3));
  CHECK(device->identity(GpuId(1)).uuid == FakeNvml::uuid(1));
  CHECK(device->identity(GpuId(2)).uuid == FakeNvml::uuid(0));
  device->lock_clock(GpuId(0), Megahertz(600));
  CHECK(node.locked(3) == 600);
  CHECK_THROWS_AS(open_fake(":4"), DeviceError);
  CHECK_THROWS_AS(open_fake(":99999999999999999999"), DeviceError);
  CHECK_THROWS_AS(open_fake(":GPU-8f6c"), DeviceError);
  CHECK_THROWS_AS(open_fake(":1," + FakeNvml::uuid(1)), InputError);
}

TEST_CASE("nvml: a malformed text is refused with its reason before any library is loaded", "[nvml]") {
  const std::vector<std::pair<std::string, std::string>> texts{
      {"nvml:", "GPU"},
      {"nvml:,library=/x", "not nothing"},
      {"nvml:0,,1", "not nothing"},
      {"nvml:0,", "not nothing"},
      {"nvml:library=/x", "no GPU"},
      {"nvml:0,1,0", "twice"},
      {"nvml,0", "colon"},
      {"nvml,", "colon"},
      {"nvml,lib=/x", "unknown key 'lib'"},
      {"nvml:0,path=/x", "unknown key 'path'"},
      {"nvml,library=", "absolute"},
      {"nvml,library=libnvidia-ml.so.1", "absolute"},
      {"amdsmi:", "GPU"},
      {"amdsmi,lib=/x", "unknown key 'lib'"},
      {"nvmlx", "is no device"},
      {"", "is no device"},
  };
  for (const auto& [text, reason] : texts) {
    CAPTURE(text, reason);
    try {
      (void)open_device(text);
      FAIL("was opened");
    } catch (const InputError& error) {
      CHECK(error.key() == "--device");
      CHECK(says(error.reason(), reason));
    }
  }
  for (const char* text : {"nvml", "nvml:0", "nvml,library=/x", "amdsmi", "amdsmi:1", "simnode:/x"})
    CHECK(is_device_spec(text));
  for (const char* text : {"nvmlx", "sim:x", "", "amd"}) CHECK_FALSE(is_device_spec(text));
  CHECK(says(device_error([] { (void)open_device("nvml,library=/no/such/one.so,or,other"); }),
             "one.so,or,other"));
}

TEST_CASE("nvml: clocks are those of the memory clock in use, each once and highest first", "[nvml]") {
  const FakeNvml node;
  const auto device = open_fake();
  const std::vector<Megahertz> clocks = device->supported_clocks(kFirst);
  REQUIRE(clocks.size() == 119);
  CHECK(clocks.front() == Megahertz(1980));
  CHECK(clocks.back() == Megahertz(210));
  CHECK(std::is_sorted(clocks.rbegin(), clocks.rend()));

  // 7 copies of 119 do not fit at first.
  node.script("GetSupportedGraphicsClocks * value=7\n");
  CHECK(device->supported_clocks(kFirst) == clocks);
  // The memory runs at another clock now, at one that the driver has no list for, at an unknown one; and at a
  // low one because the GPU idles.
  node.script("GetClockInfo.memory * value=405\n");
  CHECK(device->supported_clocks(kFirst).front() == Megahertz(420));
  node.script("GetClockInfo.memory * value=1234\n");
  CHECK(device->supported_clocks(kFirst) == clocks);
  node.script("GetClockInfo.memory * error=3\n");
  CHECK(device->supported_clocks(kFirst) == clocks);
  node.script("GetClockInfo.memory * value=405\nEventReasons * value=1\n");
  CHECK(device->supported_clocks(kFirst) == clocks);
  node.script("SupportedGraphicsClocks * error=3\n");
  CHECK(says(device_error([&] { (void)device->supported_clocks(kFirst); }), "cannot do it"));
  CHECK_FALSE(device->abilities(kFirst).set_clock);
}

TEST_CASE("nvml: a clock that the GPU does not have is refused before the driver is asked", "[nvml]") {
  const FakeNvml node;
  const auto device = open_fake();
  for (const int mhz : {1201, 0, -15, 1995}) {
    CAPTURE(mhz);
    CHECK_THROWS_AS(device->lock_clock(kFirst, Megahertz(mhz)), DeviceError);
  }
  CHECK(node.changes().empty());
  // What became possible since the list was read is possible.
  node.script("GetClockInfo.memory * value=405\n");
  const auto low = open_fake();
  low->lock_clock(kFirst, Megahertz(405));
  CHECK_THROWS_AS(low->lock_clock(kFirst, Megahertz(1200)), DeviceError);
  node.script("");
  low->lock_clock(kFirst, Megahertz(1200));
  CHECK(node.locked(0) == 1200);
}

TEST_CASE("nvml: a device opened for reading never reaches a setter", "[nvml]") {
  const FakeNvml node;
  const auto device = open_fake("", DeviceAccess::kReadOnly);
  CHECK(says(device->abilities(kFirst).set_clock.why_not, "reading only"));
  CHECK(says(device_error([&] { device->lock_clock(kFirst, Megahertz(1200)); }), "reading only"));
  CHECK(says(device_error([&] { device->restore(kFirst, ""); }), "reading only"));
  CHECK(device->energy(kFirst).total > Joules(0));
  CHECK(node.changes().empty());
}

TEST_CASE("nvml: with MIG on, a GPU has neither a clock nor an energy, but a lock can be undone", "[nvml]") {
  const FakeNvml node;
  const auto device = open_fake();
  device->lock_clock(kFirst, Megahertz(1200));
  node.script("GetMigMode 0 value=1\n");
  const GpuAbilities abilities = device->abilities(kFirst);
  CHECK(says(abilities.set_clock.why_not, "MIG is on"));
  CHECK(says(abilities.set_clock.remedy, "-mig 0"));
  CHECK(says(abilities.energy.why_not, "MIG is on"));
  CHECK(abilities.temperature);
  CHECK(says(device_error([&] { device->lock_clock(kFirst, Megahertz(1410)); }), "MIG is on"));
  CHECK(says(device_error([&] { (void)device->energy(kFirst); }), "MIG is on"));
  CHECK(node.locked(0) == 1200);
  device->restore(kFirst, "");
  CHECK(node.locked(0) == std::nullopt);
  device->lock_clock(kSecond, Megahertz(1410));
  CHECK(node.locked(1) == 1410);
}

TEST_CASE("nvml: GPUs older than Volta are read but not locked", "[nvml]") {
  const FakeNvml node;
  node.script("GetArchitecture 0 value=4\n");
  const auto device = open_fake();
  CHECK(says(device->abilities(kFirst).set_clock.why_not, "Volta"));
  CHECK_THROWS_AS(device->lock_clock(kFirst, Megahertz(1200)), DeviceError);
  CHECK(node.changes().empty());
  CHECK(device->abilities(kSecond).set_clock);
}

TEST_CASE("nvml: every refusal of the driver has its own words, its function, and what helps", "[nvml]") {
  const FakeNvml node;
  const std::vector<std::pair<int, std::string>> starts{
      {9, "not loaded"},          {18, "different versions"}, {4, "only to root"},
      {15, "fallen off the bus"}, {999, "does not know why"}, {77, "error 77"}};
  for (const auto& [code, words] : starts) {
    CAPTURE(code, words);
    node.script("nvmlInit_v2 * error=" + std::to_string(code) + "\n");
    const std::string error = device_error([] { open_fake(); });
    CHECK(says(error, "start NVML"));
    CHECK(says(error, words));
    CHECK(says(error, "nvmlInit_v2: "));
  }
  node.script("");
  const auto device = open_fake();
  const std::vector<std::pair<int, std::string>> locks{{4, "sudo slackline agent"}, {15, "reboot"},
                                                       {16, "--gpu-reset"},         {17, "cgroup"},
                                                       {24, "does not have this"},  {19, "in use"}};
  for (const auto& [code, words] : locks) {
    CAPTURE(code, words);
    node.script("SetGpuLockedClocks 1 error=" + std::to_string(code) + "\n");
    const std::string error = device_error([&] { device->lock_clock(kSecond, Megahertz(1200)); });
    CHECK(says(error, "lock clock on " + FakeNvml::uuid(1)));
    CHECK(says(error, words));
  }
  CHECK(node.locked(1) == std::nullopt);
  node.script("SetGpuLockedClocks 1 error=4\n");
  CHECK(says(device_error([&] { device->lock_clock(kSecond, Megahertz(1200)); }),
             "(nvmlDeviceSetGpuLockedClocks: Insufficient Permissions)"));
}

TEST_CASE("nvml: GPUs that this process may not use are left out, and missed only by who asks for them",
          "[nvml]") {
  const FakeNvml node(3);
  node.script("GetHandleByIndex_v2 1 error=4\n");
  const auto device = open_fake();
  REQUIRE(device->gpu_count() == 2);
  CHECK(device->identity(kSecond).uuid == FakeNvml::uuid(2));
  const auto selected = open_fake(":2");  // numbers stay the driver's
  CHECK(selected->identity(kFirst).uuid == FakeNvml::uuid(2));
  CHECK(says(device_error([] { open_fake(":1"); }), "only to root"));
  CHECK(says(device_error([] { open_fake(":" + FakeNvml::uuid(1)); }), "no such GPU"));

  node.script("GetHandleByIndex_v2 * error=17\n");
  CHECK(says(device_error([] { open_fake(); }), "cgroup"));
  node.script("GetCount * value=0\n");
  CHECK(says(device_error([] { open_fake(); }), "none"));
}

TEST_CASE("nvml: a GPU that is lost while it is used fails every call, and the others go on", "[nvml]") {
  const FakeNvml node;
  const auto device = open_fake();
  CHECK(device->energy(kFirst).total > Joules(0));
  node.script("* 0 error=15 after=1\n");
  (void)device->observed_clock(kFirst);
  const std::vector<std::function<void()>> calls{[&] { (void)device->energy(kFirst); },
                                                 [&] { (void)device->power(kFirst); },
                                                 [&] { (void)device->temperature(kFirst); },
                                                 [&] { (void)device->observed_clock(kFirst); },
                                                 [&] { (void)device->event_reasons(kFirst); },
                                                 [&] { (void)device->power_cap(kFirst); },
                                                 [&] { (void)device->supported_clocks(kFirst); },
                                                 [&] { device->lock_clock(kFirst, Megahertz(1200)); },
                                                 [&] { device->restore(kFirst, ""); }};
  for (const auto& call : calls) CHECK(says(device_error(call), "fallen off the bus"));
  const GpuAbilities abilities = device->abilities(kFirst);
  for (const Ability& ability : {abilities.set_clock, abilities.energy, abilities.power, abilities.power_cap,
                                 abilities.temperature, abilities.event_reasons}) {
    CHECK(says(ability.why_not, "fallen off the bus"));
    CHECK(says(ability.remedy, "reboot"));
  }
  CHECK(device->abilities(kSecond).set_clock);
  device->lock_clock(kSecond, Megahertz(1200));
  CHECK(node.locked(1) == 1200);
}

TEST_CASE("nvml: energy rises with the driver's own stamps, on the device's timeline", "[nvml]") {
  const FakeNvml node;
  const auto device = open_fake();
  const auto timeline = device->make_timeline();
  const EnergyReading first = device->energy(kFirst);
  pass_wall_time(100);
  const EnergyReading later = device->energy(kFirst);
  const Seconds now = timeline->now();
  CHECK(later.at <= now);
  CHECK(now - later.at < Seconds(1));
  // Both were stamped at ticks: 400 W, whenever we read them.
  CHECK(std::abs((later.total - first.total).value() - 400 * (later.at - first.at).value()) < 0.01 * 400);
  CHECK(later.at - first.at >= Seconds(0.079));
  CHECK(node.count("nvmlDeviceGetTotalEnergyConsumption") == 0);
}

TEST_CASE("nvml: a stamp that is zero, of another day or ahead of time is not believed", "[nvml]") {
  const FakeNvml node;
  for (const char* stamp : {"0", "5", "-1000000", "99999999999999999"}) {
    CAPTURE(stamp);
    node.script("Field83Scope0 0 timestamp=" + std::string(stamp) + "\n");
    const auto device = open_fake();
    const auto timeline = device->make_timeline();
    const Seconds before = timeline->now();
    const EnergyReading reading = device->energy(kFirst);
    CHECK(reading.at >= before);
    CHECK(reading.at <= timeline->now());
  }
}

TEST_CASE("nvml: a GPU that tells only its module's energy says so, and one without fields is asked by call",
          "[nvml]") {
  const FakeNvml node;
  node.script(
      "Field83Scope0 0 error=3\nField191Scope1 0 value=77000\n"
      "Field186Scope0 0 error=2\nField186Scope1 0 value=950000\n"
      "Field83Scope0 1 error=3\nField186 1 error=3\nGetPowerUsage 1 value=123000\n");
  const auto device = open_fake();
  CHECK(device->energy(kFirst).total == Joules(77));
  CHECK(device->power(kFirst) == Watts(950));
  const std::vector<std::string> remarks = device->abilities(kFirst).remarks;
  CHECK(says(remarks, "energy covers GPU and CPU of the module"));
  CHECK(says(remarks, "power covers GPU and CPU of the module"));

  CHECK(device->energy(kSecond).total > Joules(999));
  CHECK(node.count("nvmlDeviceGetTotalEnergyConsumption") == 1);
  CHECK(device->power(kSecond) == Watts(123));
  CHECK(says(device->abilities(kSecond).remarks, "average of the last second"));
}

TEST_CASE("nvml: a reading that shows nothing new is the last one, however the driver dates it", "[nvml]") {
  const FakeNvml node;
  std::unique_ptr<Device> device;
  SECTION("by the time of the call") {
    device = open_edition("old");
    node.script("Field83 * error=3\n");
  }
  SECTION("by nothing that could be believed") {
    device = open_fake();
    node.script("Field83Scope0 * timestamp=1\n");
  }
  // Energy ticks every 20 ms.
  std::set<double> moments;
  std::set<double> totals;
  const auto end = std::chrono::steady_clock::now() + std::chrono::milliseconds(300);
  while (std::chrono::steady_clock::now() < end) {
    const EnergyReading reading = device->energy(kFirst);
    moments.insert(reading.at.value());
    totals.insert(reading.total.value());
    std::this_thread::sleep_for(std::chrono::milliseconds(1));
  }
  CHECK(totals.size() >= 3);
  CHECK(moments.size() == totals.size());
}

TEST_CASE("nvml: power of different scopes never mixes", "[nvml]") {
  const FakeNvml node;
  const auto device = open_fake();
  const Watts power = device->power(kFirst);
  node.script("Field186Scope0 0 error=3\nField186Scope1 0 value=950000\n");
  CHECK_THROWS_AS(device->power(kFirst), DeviceError);
  node.script("");
  CHECK(device->power(kFirst) == power);
}

TEST_CASE("nvml: counters of different sources never mix", "[nvml]") {
  const FakeNvml node;
  const auto device = open_fake();
  const EnergyReading first = device->energy(kFirst);
  node.script("Field83Scope0 0 error=3\nField191Scope1 0 value=999000000\n");
  CHECK(says(device_error([&] { (void)device->energy(kFirst); }), "cannot do it"));
  node.script("");
  CHECK(device->energy(kFirst).total - first.total < Joules(10'000));
}

TEST_CASE("nvml: a counter that fails or shows zero for a moment is asked again; one that stays so is not",
          "[nvml]") {
  const FakeNvml node;
  const auto device = open_fake();
  const EnergyReading first = device->energy(kFirst);
  for (const char* fault : {"error=3", "value=0"}) {
    CAPTURE(fault);
    node.script("Field83Scope0 0 times=2 " + std::string(fault) + "\n");
    CHECK(device->energy(kFirst).total >= first.total);
  }
  node.script("Field83Scope0 0 error=3\n");
  CHECK_THROWS_AS(device->energy(kFirst), DeviceError);
  node.script("Field83Scope0 0 value=0\n");
  CHECK(says(device_error([&] { (void)device->energy(kFirst); }), "was reset"));
  // One that never told its energy may be too busy for a moment, too.
  node.script("Field83 1 error=3\nTotalEnergy 1 error=3\n");
  const int calls = node.count("nvmlDeviceGetTotalEnergyConsumption");
  CHECK_FALSE(device->abilities(kSecond).energy);
  CHECK(node.count("nvmlDeviceGetTotalEnergyConsumption") == calls + 4);
}

TEST_CASE("nvml: a counter that goes backwards voids one reading, and asking for abilities voids none",
          "[nvml]") {
  const FakeNvml node;
  node.script("Field83Scope0 * value=5000000\n");
  const auto device = open_fake();
  CHECK(device->energy(kFirst).total == Joules(5000));
  CHECK(device->energy(kSecond).total == Joules(5000));
  node.script("Field83Scope0 0 value=4000\nField83Scope0 1 value=5000001\n");
  CHECK(device->abilities(kFirst).energy);
  CHECK(says(device_error([&] { (void)device->energy(kFirst); }), "was reset"));
  CHECK(device->energy(kFirst).total == Joules(4));
  CHECK(device->energy(kSecond).total == Joules(5000.001));
}

TEST_CASE("nvml: the refresh period is measured, once, on a GPU that has a counter", "[nvml]") {
  const FakeNvml node;
  node.script("Field83 0 error=3\nTotalEnergy 0 error=3\n");
  const auto device = open_fake();
  const Seconds period = device->energy_refresh_period();
  CHECK(std::abs(std::remainder(period.value(), 0.020)) < 0.001);  // a busy host may miss ticks
  CHECK(period > Seconds(0.010));
  CHECK(period < Seconds(0.200));
  const std::size_t calls = node.calls().size();
  CHECK(device->energy_refresh_period() == period);
  CHECK(node.calls().size() == calls);
}

TEST_CASE("nvml: a counter that stands still has no refresh period", "[nvml]") {
  const FakeNvml node;
  node.script("Field83Scope0 * stale\n");
  CHECK(says(device_error([] { (void)open_fake()->energy_refresh_period(); }), "less than twice"));
  node.script("Field83 * error=3\nTotalEnergy * error=3\n");
  CHECK(says(device_error([] { (void)open_fake()->energy_refresh_period(); }), "no GPU"));
  node.script("Field83Scope0 * stale\n");
  const auto device = open_fake();
  device->shut_down_timelines();
  CHECK(says(device_error([&] { (void)device->energy_refresh_period(); }), "ended early"));
}

TEST_CASE("nvml: what slows a GPU is told in our terms, and remarked on", "[nvml]") {
  const FakeNvml node;
  const auto device = open_fake();
  const std::vector<std::pair<unsigned, EventReason>> bits{{0x1, EventReason::kIdle},
                                                           {0x2, EventReason::kUserSet},
                                                           {0x4, EventReason::kPowerCap},
                                                           {0x8, EventReason::kHardwareSlowdown},
                                                           {0x10, EventReason::kSyncBoost},
                                                           {0x20, EventReason::kThermal},
                                                           {0x40, EventReason::kHardwareThermal},
                                                           {0x80, EventReason::kPowerBrake},
                                                           {0x100, EventReason::kDisplay},
                                                           {0x200, EventReason::kOther}};
  for (const auto& [bit, reason] : bits) {
    CAPTURE(bit);
    node.script("EventReasons 0 value=" + std::to_string(bit) + "\n");
    EventReasons expected;
    expected |= reason;
    CHECK(device->event_reasons(kFirst) == expected);
  }
  node.script("EventReasons 0 value=36\nPersistenceMode 0 value=0\nWorkloadPowerProfile 0 value=33\n");
  const std::vector<std::string> remarks = device->abilities(kFirst).remarks;
  CHECK(says(remarks, "throttled now: power-cap, thermal"));
  CHECK(says(remarks, "persistence mode is off"));
  CHECK(says(remarks, "power profile 33"));
  CHECK(remarks.size() == 3);
}

TEST_CASE("nvml: a driver from before the newer names is used by the older ones", "[nvml]") {
  const FakeNvml node;
  node.script("ThrottleReasons 0 value=4\n");
  const auto device = open_edition("old");
  CHECK(device->event_reasons(kFirst).has(EventReason::kPowerCap));
  CHECK(device->temperature(kFirst) == 41);
  const EnergyReading first = device->energy(kFirst);
  pass_wall_time(50);
  const EnergyReading later = device->energy(kFirst);
  CHECK(later.total > first.total);
  CHECK(later.at > first.at);
  CHECK(device->power(kFirst) == Watts(400));
  device->lock_clock(kFirst, Megahertz(1200));
  CHECK(node.locked(0) == 1200);
  const GpuAbilities abilities = device->abilities(kFirst);
  CHECK(says(abilities.power_cap.why_not, "nvmlDeviceGetEnforcedPowerLimit"));
  CHECK(says(abilities.power_cap.remedy, "newer driver"));
  CHECK(says(device_error([&] { (void)device->power_cap(kFirst); }), "nvmlDeviceGetEnforcedPowerLimit"));
}

TEST_CASE("nvml: what a library lacks is a missing ability; without the essentials it is refused by name",
          "[nvml]") {
  const FakeNvml node;
  const auto device = open_edition("bare");
  CHECK(device->gpu_count() == 2);
  CHECK(device->driver() == "NVML of unknown version, driver of unknown version");
  CHECK(device->identity(kFirst).pci_address.empty());
  const GpuAbilities abilities = device->abilities(kFirst);
  for (const Ability& ability : {abilities.set_clock, abilities.energy, abilities.power, abilities.power_cap,
                                 abilities.temperature, abilities.event_reasons})
    CHECK(says(ability.why_not, "nvmlDevice"));
  CHECK(abilities.remarks.empty());
  CHECK_THROWS_AS(device->lock_clock(kFirst, Megahertz(1200)), DeviceError);
  CHECK_THROWS_AS(device->restore(kFirst, ""), DeviceError);
  CHECK_THROWS_AS(device->supported_clocks(kFirst), DeviceError);
  CHECK_THROWS_AS(device->energy(kFirst), DeviceError);

  CHECK(says(device_error([] { open_edition("broken"); }), "has no nvmlDeviceGetCount_v2"));
}

TEST_CASE("nvml: whatever is done, of all that NVML can change only the core clock's range changes",
          "[nvml]") {
  const FakeNvml node;
  node.script("SetGpuLockedClocks * error=4 times=1\nGetTemperature * error=3\n");
  {
    const auto device = open_fake();
    for (const GpuId gpu : all_gpus(*device)) {
      (void)device->abilities(gpu);
      (void)device_error([&] { device->lock_clock(gpu, Megahertz(1200)); });
      (void)device->energy(gpu);
      (void)device_error([&] { (void)device->temperature(gpu); });
      (void)device->power(gpu);
      (void)device->power_cap(gpu);
      device->restore(gpu, device->state(gpu));
    }
    (void)device->energy_refresh_period();
  }
  for (const FakeNvml::Call& call : node.calls()) {
    CAPTURE(call.function, call.arguments);
    CHECK(call.arguments != "FORBIDDEN");
    CHECK(call.arguments != "OLD");
  }
  CHECK(node.changes().size() == 4);
}

TEST_CASE("nvml: threads read and lock at once", "[nvml]") {
  const FakeNvml node;
  const auto device = open_fake();
  std::vector<std::thread> threads;
  std::atomic<int> errors = 0;
  for (int t = 0; t < 4; ++t) {
    threads.emplace_back([&, t] {
      const std::string error = device_error([&] {
        Joules last;
        for (int i = 0; i < 50; ++i) {
          const EnergyReading reading = device->energy(kFirst);
          if (reading.total < last) ++errors;
          last = reading.total;
          device->lock_clock(kFirst, Megahertz(1200 + 15 * t));
        }
      });
      if (!error.empty()) ++errors;
    });
  }
  for (std::thread& thread : threads) thread.join();
  CHECK(errors == 0);
  CHECK(node.changes().size() == 200);
}

// What the next law starts: opens the driver without a path, as the user who runs it or as nobody.
TEST_CASE("nvml in a child: a device without the path of its library", "[.child]") {
  if (::getenv("NVML_TEST_AS_NOBODY") != nullptr) {
    constexpr uid_t kNobody = 65534;
    REQUIRE(::setuid(kNobody) == 0);
    ::prctl(PR_SET_DUMPABLE, 1);  // a leak checker wants to look
  }
  const std::string error = device_error([] {
    const auto device = open_device("nvml");
    const Ability ability = device->abilities(kFirst).set_clock;
    CHECK(says(ability.why_not, "CAP_SYS_ADMIN"));
    CHECK(says(ability.remedy, "sudo slackline agent"));
    CHECK(says(device_error([&] { device->lock_clock(kFirst, Megahertz(1200)); }), "CAP_SYS_ADMIN"));
    CHECK(says(device_error([&] { device->restore(kFirst, ""); }), "CAP_SYS_ADMIN"));
    CHECK(device->energy(kFirst).total > Joules(0));
  });
  if (::geteuid() == 0) {
    CHECK(says(error, "load driver library"));
  } else {
    CHECK(error == "");
  }
}

TEST_CASE(
    "nvml: the environment does not choose the library that root loads; others get no further than reading",
    "[nvml]") {
  if (std::filesystem::exists("/usr/lib/x86_64-linux-gnu/libnvidia-ml.so.1")) return;  // has real GPUs
  const FakeNvml node;
  const std::string folder = node.file(".");
  std::filesystem::copy_file(FAKE_NVML, node.file("libnvidia-ml.so.1"));
  // The child may be somebody else.
  std::filesystem::permissions(folder, std::filesystem::perms::all);
  const mode_t mask = ::umask(0);
  ::setenv("LD_LIBRARY_PATH", folder.c_str(), 1);
  const auto run = [&] {
    const ChildResult result =
        run_child({"/proc/self/exe", "nvml in a child: a device without the path of its library"}, "/");
    CAPTURE(result.out, result.err);
    CHECK(result.status == 0);
    CHECK(says(result.out, "1 test case"));  // and not none
  };
  run();
  CHECK(node.calls().empty() == (::geteuid() == 0));
  if (::geteuid() == 0) {
    ::setenv("NVML_TEST_AS_NOBODY", "1", 1);
    run();
    ::unsetenv("NVML_TEST_AS_NOBODY");
  }
  ::unsetenv("LD_LIBRARY_PATH");
  ::umask(mask);
  CHECK(node.count("nvmlInit_v2") == 1);
  CHECK(node.changes().empty());
}

/// Stands still unless somebody sleeps.
class FakeTimeline : public Timeline {
 public:
  [[nodiscard]] Seconds now() override { return now_; }
  bool sleep_until(Seconds time) override {
    now_ = std::max(now_, time);
    return !is_over;
  }
  bool is_over = false;

 private:
  Seconds now_{1000};
};

/// A counter that ticks every `period` and stamps when, or does not.
std::function<EnergyReading()> ticking(Timeline& time, double period, bool stamps) {
  return [&time, period, stamps]() -> EnergyReading {
    const double tick = std::floor(time.now().value() / period);
    return {Joules(tick), stamps ? Seconds(tick * period) : time.now()};
  };
}

TEST_CASE("nvml: a refresh period is as exact as the stamps, or as the polling", "[nvml]") {
  for (const double period : {0.010, 0.0213, 0.1, 0.5}) {
    CAPTURE(period);
    FakeTimeline time;
    const Seconds begin = time.now();
    CHECK(std::abs(measure_refresh_period(ticking(time, period, true), time).value() - period) < 1e-6);
    CHECK(time.now() - begin <= Seconds(std::min(1.5, 7 * period + 0.004)));
    FakeTimeline another;
    CHECK(std::abs(measure_refresh_period(ticking(another, period, false), another).value() - period) <
          0.0021);
  }
}

TEST_CASE("nvml: a late change or a pause does not spoil the refresh period", "[nvml]") {
  FakeTimeline time;
  int reads = 0;
  const auto counter = ticking(time, 0.1, true);
  const Seconds period = measure_refresh_period(
      [&] {
        if (++reads == 100) time.sleep_until(time.now() + Seconds(0.35));  // the host was busy
        return counter();
      },
      time);
  CHECK(std::abs(period.value() - 0.1) < 1e-6);
}

TEST_CASE("nvml: no refresh period comes from a counter that hardly moves, or after the end of time",
          "[nvml]") {
  FakeTimeline time;
  const Seconds begin = time.now();
  CHECK_THROWS_AS(measure_refresh_period(ticking(time, 100, true), time), DeviceError);
  CHECK(time.now() - begin <= Seconds(1.5));
  time.is_over = true;
  CHECK_THROWS_AS(measure_refresh_period(ticking(time, 0.1, true), time), DeviceError);
}

}  // namespace
}  // namespace slackline
