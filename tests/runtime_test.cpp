#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <sys/file.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <chrono>
#include <filesystem>
#include <functional>
#include <future>
#include <thread>

#include "catch.h"
#include "other_process.h"
#include "runtime_variable.h"
#include "scratch_folder.h"
#include "slackline.h"
#include "slackline/base/error.h"
#include "slackline/device/sim_world.h"
#include "slackline/runtime/cursor.h"
#include "slackline/runtime/journal.h"
#include "slackline/runtime/runtime_folder.h"
#include "slackline/runtime/step_log.h"
#include "slackline_sim.h"
#include "test_device.h"

namespace slackline {
namespace {

constexpr std::int32_t kForward = SLACKLINE_FORWARD;
constexpr std::int32_t kBackward = SLACKLINE_BACKWARD;

bool contains(const std::string& text, const std::string& part) {
  return text.find(part) != std::string::npos;
}

// Cursor

const std::vector<OrderEntry> kOrder{{kForward, 2, 0}, {kForward, 2, 1}, {kBackward, 2, 0}};

TEST_CASE("runtime: a cursor goes through the order and again in the next step", "[runtime]") {
  Cursor cursor(kOrder);
  for (int step = 0; step < 2; ++step) {
    cursor.begin_step();
    for (const OrderEntry& entry : kOrder) {
      REQUIRE(cursor.next());
      CHECK(kOrder[*cursor.next()].microbatch == entry.microbatch);
      CHECK(cursor.fits(entry));
      CHECK(cursor.fits({entry.kind, entry.stage, -1}));  // a job that does not know its microbatch
      CHECK(cursor.fits({entry.kind, -1, entry.microbatch}));
      CHECK_FALSE(cursor.fits({entry.kind, 3, entry.microbatch}));
      cursor.advance();
    }
    CHECK(cursor.next() == std::nullopt);
    CHECK(cursor.leftover() == "");
  }
}

TEST_CASE("runtime: a cursor names what the job runs and what the schedule has instead", "[runtime]") {
  Cursor cursor(kOrder);
  cursor.begin_step();
  cursor.advance();
  CHECK_FALSE(cursor.fits({kBackward, 2, 0}));
  const std::string other_kind = cursor.mismatch({kBackward, 2, 0});
  CHECK(contains(other_kind, "backward of microbatch 0"));
  CHECK(contains(other_kind, "forward of microbatch 1 on stage 2"));
  CHECK_FALSE(cursor.fits({kForward, 2, 2}));
  CHECK_FALSE(cursor.fits({kBackward, 2, -1}));
  CHECK(contains(cursor.leftover(), "after 1 of the 3 instructions"));
  cursor.advance();
  cursor.advance();
  CHECK(contains(cursor.mismatch({kForward, 2, 2}), "after the 3 instructions"));
  CHECK(Cursor({}).leftover() == "");
  CHECK_FALSE(Cursor({}).fits({kForward, 0, 0}));
}

// StepLog

JobEvent step_event(JobEventType type, double time) {
  return {type, 0, -1, 0, static_cast<std::int64_t>(time * 1e9)};
}
StepLog log_of(int members) {
  StepLog log;
  for (int member = 0; member < members; ++member) log.join(member);
  return log;
}
constexpr auto kBegin = JobEventType::kStepBegin;
constexpr auto kEnd = JobEventType::kStepEnd;

TEST_CASE("runtime: a step lasts from the last stage's begin to the last stage's end", "[runtime]") {
  StepLog log = log_of(3);
  CHECK_FALSE(log.add(0, step_event(kBegin, 1.0)));
  CHECK_FALSE(log.add(2, step_event(kBegin, 1.1)));
  CHECK_FALSE(log.add(1, step_event(kBegin, 1.2)));
  CHECK_FALSE(log.add(2, step_event(kEnd, 4.0)));
  CHECK_FALSE(log.add(2, step_event(kBegin, 4.0)));  // begins the next by waiting: that one is not longer
  CHECK_FALSE(log.add(1, step_event(kEnd, 4.5)));
  CHECK_FALSE(log.add(1, step_event(kBegin, 4.5)));
  CHECK(log.add(0, step_event(kEnd, 5.0)));
  CHECK_FALSE(log.add(0, step_event(kBegin, 5.0)));
  CHECK_FALSE(log.add(2, step_event(kEnd, 8.0)));
  CHECK_FALSE(log.add(1, step_event(kEnd, 8.5)));
  CHECK(log.add(0, step_event(kEnd, 9.0)));
  REQUIRE(log.steps().size() == 2);
  CHECK(log.steps()[0].begin == Seconds(1.2));
  CHECK(log.steps()[0].end == Seconds(5.0));
  CHECK(log.steps()[1].begin == Seconds(5.0));
  CHECK(log.steps()[1].duration() == Seconds(4.0));
}

TEST_CASE("runtime: steps are put together whatever the order in which the stages are heard", "[runtime]") {
  // One stage's events may arrive steps ahead of another's.
  StepLog log = log_of(2);
  for (int n = 0; n < 3; ++n) {
    log.add(0, step_event(kBegin, n));
    log.add(0, step_event(kEnd, n + 0.9));
  }
  CHECK(log.steps().empty());
  for (int n = 0; n < 3; ++n) {
    log.add(1, step_event(kBegin, n + 0.1));
    CHECK(log.add(1, step_event(kEnd, n + 0.8)));
    REQUIRE(log.steps().size() == static_cast<std::size_t>(n) + 1);
    CHECK(log.steps().back().begin == Seconds(n + 0.1));
    CHECK(log.steps().back().end == Seconds(n + 0.9));
  }
  // An end without a begin is no step, and other events are none either.
  CHECK_FALSE(log.add(1, step_event(kEnd, 9)));
  CHECK_FALSE(log.add(1, step_event(JobEventType::kAgain, 9)));
  CHECK(log.steps().size() == 3);
}

TEST_CASE("runtime: a step has a plan if all its processes have followed it", "[runtime]") {
  StepLog log = log_of(2);
  const auto step = [&](int first, int second) {
    for (const int member : {0, 1}) log.add(member, step_event(kBegin, 1));
    for (const auto& [member, plan] : {std::pair(0, first), std::pair(1, second)}) {
      log.add(member, {JobEventType::kPlan, plan, -1, 0, 0});
      log.add(member, step_event(kEnd, 2));
    }
    return log.steps().back().plan;
  };
  CHECK(step(3, 3) == 3);
  CHECK(step(3, 4) == std::nullopt);
  CHECK(step(-1, 4) == std::nullopt);
  CHECK(step(-1, -1) == -1);
}

// Journal

/// A simulated node of two stages with two GPUs each.
struct Node {
  Node() {
    const std::vector<SimOption> options{{Megahertz(1400), Seconds(0.1), Joules(30)},
                                         {Megahertz(1200), Seconds(0.12), Joules(27)},
                                         {Megahertz(1000), Seconds(0.15), Joules(25)}};
    const SimRank stage{
        2, Watts(60), {{InstructionKind::kForward, options}, {InstructionKind::kBackward, options}}};
    SimWorld::create(path, {stage, stage}, {});
    world = std::make_shared<SimWorld>(path);
    device.emplace(world);
  }
  [[nodiscard]] int locked() const {
    int count = 0;
    for (int g = 0; g < world->gpus(); ++g) count += world->locked_clock(GpuId(g)) ? 1 : 0;
    return count;
  }
  ScratchFolder folder;
  std::string path = folder.file("gpus");
  std::string journal_folder = folder.file("journal");
  std::shared_ptr<SimWorld> world;
  std::optional<SimDevice> device;
};

/// What a process leaves that locks `gpu` of `node` and is then killed.
OtherProcess owner_of(Node& node, GpuId gpu) {
  return OtherProcess([&node, gpu] {
    const SimDevice device(std::make_shared<SimWorld>(node.path));
    auto* claim = new Journal::Claim(Journal(node.journal_folder).claim(device.identity(gpu).uuid));
    claim->record(device, "", Megahertz(0));
    SimWorld(node.path).lock_clock(gpu, Megahertz(1000));
  });
}

TEST_CASE("runtime: a journal entry is on the disk, says how to undo the change, and goes when cleared",
          "[runtime]") {
  const ScratchFolder folder;
  const Journal journal(folder.file("journal"));
  const TestDevice device;
  {
    auto first = journal.claim("GPU-1");
    auto second = journal.claim("GPU-2");
    first.record(device, "", Megahertz(0));
    second.record(device, "level-3", Megahertz(1200));
    second.record(device, "level-3", Megahertz(1200));
    const auto entries = Journal(folder.file("journal")).entries();
    REQUIRE(entries.size() == 2);
    CHECK(entries[0].gpu == "GPU-1");
    CHECK(entries[1].gpu == "GPU-2");
    CHECK(entries[1].device == "test");
    CHECK(entries[1].state == "level-3");
    CHECK(entries[1].baseline == Megahertz(1200));
    CHECK(entries[1].owner == ::getpid());
    CHECK(journal.restore_leftovers().gpus.empty());  // the owner lives
    first.clear();
    first.clear();
    CHECK(journal.entries().size() == 1);
    second.clear();
  }
  CHECK(std::filesystem::is_empty(folder.file("journal")));
}

TEST_CASE(
    "runtime: a GPU that another process has is refused and its owner named, one of a dead process is not",
    "[runtime]") {
  Node node;
  const Journal journal(node.journal_folder);
  const std::string gpu = node.device->identity(GpuId(1)).uuid;
  OtherProcess owner = owner_of(node, GpuId(1));
  CHECK_THROWS_WITH(static_cast<void>(journal.claim(gpu)),
                    has_text("process " + std::to_string(owner.pid()) + " has it"));
  CHECK_NOTHROW(static_cast<void>(journal.claim(node.device->identity(GpuId(0)).uuid)));
  CHECK(journal.restore_leftovers().gpus.empty());
  CHECK(node.locked() == 1);
  owner.kill();
  SECTION("it can be taken over") {
    const auto claim = journal.claim(gpu);
    CHECK(journal.restore_leftovers().gpus.empty());
  }
  SECTION("what it left locked is restored, once") {
    CHECK(journal.restore_leftovers().gpus == std::vector{gpu});
    CHECK(node.locked() == 0);
    CHECK(journal.restore_leftovers().gpus.empty());
  }
  SECTION("a baseline is what it is restored to") {
    Journal::Claim claim = journal.claim(gpu);
    claim.record(*node.device, "", Megahertz(1200));
    { const Journal::Claim gone = std::move(claim); }
    CHECK(journal.restore_leftovers().gpus == std::vector{gpu});
    CHECK(node.world->locked_clock(GpuId(1)) == Megahertz(1200));
  }
}

TEST_CASE("runtime: an owner that was killed and still holds its lock is waited for", "[runtime]") {
  Node node;
  const Journal journal(node.journal_folder);
  const std::string gpu = node.device->identity(GpuId(1)).uuid;
  // As threads would that end after the first: a child shares the lock for a while.
  const OtherProcess owner([&] {
    auto* claim = new Journal::Claim(Journal(node.journal_folder).claim(gpu));
    claim->record(*node.device, "", Megahertz(0));
    if (::fork() == 0) {
      ::usleep(300'000);
      ::_exit(0);
    }
    SimWorld(node.path).lock_clock(GpuId(1), Megahertz(1000));
  });
  CHECK(journal.restore_leftovers().gpus.empty());  // it lives
  REQUIRE(::kill(owner.pid(), SIGKILL) == 0);
  CHECK(journal.restore_leftovers().gpus == std::vector{gpu});
  CHECK(node.locked() == 0);
}

TEST_CASE("runtime: an entry cut short at any byte still restores its GPU", "[runtime]") {
  Node node;
  const Journal journal(node.journal_folder);
  const std::string gpu = node.device->identity(GpuId(2)).uuid;
  const std::string file = node.journal_folder + "/" + gpu + ".yaml";
  const auto candidates = [&] {
    std::vector<std::unique_ptr<Device>> devices;
    devices.push_back(std::make_unique<TestDevice>());
    devices.push_back(std::make_unique<SimDevice>(node.world));
    return devices;
  };
  journal.claim(gpu).record(*node.device, "", Megahertz(0));
  const std::string whole = slurp(file);
  for (std::size_t length = 0; length <= whole.size(); ++length) {
    CAPTURE(length);
    spill(file, whole.substr(0, length));
    node.world->lock_clock(GpuId(2), Megahertz(1000));
    const auto restored = journal.restore_leftovers(candidates);
    CHECK(restored.gpus == std::vector{gpu});
    CHECK(restored.failures.empty());
    CHECK(node.locked() == 0);
    CHECK_FALSE(std::filesystem::exists(file));
  }
}

TEST_CASE("runtime: an entry that cannot be served keeps no other from being restored", "[runtime]") {
  Node node;
  const Journal journal(node.journal_folder);
  const std::string gpu = node.device->identity(GpuId(0)).uuid;
  spill(node.folder.file("damaged"), "not a node");
  OtherProcess owner = owner_of(node, GpuId(0));
  owner.kill();
  const std::string text = slurp(node.journal_folder + "/" + gpu + ".yaml");
  const auto with = [&](const std::string& name, const std::string& device) {
    std::string other = text;
    other.replace(other.find(node.path), node.path.size(), device);
    other.replace(other.find(gpu), gpu.size(), name);
    spill(node.journal_folder + "/" + name + ".yaml", other);
  };
  with("SIM-1", node.folder.file("damaged"));
  with("SIM-2", node.folder.file("gone"));
  spill(node.journal_folder + "/GPU-3.yaml", "\x01\x02{{{");
  spill(node.journal_folder + "/strange name.yaml", "");
  spill(node.journal_folder + "/notes.txt", "not an entry");
  std::filesystem::create_directory(node.journal_folder + "/GPU-4.yaml");
  const auto restored = journal.restore_leftovers();
  CHECK(restored.gpus.size() == 2);  // the node that is gone took its GPU along
  CHECK(std::count(restored.gpus.begin(), restored.gpus.end(), gpu) == 1);
  REQUIRE(restored.failures.size() == 3);
  CHECK(contains(restored.failures[0], "GPU-3: "));
  CHECK(node.locked() == 0);
}

TEST_CASE("runtime: what a writer left unfinished goes after a minute", "[runtime]") {
  const ScratchFolder folder;
  const std::string path = folder.file("journal");
  const Journal journal(path);
  spill(path + "/abc.yaml.k3J9xQ", "");
  spill(path + "/abd.yaml.p0K2zR", "");
  const auto now = std::filesystem::file_time_type::clock::now();
  std::filesystem::last_write_time(path + "/abc.yaml.k3J9xQ", now - std::chrono::minutes(2));
  CHECK(journal.restore_leftovers().gpus.empty());
  CHECK_FALSE(std::filesystem::exists(path + "/abc.yaml.k3J9xQ"));
  CHECK(std::filesystem::exists(path + "/abd.yaml.p0K2zR"));  // somebody may be about to rename it
}

TEST_CASE("runtime: an entry that cannot be written is a fault of the device, not of the job's input",
          "[runtime]") {
  const ScratchFolder folder;
  const Journal journal(folder.file("journal"));
  auto claim = journal.claim("GPU-1");
  std::filesystem::remove_all(folder.file("journal"));
  CHECK_THROWS_AS(claim.record(TestDevice(), "", Megahertz(0)), DeviceError);
}

// Runtime folder

TEST_CASE("runtime: the runtime folder is made private, and kept", "[runtime]") {
  const ScratchFolder scratch;
  const RuntimeVariable variable(scratch.file("runtime"));
  CHECK(runtime_folder() == scratch.file("runtime"));
  CHECK(runtime_folder() == scratch.file("runtime"));
  struct stat status {};
  REQUIRE(::stat(scratch.file("runtime").c_str(), &status) == 0);
  CHECK((status.st_mode & 0777) == 0700);
  std::string path;
  {
    const PrivateFolder own(runtime_folder(), kNodeFolder);
    path = own.path();
    REQUIRE(::stat(path.c_str(), &status) == 0);
    CHECK((status.st_mode & 0777) == 0700);
    CHECK(PrivateFolder(runtime_folder(), kNodeFolder).path() != path);
    spill(path + "/file", "");
  }
  CHECK_FALSE(std::filesystem::exists(path));
}

TEST_CASE("runtime: folders of processes that were killed go, those of others stay", "[runtime]") {
  const ScratchFolder scratch;
  const auto make = [&](const std::string& name) {
    std::filesystem::create_directory(scratch.file(name));
    spill(scratch.file(name + "/file"), "");
    return scratch.file(name);
  };
  constexpr const char* kNobody = "2147483646";  // above every process number
  const std::string abandoned = make(std::string("job-") + kNobody + "-abcdef");
  const std::string node = make(std::string("sim-") + kNobody + "-abcdef");
  const std::string locked = make(std::string("sim-") + kNobody + "-locked");
  const Descriptor lock(::open(locked.c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC));
  REQUIRE(::flock(lock.get(), LOCK_EX) == 0);  // by a process of another namespace, say
  const std::string alive = make("job-" + std::to_string(::getpid()) + "-abcdef");
  const std::string named = make("sim-by-its-user");
  const std::string journal = make("journal");
  remove_abandoned_folders(scratch.file(""));
  CHECK_FALSE(std::filesystem::exists(abandoned));
  CHECK_FALSE(std::filesystem::exists(node));
  for (const std::string& kept : {locked, alive, named, journal})
    CHECK(std::filesystem::exists(kept + "/file"));
}

TEST_CASE("runtime: a runtime folder that others may write, of another user, or no folder is refused",
          "[runtime]") {
  const ScratchFolder scratch;
  const std::string path = scratch.file("runtime");
  const RuntimeVariable variable(path);
  SECTION("writable for the group") {
    std::filesystem::create_directory(path);
    ::chmod(path.c_str(), 0770);
  }
  SECTION("writable for all") {
    std::filesystem::create_directory(path);
    ::chmod(path.c_str(), 01777);
  }
  SECTION("of another user") {
    if (::geteuid() != 0) {
      ::setenv("SLACKLINE_RUNTIME_DIR", "/usr", 1);
    } else {
      std::filesystem::create_directory(path);
      ::chmod(path.c_str(), 0700);
      REQUIRE(::chown(path.c_str(), 12345, 12345) == 0);
    }
  }
  SECTION("a link to a folder") {
    std::filesystem::create_directory(scratch.file("real"));
    std::filesystem::create_directory_symlink(scratch.file("real"), path);
  }
  SECTION("a file") {
    spill(path, "");
  }
  SECTION("inside of nowhere") {
    ::setenv("SLACKLINE_RUNTIME_DIR", "/no/such/folder", 1);
  }
  CHECK_THROWS_AS(runtime_folder(), DeviceError);
}

}  // namespace
}  // namespace slackline
