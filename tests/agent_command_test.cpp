// `slackline agent` as an administrator runs it, and `slackline apply` under sudo.
#include <grp.h>
#include <signal.h>
#include <sys/stat.h>

#include <regex>

#include "catch.h"
#include "fake_nvml.h"
#include "running_agent.h"
#include "runtime_variable.h"
#include "slackline/device/sim_world.h"

namespace slackline {
namespace {

using std::chrono::milliseconds;

const std::string kBinary = SLACKLINE_BINARY;
const std::string kTrain = SLACKLINE_TRAIN;
const std::string kToyProfile = std::string(SLACKLINE_SOURCE_DIR) + "/tests/data/toy-profile.yaml";
/// Nobody's.
constexpr uid_t kUser = 54321;

bool holds(const std::string& text, const std::string& part) {
  return text.find(part) != std::string::npos;
}

std::string everything_for(uid_t user) {
  return "slackline: policy/1\nallow: [{users: [" + std::to_string(user) + "], gpus: all}]\n";
}

/// A variable for the processes that the test starts.
class Variable {
 public:
  Variable(std::string name, const std::string& value) : name_(std::move(name)) {
    ::setenv(name_.c_str(), value.c_str(), 1);
  }
  Variable(const Variable&) = delete;
  Variable& operator=(const Variable&) = delete;
  ~Variable() { ::unsetenv(name_.c_str()); }

 private:
  std::string name_;
};

/// What sudo says of who called it.
struct Sudo {
  Variable user{"SUDO_UID", std::to_string(kUser)};
  Variable group{"SUDO_GID", std::to_string(kUser)};
};

/// A policy, four simulated GPUs and a place for the agent's files.
struct Workplace {
  Workplace() { write_policy(everything_for(::geteuid())); }
  void write_policy(const std::string& text, mode_t mode = 0600) const {
    spill(policy, text);
    ::chmod(policy.c_str(), mode);
  }
  [[nodiscard]] std::vector<std::string> agent(std::vector<std::string> more = {}) const {
    more.insert(more.begin(),
                {kBinary, "agent", "--device", "sim:" + kToyProfile + ",pace=1,node=" + folder.file("node"),
                 "--policy", policy, "--runtime-dir", folder.file("run")});
    return more;
  }
  [[nodiscard]] std::string socket() const { return folder.file("run/agent.sock"); }
  std::unique_ptr<LeaseClient> lease(const SimWorld& world, int gpu) const {
    const std::string uuid = SimDevice(std::make_shared<SimWorld>(world.path())).identity(GpuId(gpu)).uuid;
    return LeaseClient::open(socket(), {uuid}, Seconds(60));
  }
  /// A file that user kUser can get at.
  void open_to_others() const {
    ::chmod(folder.file("").c_str(), 0711);
    std::filesystem::create_directory(folder.file("theirs"));
    REQUIRE(::chown(folder.file("theirs").c_str(), kUser, kUser) == 0);
    ::chmod(folder.file("theirs").c_str(), 0700);
  }

  ScratchFolder folder;
  std::string policy = folder.file("policy.yaml");
};

/// The same command where /run is empty, and nobody else's.
std::vector<std::string> in_own_run(std::vector<std::string> command) {
  command.insert(command.begin(), {"/usr/bin/env", "unshare", "--mount", "sh", "-c",
                                   "mount -t tmpfs tmpfs /run && exec \"$@\"", "sh"});
  return command;
}
bool can_have_own_run() {
  return ::geteuid() == 0 && run_child(in_own_run({"true"}), "/").status == 0;
}

TEST_CASE("agent command: a policy that others could have written is refused, and nobody is served",
          "[agent]") {
  const Workplace place;
  std::string reason;
  SECTION("writable for everybody") {
    place.write_policy(everything_for(::geteuid()), 0666);
    reason = "everybody may write it";
  }
  SECTION("writable for its group") {
    place.write_policy(everything_for(::geteuid()), 0620);
    reason = "its group may write it";
  }
  SECTION("a symbolic link") {
    std::filesystem::rename(place.policy, place.folder.file("real"));
    std::filesystem::create_symlink(place.folder.file("real"), place.policy);
    reason = "is a symbolic link";
  }
  SECTION("not there") {
    std::filesystem::remove(place.policy);
    reason = "there is no policy";
  }
  SECTION("not a policy") {
    place.write_policy("slackline: policy/1\nallow: everybody\n");
    reason = "policy.yaml:2";
  }
  SECTION("another user's") {
    SLACKLINE_NEEDS(::geteuid() == 0, "root");
    REQUIRE(::chown(place.policy.c_str(), kUser, kUser) == 0);
    reason = "belongs to user 54321";
  }
  const ChildResult result = run_child(place.agent(), "/");
  CHECK(result.status == 2);
  CHECK(holds(result.err, reason));
  CHECK(holds(result.err, place.policy));
  CHECK_FALSE(holds(result.err, "serves"));
  CHECK_FALSE(std::filesystem::exists(place.socket()));
}

TEST_CASE("agent command: an agent asked to end restores every GPU and ends with status 0", "[agent]") {
  const Workplace place;
  RunningProgram agent(place.agent());
  REQUIRE(wait_until([&] { return holds(agent.err(), "serves 4 GPUs (simulated) at " + place.socket()); },
                     kPatience));
  SimWorld world(place.folder.file("node/gpus"));
  const auto lease = place.lease(world, 1);
  REQUIRE(lease);
  lease->post(2, false);
  REQUIRE(wait_until([&] { return world.locked_clock(GpuId(1)).has_value(); }, kPatience));
  agent.signal(GENERATE(SIGTERM, SIGINT, SIGHUP));
  CHECK(agent.wait() == 0);
  CHECK(lease->is_over());
  CHECK_FALSE(world.locked_clock(GpuId(1)));
  CHECK(Journal(place.folder.file("run/journal")).entries().empty());
  CHECK_FALSE(std::filesystem::exists(place.socket()));
  CHECK(holds(agent.err(), "leases SIM-"));
}

TEST_CASE("agent command: an agent that was killed is succeeded by one that restores what it left",
          "[agent]") {
  const Workplace place;
  const auto serves = [](const RunningProgram& agent) {
    return wait_until([&] { return holds(agent.err(), "serves 4 GPUs"); }, kPatience);
  };
  std::optional<RunningProgram> agent(std::in_place, place.agent());
  REQUIRE(serves(*agent));
  SimWorld world(place.folder.file("node/gpus"));
  const auto lease = place.lease(world, 0);
  REQUIRE(lease);
  lease->post(1, false);
  REQUIRE(wait_until([&] { return world.locked_clock(GpuId(0)).has_value(); }, kPatience));

  const ChildResult second = run_child(place.agent(), "/");
  CHECK(second.status == 3);
  CHECK(holds(second.err, "process " + std::to_string(agent->pid()) + ", listens there"));
  CHECK(world.locked_clock(GpuId(0)));
  agent->signal(SIGKILL);
  CHECK(agent->wait() == 128 + SIGKILL);
  CHECK(world.locked_clock(GpuId(0)));
  agent.emplace(place.agent());
  REQUIRE(serves(*agent));
  CHECK(holds(agent->err(), "which an agent that died had changed"));
  CHECK_FALSE(world.locked_clock(GpuId(0)));
  CHECK(place.lease(world, 0));
}

TEST_CASE("agent command: metrics are a file of samples that counts what was done", "[agent]") {
  const Workplace place;
  const std::string path = place.folder.file("slackline.prom");
  const RunningProgram agent(place.agent({"--metrics", path}));
  const auto has = [&](const std::string& line) {
    return wait_until([&] { return holds("\n" + slurp(path), "\n" + line + "\n"); }, kPatience);
  };
  CHECK(has("slackline_leases_granted_total 0"));
  CHECK(has("slackline_leases_ended_total{reason=\"process ended\"} 0"));
  SimWorld world(place.folder.file("node/gpus"));
  auto lease = place.lease(world, 2);
  REQUIRE(lease);
  CHECK_THROWS_AS(place.lease(world, 2), DeviceError);
  lease->post(2, false);
  CHECK(has("slackline_requests_total{outcome=\"applied\"} 1"));
  CHECK(has("slackline_leases_granted_total 1"));
  CHECK(has("slackline_leases_refused_total 1"));
  lease.reset();
  CHECK(has("slackline_leases_ended_total{reason=\"closed\"} 1"));
  CHECK(has("slackline_restores_total 1"));
  CHECK(has("slackline_restore_failures_total 0"));
  const std::regex sample(R"([a-z_]+(\{[a-z]+="[^"\\]*"\})? -?[0-9.e+-]+)");
  std::istringstream lines(slurp(path));
  for (std::string line; std::getline(lines, line);) {
    CAPTURE(line);
    CHECK((line.starts_with("# HELP ") || line.starts_with("# TYPE ") || std::regex_match(line, sample)));
  }
}

TEST_CASE("agent command: an agent that runs as root takes no simulated node of another user's", "[agent]") {
  SLACKLINE_NEEDS(::geteuid() == 0, "root");
  const Workplace place;
  {
    const RunningProgram agent(place.agent());
    REQUIRE(wait_until([&] { return holds(agent.err(), "serves 4 GPUs"); }, kPatience));
  }
  const std::string node = place.folder.file("node/gpus");
  REQUIRE(::chown(node.c_str(), kUser, kUser) == 0);
  const ChildResult result = run_child({kBinary, "agent", "--device", "simnode:" + node, "--policy",
                                        place.policy, "--runtime-dir", place.folder.file("run")},
                                       "/");
  CHECK(result.status == 3);
  CHECK(holds(result.err, "not a simulated node"));
}

TEST_CASE("agent command: an agent in another PID namespace serves those whose number it cannot see",
          "[agent]") {
  SLACKLINE_NEEDS(::geteuid() == 0, "root");
  std::vector<std::string> alone{"/usr/bin/env", "unshare",      "--pid",
                                 "--fork",       "--kill-child", "--mount-proc"};
  alone.push_back("true");
  SLACKLINE_NEEDS(run_child(alone, "/").status == 0, "PID namespaces");
  alone.pop_back();
  const Workplace place;
  for (const std::string& word : place.agent()) alone.push_back(word);
  const RunningProgram agent(alone);
  REQUIRE(wait_until([&] { return holds(agent.err(), "serves 4 GPUs"); }, kPatience));
  SimWorld world(place.folder.file("node/gpus"));
  const auto lease = place.lease(world, 0);
  REQUIRE(lease);
  CHECK_THROWS_WITH(place.lease(world, 0), has_text("leased to a process of user 0"));
  ClientProcess other([&] {
    auto* theirs = place.lease(world, 1).release();
    theirs->post(1, false);
    return std::string();
  });
  REQUIRE(other.words() == "");
  REQUIRE(wait_until([&] { return world.locked_clock(GpuId(1)).has_value(); }, kPatience));
  other.kill();
  CHECK(wait_until([&] { return !world.locked_clock(GpuId(1)); }, kPatience));
  CHECK_FALSE(lease->is_over());
}

TEST_CASE("agent command: an agent whose log nobody reads goes on serving, and ends when asked to",
          "[agent]") {
  const Workplace place;
  std::vector<std::string> command{"/bin/sh", "-c", "mkfifo \"$0\" && exec 3<>\"$0\" && exec \"$@\" 2>\"$0\"",
                                   place.folder.file("log")};
  for (const std::string& word : place.agent()) command.push_back(word);
  RunningProgram agent(command);
  REQUIRE(wait_until([&] { return std::filesystem::exists(place.socket()); }, kPatience));
  SimWorld world(place.folder.file("node/gpus"));
  const auto chatter = [&] {  // each lease is two lines of some 100 bytes; a pipe holds 64 KiB
    for (int i = 0; i < 500; ++i) REQUIRE(place.lease(world, 3));
  };
  chatter();
  auto lease = place.lease(world, 0);
  REQUIRE(lease);
  lease->post(2, false);
  CHECK(wait_until([&] { return world.locked_clock(GpuId(0)).has_value(); }, kPatience));
  lease.reset();
  CHECK(wait_until([&] { return !world.locked_clock(GpuId(0)); }, kPatience));
  agent.signal(SIGTERM);
  CHECK(agent.wait() == 0);
}

TEST_CASE("agent command: a pipe in the place of the metrics file is replaced, and waited for by nobody",
          "[agent]") {
  const Workplace place;
  const std::string path = place.folder.file("slackline.prom");
  REQUIRE(::mkfifo(path.c_str(), 0600) == 0);
  RunningProgram agent(place.agent({"--metrics", path}));
  CHECK(wait_until(
      [&] {
        return std::filesystem::is_regular_file(path) &&
               holds(slurp(path), "slackline_leases_granted_total 0");
      },
      kPatience));
  agent.signal(SIGTERM);
  CHECK(agent.wait() == 0);
}

TEST_CASE("agent command: metrics replace no device, no folder and no link", "[agent]") {
  const Workplace place;
  const std::string link = place.folder.file("link");
  std::filesystem::create_symlink(place.folder.file("target"), link);
  for (const std::string& path :
       {std::string("/dev/null"), std::string("/dev/stdout"), link, place.folder.file("")}) {
    CAPTURE(path);
    const ChildResult result = run_child(place.agent({"--metrics", path}), "/");
    CHECK(result.status == 2);
    CHECK(holds(result.err, path + ": is no file"));
  }
  CHECK(std::filesystem::is_character_file("/dev/null"));
  CHECK(std::filesystem::is_symlink(link));
}

// Runs LINES of a command on a kernel that does not say who connected, as Debian 12's.
TEST_CASE("agent command: on an older kernel", "[.old-kernel]") {
  const char* lines = ::getenv("OLD_KERNEL_COMMAND");
  REQUIRE(lines != nullptr);
  std::vector<std::string> words;
  std::istringstream stream(lines);
  for (std::string line; std::getline(stream, line);) words.push_back(line);
  std::vector<char*> arguments;
  for (std::string& word : words) arguments.push_back(word.data());
  arguments.push_back(nullptr);
  REQUIRE(hide_pidfds(false));
  ::execv(arguments[0], arguments.data());
  FAIL("cannot run " << words[0]);
}

TEST_CASE("agent command: an agent that cannot see who connected, nor look it up, asks for signs of life",
          "[agent]") {
  SLACKLINE_NEEDS(::geteuid() == 0, "root");
  // /proc as on many clusters, and an agent with the capabilities of the service.
  std::vector<std::string> confined{"/usr/bin/env",
                                    "unshare",
                                    "--mount",
                                    "sh",
                                    "-c",
                                    "mount -t proc -o hidepid=2,gid=54399 proc /proc && exec \"$@\"",
                                    "sh",
                                    "setpriv",
                                    "--bounding-set",
                                    "-all,+sys_admin,+chown",
                                    "--groups",
                                    "0"};
  const auto with = [&](const std::vector<std::string>& command) {
    std::vector<std::string> all = confined;
    all.insert(all.end(), command.begin(), command.end());
    return all;
  };
  SLACKLINE_NEEDS(run_child(with({"true"}), "/").status == 0, "a /proc of its own");
  const Workplace place;
  place.write_policy("slackline: policy/1\nsocket_group: " + std::to_string(kUser) + "\nallow: [{users: [" +
                     std::to_string(kUser) + "], gpus: all}]\n");
  ::chmod(place.folder.file("").c_str(), 0711);
  const std::string socket = place.folder.file("open.sock");
  std::string lines;
  for (const std::string& word : place.agent({"--socket", socket})) lines += word + "\n";
  const Variable command("OLD_KERNEL_COMMAND", lines);
  const RunningProgram agent(with({std::filesystem::canonical("/proc/self/exe"), "[.old-kernel]"}));
  REQUIRE(wait_until([&] { return holds(agent.err(), "serves 4 GPUs"); }, kPatience));
  SimWorld world(place.folder.file("node/gpus"));
  const std::string uuid = SimDevice(std::make_shared<SimWorld>(world.path())).identity(GpuId(0)).uuid;
  ClientProcess client([&]() -> std::string {
    if (::setgroups(0, nullptr) != 0 || ::setresgid(kUser, kUser, kUser) != 0 ||
        ::setresuid(kUser, kUser, kUser) != 0)
      return "cannot become user";
    RawClient raw(socket);
    if (!raw.say(RawClient::hello({uuid}))) return "cannot ask";
    const auto answer = raw.answer();
    if (!answer) return "no answer";
    if (answer->status != LeaseStatus::kGranted) return answer->text.data();
    return answer->heartbeat_ms > 0 ? "asked for signs of life" : "believed";
  });
  CHECK(client.words() == "asked for signs of life");
}

// sudo

TEST_CASE("agent command: under sudo the caller's variables do not move the agent's files", "[agent]") {
  SLACKLINE_NEEDS(can_have_own_run(), "root, and a /run of its own");
  const Workplace place;
  const Sudo sudo;
  place.open_to_others();
  const RuntimeVariable theirs(place.folder.file("theirs"));
  const Variable session("XDG_RUNTIME_DIR", place.folder.file("theirs"));
  RunningProgram agent(
      in_own_run({kBinary, "agent", "--device", "sim:" + kToyProfile + ",pace=1", "--policy", place.policy}));
  CHECK(wait_until([&] { return holds(agent.err(), "at /run/slackline/agent.sock"); }, kPatience));
  agent.signal(SIGTERM);
  CHECK(agent.wait() == 0);
  CHECK(std::filesystem::is_empty(place.folder.file("theirs")));
}

/// Two stages of one GPU with clocks that the fake driver has.
const std::string kProfile = R"(slackline: profile/1
stages:
  - stage: 0
    tensor_parallel: 1
    blocking_power_w: 60
    instructions:
      - kind: forward
        options: [{clock_mhz: 1980, time_s: 0.01, energy_j: 3}, {clock_mhz: 1500, time_s: 0.013, energy_j: 2}]
      - kind: backward
        options: [{clock_mhz: 1980, time_s: 0.01, energy_j: 3}, {clock_mhz: 1200, time_s: 0.014, energy_j: 2}]
  - stage: 1
    tensor_parallel: 1
    blocking_power_w: 60
    instructions:
      - kind: forward
        options: [{clock_mhz: 1980, time_s: 0.02, energy_j: 6}, {clock_mhz: 1500, time_s: 0.026, energy_j: 5}]
      - kind: backward
        options: [{clock_mhz: 1980, time_s: 0.02, energy_j: 6}, {clock_mhz: 1200, time_s: 0.028, energy_j: 5}]
)";

TEST_CASE("agent command: under sudo no library is loaded that somebody else than root could replace",
          "[agent]") {
  SLACKLINE_NEEDS(::geteuid() == 0, "root");
  const Workplace place;
  place.open_to_others();
  const FakeNvml node(1);
  const std::string copy = place.folder.file("theirs/libnvidia-ml.so.1");
  std::filesystem::copy_file(FAKE_NVML, copy);
  const std::string link = place.folder.file("link.so");
  std::filesystem::create_symlink(copy, link);
  const Sudo sudo;
  for (const std::string& path : {copy, link}) {
    const ChildResult result = run_child({kBinary, "devices", "--device", "nvml,library=" + path}, "/");
    CHECK(result.status == 3);
    CHECK(holds(result.err, copy + " could have been put there by somebody other than root"));
    CHECK(node.calls().empty());
  }
}

TEST_CASE("agent command: a journal names the library that was loaded, not a link to it", "[agent]") {
  const Workplace place;
  const FakeNvml node(1);
  const std::string link = place.folder.file("link.so");
  std::filesystem::create_symlink(FAKE_NVML, link);
  RunningProgram agent({kBinary, "agent", "--device", "nvml,library=" + link, "--policy", place.policy,
                        "--runtime-dir", place.folder.file("run")});
  REQUIRE(wait_until([&] { return holds(agent.err(), "serves 1 GPUs"); }, kPatience));
  const auto lease = LeaseClient::open(place.socket(), {FakeNvml::uuid(0)}, Seconds(60));
  REQUIRE(lease);
  lease->post(2, false);
  REQUIRE(wait_until([&] { return node.locked(0).has_value(); }, kPatience));
  const auto entries = Journal(place.folder.file("run/journal")).entries();
  REQUIRE(entries.size() == 1);
  CHECK(entries[0].device == "nvml,library=" + std::filesystem::canonical(FAKE_NVML).string());
}

/// Runs `command` under a schedule on `device`, as root for the user who called sudo.
ChildResult apply_under_sudo(const Workplace& place, const std::string& device,
                             const std::vector<std::string>& command) {
  const std::string profile = place.folder.file("theirs/profile.yaml");
  const std::string schedule = place.folder.file("theirs/schedule.yaml");
  spill(profile, kProfile);
  ::chmod(profile.c_str(), 0644);
  const ChildResult planned =
      run_child({kBinary, "plan", profile, "--microbatches", "3", "--slowdown", "30", "-o", schedule}, "/");
  INFO(planned.err);
  REQUIRE(planned.status == 0);
  std::vector<std::string> apply{kBinary, "apply", schedule, "--device", device, "--"};
  apply.insert(apply.end(), command.begin(), command.end());
  const Sudo sudo;
  return run_child(in_own_run(apply), "/");
}

const std::string kUserText = std::to_string(kUser);

/// The demo trainer where everybody can run it: it may be where only root can read it.
std::string train_for_all(const Workplace& place) {
  const std::string train = place.folder.file("train");
  std::filesystem::copy_file(kTrain, train);
  ::chmod(train.c_str(), 0755);
  return train;
}

TEST_CASE("agent command: under sudo a job is profiled on real GPUs, and the profile is its caller's",
          "[agent]") {
  SLACKLINE_NEEDS(can_have_own_run(), "root, and a /run of its own");
  const Workplace place;
  place.open_to_others();
  const FakeNvml node(2);
  const std::string train = train_for_all(place);
  const Sudo sudo;
  const auto profile = [&](const std::string& output) {
    return std::vector<std::string>{
        kBinary,   "profile",  "--device", "nvml,library=" FAKE_NVML, "-o", output,         "--",
        train,     "--stages", "2",        "--microbatches",          "3",  "--compute-ms", "4",
        "--steps", "0"};
  };
  const std::string precious = place.folder.file("precious");
  spill(precious, "root's");
  ::chmod(precious.c_str(), 0600);
  const ChildResult refused = run_child(in_own_run(profile(precious)), "/");
  CHECK(refused.status == 2);
  CHECK(holds(refused.err, precious + ": cannot write"));
  CHECK(slurp(precious) == "root's");
  CHECK(node.changes().empty());

  const std::string output = place.folder.file("theirs/measured.yaml");
  RunningProgram running(in_own_run(profile(output)));
  const auto has_set = [&] { return node.locked(0).has_value() && node.locked(1).has_value(); };
  CHECK(wait_until(has_set, kPatience));
  running.signal(SIGTERM);
  CHECK(running.wait() == 128 + SIGTERM);
  CHECK(running.err().rfind("slackline: interrupted after ", 0) == 0);
  for (int gpu = 0; gpu < 2; ++gpu) CHECK(node.locked(gpu) == std::nullopt);

  // The sweep of all clocks would take minutes; at one clock it comes to its end.
  std::vector<std::string> short_one = profile(output);
  short_one.insert(short_one.begin() + 2, "--read-only");
  const ChildResult result = run_child(in_own_run(short_one), "/");
  INFO(result.err);
  CHECK(result.status == 0);
  struct stat status {};
  REQUIRE(::stat(output.c_str(), &status) == 0);
  CHECK(status.st_uid == kUser);
}

TEST_CASE("agent command: under sudo what is measured runs as the caller, and so is what is written",
          "[agent]") {
  SLACKLINE_NEEDS(can_have_own_run(), "root, and a /run of its own");
  const Workplace place;
  place.open_to_others();
  const FakeNvml node(1);
  const std::string output = place.folder.file("theirs/use.json");
  const Sudo sudo;
  const ChildResult result =
      run_child(in_own_run({kBinary, "measure", "--device", "nvml,library=" FAKE_NVML, "--json", "-o", output,
                            "--", "sh", "-c", "id -u; id -G; sleep 0.1"}),
                "/");
  INFO(result.err);
  CHECK(result.status == 0);
  CHECK(result.out == kUserText + "\n" + kUserText + "\n");
  struct stat status {};
  REQUIRE(::stat(output.c_str(), &status) == 0);
  CHECK(status.st_uid == kUser);

  // With simulated GPUs there is nothing for root to do at all.
  const RuntimeVariable theirs(place.folder.file("theirs"));
  const std::string profile = place.folder.file("theirs/profile.yaml");
  spill(profile, kProfile);
  ::chmod(profile.c_str(), 0644);
  const ChildResult simulated =
      run_child(in_own_run({"/bin/sh", "-c", "\"$@\"; ls /run/slackline/", "sh", kBinary, "measure",
                            "--device", "sim:" + profile, "-o", "/dev/null", "--", "id", "-u"}),
                "/");
  CHECK(simulated.out == kUserText + "\n");
}

TEST_CASE("agent command: under sudo simulated GPUs are looked at as the caller", "[agent]") {
  SLACKLINE_NEEDS(can_have_own_run(), "root, and a /run of its own");
  const Workplace place;
  place.open_to_others();
  const RuntimeVariable theirs(place.folder.file("theirs"));
  const std::string profile = place.folder.file("theirs/profile.yaml");
  spill(profile, kProfile);
  ::chmod(profile.c_str(), 0644);
  const std::string secret = place.folder.file("secret.yaml");
  spill(secret, kProfile);
  ::chmod(secret.c_str(), 0600);
  const Sudo sudo;
  for (const std::vector<std::string>& command :
       {std::vector<std::string>{"devices"}, {"calibrate", "--read-only", "--seconds", "0.1"}}) {
    CAPTURE(command[0]);
    const auto status_on = [&](const std::string& device) {
      std::vector<std::string> call{kBinary};
      call.insert(call.end(), command.begin(), command.end());
      call.insert(call.end(), {"--device", device});
      return run_child(in_own_run(call), "/").status;
    };
    CHECK(status_on("sim:" + profile) == 0);
    CHECK(status_on("sim:" + secret) != 0);
    CHECK(status_on("sim:" + profile + ",node=" + place.folder.file("node")) != 0);
    CHECK_FALSE(std::filesystem::exists(place.folder.file("node")));
  }
}

TEST_CASE("agent command: under sudo a job on simulated GPUs runs as the caller, and so does all else",
          "[agent]") {
  SLACKLINE_NEEDS(can_have_own_run(), "root, and a /run of its own");
  const Workplace place;
  place.open_to_others();
  const RuntimeVariable theirs(place.folder.file("theirs"));
  const ChildResult result = apply_under_sudo(place, "sim:" + place.folder.file("theirs/profile.yaml"),
                                              {"sh", "-c", "id -u; id -g; id -G"});
  INFO(result.err);
  CHECK(result.status == 0);
  CHECK(result.out == kUserText + "\n" + kUserText + "\n" + kUserText + "\n");
  struct stat status {};
  REQUIRE(::stat(place.folder.file("theirs/journal").c_str(), &status) == 0);
  CHECK(status.st_uid == kUser);
}

TEST_CASE("agent command: under sudo a job on real GPUs runs as the caller, who needs no more than that",
          "[agent]") {
  SLACKLINE_NEEDS(can_have_own_run(), "root, and a /run of its own");
  const Workplace place;
  place.open_to_others();
  const FakeNvml node(2);
  const std::string device = "nvml,library=" FAKE_NVML;
  const ChildResult who = apply_under_sudo(place, device, {"sh", "-c", "id -u; id -g; id -G"});
  INFO(who.err);
  CHECK(who.status == 0);
  CHECK(who.out == kUserText + "\n" + kUserText + "\n" + kUserText + "\n");
  CHECK(node.changes().empty());

  // It cannot put anything beside the sockets that root has made for it.
  const ChildResult where = apply_under_sudo(
      place, device, {"sh", "-c", "cd \"${SLACKLINE_SOCKET%/*}\" && touch here && echo written"});
  CHECK(where.out == "");

  const ChildResult job = apply_under_sudo(
      place, device,
      {train_for_all(place), "--stages", "2", "--microbatches", "3", "--compute-ms", "4", "--steps", "4"});
  INFO(job.err);
  INFO(job.out);
  CHECK(job.status == 0);
  CHECK(holds(job.out, "planned"));
  CHECK_FALSE(holds(job.err, "their own"));
  CHECK(node.changes().size() >= 4);
  for (int gpu = 0; gpu < 2; ++gpu) CHECK(node.locked(gpu) == std::nullopt);
}

}  // namespace
}  // namespace slackline
