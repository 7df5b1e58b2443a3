// Whoever of the agent and its clients is killed, and whatever the driver or the disk does meanwhile: no GPU
// stays changed, no clock comes after a newer one, the agent never crashes. All are processes of their own,
// on simulated GPUs and on a fake NVML, both of which outlive every process.
//
//     SLACKLINE_KILL_REPETITIONS=50 build/release/tests/agent_kill_test    # the full matrix
//     SLACKLINE_KILL_LOADS=50 ...                                          # and so often the minute of load
//     SLACKLINE_KILL_SEED=1 ...                                            # the moments of another run
//
// Without the first each case is repeated a few times, which takes seconds rather than minutes. Prints a
// table at the end.
#include <linux/sched.h>
#include <poll.h>
#include <sys/mount.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/socket.h>

#include <algorithm>
#include <cmath>
#include <cstdio>
#include <cstring>
#include <list>
#include <map>
#include <random>
#include <set>
#include <span>

#include "catch.h"
#include "clock_client.h"
#include "fake_nvml.h"
#include "slackline/device/open_device.h"
#include "slackline/runtime/packet_socket.h"

namespace slackline {
namespace {

using std::chrono::milliseconds;
using SteadyClock = std::chrono::steady_clock;

const std::string kBinary = SLACKLINE_BINARY;
constexpr int kDefaultRepetitions = 2;
/// For what has no bound, on however loaded a machine.
constexpr milliseconds kPatience(60'000);

/// A number of repetitions, at least 1, that may be in the environment.
int times_from(const char* variable, int otherwise) {
  const char* text = ::getenv(variable);
  return text == nullptr ? otherwise : std::max(1, std::atoi(text));
}
/// How often each case is repeated.
int repetitions() {
  return times_from("SLACKLINE_KILL_REPETITIONS", kDefaultRepetitions);
}
bool is_full() {
  return repetitions() >= 50;
}

/// What is measured of a case on a kind of GPU.
struct Row {
  std::string name;
  std::string device;
  int repetitions = 0;
  int left_changed = 0;
  int stale = 0;
  int crashes = 0;
  double rate = 0;         // the least of posts in a second, of a case under load
  double restored_ms = 0;  // the longest from the end of an owner, or of its agent, until its GPUs are free
  std::string remark;
};

/// Printed when the program ends.
class Table {
 public:
  static Row& row(const std::string& name, const std::string& device) {
    static Table table;
    for (Row& row : table.rows_) {
      if (row.name == name && row.device == device) return row;
    }
    Row& row = table.rows_.emplace_back();
    row.name = name;
    row.device = device;
    return row;
  }
  Table() = default;
  Table(const Table&) = delete;
  Table& operator=(const Table&) = delete;

 private:
  ~Table() {
    std::printf(
        "\n| case | GPUs | repetitions | GPUs left changed | stale clocks | agent crashes | restored within "
        "(ms) |\n|---|---|---|---|---|---|---|\n");
    for (const Row& row : rows_) {
      std::printf("| %s%s | %s | %d | %d | %d | %d | %s |\n", row.name.c_str(), row.remark.c_str(),
                  row.device.c_str(), row.repetitions, row.left_changed, row.stale, row.crashes,
                  row.restored_ms > 0 ? std::to_string(std::lround(row.restored_ms)).c_str() : "-");
    }
    std::fflush(stdout);
  }
  std::list<Row> rows_;
};

enum class Kind { kSimulated, kNvml };

/// GPUs that outlive every process.
class Node {
 public:
  Node(Kind kind, int gpus, const std::string& folder) : gpus_(gpus) {
    if (kind == Kind::kNvml) {
      nvml_.emplace(gpus);
      return;
    }
    const std::string path = folder + "/gpus";
    SimRank stage;
    stage.gpus = gpus;
    stage.blocking_power = Watts(60);
    for (int clock = 0; clock < 60; ++clock) {
      stage.instructions[InstructionKind::kForward].push_back(
          {Megahertz(1980 - 15 * clock), Seconds(0.01 + 1e-4 * clock), Joules(3 - 1e-2 * clock)});
    }
    SimOptions options;
    options.pace = 1;
    options.switch_latency = Seconds(0.001);
    SimWorld::create(path, {stage}, options);
    world_ = std::make_shared<SimWorld>(path);
  }

  [[nodiscard]] int gpus() const { return gpus_; }
  [[nodiscard]] std::string spec() const {
    return nvml_ ? "nvml,library=" FAKE_NVML : "simnode:" + world_->path();
  }
  [[nodiscard]] std::string uuid(int gpu) const {
    return nvml_ ? FakeNvml::uuid(gpu) : SimDevice(world_).identity(GpuId(gpu)).uuid;
  }
  [[nodiscard]] bool is_changed(int gpu) const {
    return nvml_ ? nvml_->locked(gpu).has_value() : world_->locked_clock(GpuId(gpu)).has_value();
  }
  [[nodiscard]] int changed() const {
    int count = 0;
    for (int gpu = 0; gpu < gpus_; ++gpu) count += is_changed(gpu) ? 1 : 0;
    return count;
  }
  [[nodiscard]] SimWorld* world() const { return world_.get(); }
  [[nodiscard]] const FakeNvml& nvml() const { return *nvml_; }
  [[nodiscard]] bool is_nvml() const { return nvml_.has_value(); }
  /// As a process that has gone would have left it.
  void change(int gpu) {
    const pid_t other = ::fork();
    if (other == 0) {
      const auto device = open_device(spec());
      device->lock_clock(*find_gpu(*device, uuid(gpu)), Megahertz(1500));
      ::_exit(0);
    }
    int status = -1;
    REQUIRE((::waitpid(other, &status, 0) == other && status == 0));
    changers_.insert(other);
  }
  /// The processes that did.
  [[nodiscard]] const std::set<pid_t>& changers() const { return changers_; }

 private:
  int gpus_;
  std::set<pid_t> changers_;
  std::optional<FakeNvml> nvml_;
  std::shared_ptr<SimWorld> world_;
};

/// Clocks that the fake driver was asked for, GPU by GPU, which no client can have meant: not in its order,
/// or too late. A client's laps rise and end with the baseline, which it awaits; so what the driver sees
/// between two resets is part of one lap.
class OrderOfCalls {
 public:
  explicit OrderOfCalls(const Node& node) : groups_(static_cast<std::size_t>(node.gpus())) {
    std::vector<bool> goes_on(groups_.size(), false);
    for (const FakeNvml::Call& call : node.nvml().calls()) {
      const bool sets = call.function == "nvmlDeviceSetGpuLockedClocks";
      if (!sets && call.function != "nvmlDeviceResetGpuLockedClocks") continue;
      if (node.changers().count(call.pid) > 0) continue;
      const auto gpu = static_cast<std::size_t>(std::stoi(call.gpu));
      if (sets && !goes_on[gpu]) groups_[gpu].emplace_back();
      if (sets) groups_[gpu].back().push_back(std::stoi(call.arguments));
      goes_on[gpu] = sets;
    }
  }
  /// `leases`: each with all that its client posted, in the order in which the GPU was leased.
  [[nodiscard]] int stale(int gpu, const std::vector<std::vector<int>>& leases) const {
    std::vector<std::vector<int>> laps;
    for (const std::vector<int>& posts : leases) {
      laps.emplace_back();
      for (const int clock : posts) {
        if (clock == 0) {
          laps.emplace_back();
        } else {
          laps.back().push_back(clock);
        }
      }
    }
    int stale = 0;
    auto lap = laps.begin();
    for (const std::vector<int>& group : groups_[static_cast<std::size_t>(gpu)]) {
      const auto of = std::find_if(lap, laps.end(), [&](const std::vector<int>& posts) {
        auto next = group.begin();
        for (const int clock : posts) {
          if (next != group.end() && *next == clock) ++next;
        }
        return next == group.end();
      });
      if (of == laps.end()) {
        ++stale;
      } else {
        lap = of + 1;
      }
    }
    return stale;
  }

 private:
  std::vector<std::vector<std::vector<int>>> groups_;
};

bool has_ended(pid_t pid) {
  siginfo_t info{};
  return ::waitid(P_PID, static_cast<id_t>(pid), &info, WEXITED | WNOHANG | WNOWAIT) != 0 || info.si_pid != 0;
}

double ms_since(SteadyClock::time_point begin) {
  return std::chrono::duration<double, std::milli>(SteadyClock::now() - begin).count();
}

/// A node, its agent, and the agent's clients.
class Site {
 public:
  Site(Kind kind, int gpus, std::uint64_t seed, Row& row)
      : node(kind, gpus, folder_.file("")), row_(row), dice_(seed) {
    spill(folder_.file("policy.yaml"),
          "slackline: policy/1\nallow:\n  - users: [" + std::to_string(::geteuid()) + "]\n    gpus: all\n");
    ::chmod(folder_.file("policy.yaml").c_str(), 0600);
    std::filesystem::create_directory(runtime());
    ::chmod(runtime().c_str(), 0700);
  }

  // --- the agent
  [[nodiscard]] std::string runtime() const { return folder_.file("run"); }
  [[nodiscard]] std::string socket() const { return runtime() + "/agent.sock"; }
  RunningProgram& agent() { return *agent_; }
  void start_agent() {
    agent_.emplace(std::vector<std::string>{kBinary, "agent", "--device", node.spec(), "--policy",
                                            folder_.file("policy.yaml"), "--runtime-dir", runtime()});
  }
  /// Returns at the agent's first word to anybody.
  void await_agent() {
    Descriptor connection;
    std::optional<Packet> answer;
    const auto answers = [&] {
      if (has_ended(agent_->pid())) return true;
      connection = connect_to(socket());
      // Not a hello: it is refused, and changes nothing.
      const std::array<std::byte, 4> word{};
      if (!connection || !send_packet(connection.get(), word)) return false;
      answer = receive_packet(connection.get(), sizeof(LeaseAnswer));
      return answer.has_value();
    };
    REQUIRE(wait_until(answers, kPatience));
    INFO(agent_->err());
    REQUIRE(answer);
  }
  /// Everything is as it was when a new agent first says anything. `since`: the end of the last one.
  void start_agent_and_check(SteadyClock::time_point since) {
    start_agent();
    await_agent();
    const int changed = node.changed() + static_cast<int>(journal().size());
    row_.restored_ms = std::max(row_.restored_ms, ms_since(since));
    INFO(agent_->err());
    CHECK(changed == 0);
    row_.left_changed += changed;
  }
  void kill_agent() {
    agent_->signal(SIGKILL);
    check_end(128 + SIGKILL);
  }
  /// After SIGTERM.
  void check_end(int expected) {
    const bool ended = wait_until([&] { return has_ended(agent_->pid()); }, kPatience);
    const std::string err = agent_->err();
    INFO(err);
    CHECK(ended);
    const int status = ended ? agent_->wait() : -1;
    const bool is_clean = err.find("Sanitizer") == std::string::npos &&
                          err.find("runtime error") == std::string::npos &&
                          err.find("terminate called") == std::string::npos;
    CHECK(status == expected);
    CHECK(is_clean);
    if (status != expected || !is_clean) ++row_.crashes;
    agent_.reset();
  }

  // --- its clients
  /// What nobody has said differently.
  ClockClient::Orders orders(std::vector<int> gpus) {
    ClockClient::Orders orders;
    orders.socket = socket();
    for (const int gpu : gpus) orders.uuids.push_back(node.uuid(gpu));
    orders.gpus = std::move(gpus);
    orders.leases = &*register_;
    orders.world = node.world();
    orders.seed = dice_.bits();
    return orders;
  }
  ClockClient& add_with(ClockClient::Orders orders) {
    return *clients_.emplace_back(new ClockClient(orders));
  }
  ClockClient& add(std::vector<int> gpus) { return add_with(orders(std::move(gpus))); }
  void await_posts(const ClockClient& client, std::uint32_t more = 8) {
    const std::uint32_t begin = client.diary().posts;
    INFO(client.diary().last_refusal.data());
    REQUIRE(wait_until([&] { return client.diary().posts >= begin + more; }, kPatience));
  }
  void await_end_of_lease(const ClockClient& client) {
    REQUIRE(wait_until([&] { return client.diary().ends > 0; }, kPatience));
  }
  void hold_back_clients(bool holds) {
    for (const auto& client : clients_) client->diary().waits = holds;
  }
  [[nodiscard]] LeaseRegister& leases() { return *register_; }

  // --- what is left
  /// GPUs with an entry.
  [[nodiscard]] std::set<std::string> journal() const {
    std::set<std::string> gpus;
    std::error_code error;
    for (const auto& file : std::filesystem::directory_iterator(runtime() + "/journal", error)) {
      if (file.path().extension() == ".yaml") gpus.insert(file.path().stem());
    }
    return gpus;
  }
  /// While nobody changes anything.
  void check_journal_covers_changes() const {
    const std::set<std::string> entries = journal();
    for (int gpu = 0; gpu < node.gpus(); ++gpu) {
      CAPTURE(gpu);
      CHECK((!node.is_changed(gpu) || entries.count(node.uuid(gpu)) > 0));
    }
  }
  void check_restored(const std::vector<int>& gpus, SteadyClock::time_point since) {
    const auto is_restored = [&] {
      const std::set<std::string> entries = journal();
      return std::ranges::none_of(
          gpus, [&](int gpu) { return node.is_changed(gpu) || entries.count(node.uuid(gpu)) > 0; });
    };
    CHECK(wait_until(is_restored, kPatience));
    row_.restored_ms = std::max(row_.restored_ms, ms_since(since));
  }

  /// Ends whoever still lives and counts what is wrong.
  void finish() {
    hold_back_clients(true);
    for (const auto& client : clients_) {
      if (client->lives()) CHECK(client->finish() == 0);
    }
    const auto since = SteadyClock::now();
    std::vector<int> all;
    for (int gpu = 0; gpu < node.gpus(); ++gpu) all.push_back(gpu);
    if (agent_) {
      await_agent();  // a signal before it listens to them would end it as any other program
      check_restored(all, since);
      agent_->signal(SIGTERM);
      check_end(0);
    }
    CHECK(node.changed() == 0);
    CHECK(journal().empty());
    row_.left_changed += node.changed();
    CHECK(leases().collisions == 0);
    int stale = leases().collisions;
    for (const auto& client : clients_) {
      CHECK(client->diary().stuck == 0);
      stale += client->diary().stale;
    }
    if (node.is_nvml()) stale += stale_calls();
    CHECK(stale == 0);
    row_.stale += stale;
    ++row_.repetitions;
  }

 private:
  [[nodiscard]] int stale_calls() const {
    const OrderOfCalls calls(node);
    int stale = 0;
    for (int gpu = 0; gpu < node.gpus(); ++gpu) {
      std::map<std::uint32_t, std::vector<int>> leases;
      for (const auto& client : clients_) {
        if (std::ranges::find(client->gpus(), gpu) == client->gpus().end()) continue;
        const ClientDiary& diary = client->diary();
        for (std::uint32_t i = 0; i < diary.leases; ++i) {
          const auto begin = diary.posted.begin() + diary.lease[i].first_post;
          const auto end = diary.posted.begin() +
                           (i + 1 < diary.leases ? diary.lease[i + 1].first_post : diary.posts.load());
          leases[diary.lease[i].grant] = {begin, end};
        }
      }
      std::vector<std::vector<int>> in_order;
      for (auto& [grant, posts] : leases) in_order.push_back(std::move(posts));
      stale += calls.stale(gpu, in_order);
    }
    return stale;
  }

  ScratchFolder folder_;

 public:
  Node node;

 private:
  Row& row_;
  Dice dice_;
  Shared<LeaseRegister> register_;
  std::optional<RunningProgram> agent_;
  std::vector<std::unique_ptr<ClockClient>> clients_;
};

struct Case {
  Site& site;
  Dice& dice;
  Row& row;
  int repetition;

  void some_time(int longest_ms = 80) {
    std::this_thread::sleep_for(std::chrono::microseconds(dice.number(0, longest_ms * 1000)));
  }
};

/// Calls `body` at random moments of as many nodes, each with a fresh agent.
template <class Body>
void repeat(const std::string& name, Kind kind, int gpus, Body body, int times = repetitions()) {
  ::prctl(PR_SET_CHILD_SUBREAPER, 1);  // so that orphans of clients can be waited for
  const char* wanted = ::getenv("SLACKLINE_KILL_SEED");
  const std::uint64_t seed =
      wanted != nullptr ? std::strtoull(wanted, nullptr, 10) : std::uint64_t{std::random_device{}()};
  const std::string device = kind == Kind::kNvml ? "NVML" : "simulated";
  CAPTURE(name, device, seed);
  Dice dice(seed);
  Row& row = Table::row(name, device);
  for (int repetition = 0; repetition < times; ++repetition) {
    CAPTURE(repetition);
    Site site(kind, gpus, dice.bits(), row);
    site.start_agent();
    Case now{site, dice, row, repetition};
    body(now);
    site.finish();
  }
}
template <class Body>
void repeat_on_both(const std::string& name, int gpus, Body body) {
  for (const Kind kind : {Kind::kSimulated, Kind::kNvml}) repeat(name, kind, gpus, body);
}

TEST_CASE("agent_kill: when a client is killed its GPUs are restored and others go on", "[agent_kill]") {
  repeat_on_both("client killed", 4, [](Case& now) {
    ClockClient& killed = now.site.add({0, 2});
    ClockClient& other = now.site.add({1});
    now.site.await_posts(killed);
    now.site.await_posts(other);
    now.some_time();
    const auto since = SteadyClock::now();
    killed.kill();
    now.site.check_restored(killed.gpus(), since);
    now.site.await_posts(other, 20);
    CHECK(other.diary().ends == 0);
    ClockClient& next = now.site.add({2, 3});
    now.site.await_posts(next);
  });
}

TEST_CASE("agent_kill: when the agent is killed the next one restores before it says a word",
          "[agent_kill]") {
  int left = 0;
  repeat_on_both("agent killed", 4, [&](Case& now) {
    ClockClient& first = now.site.add({0, 1});
    ClockClient& second = now.site.add({3});
    for (int kills = 0; kills < 2; ++kills) {
      now.site.await_posts(first);
      now.site.await_posts(second);
      now.some_time();
      now.site.hold_back_clients(true);
      const auto since = SteadyClock::now();
      now.site.kill_agent();
      left += now.site.node.changed();
      now.site.check_journal_covers_changes();
      now.site.start_agent_and_check(since);
      now.site.await_end_of_lease(first);
      now.site.hold_back_clients(false);
    }
    now.site.await_posts(first);
    now.site.await_posts(second);
  });
  CHECK(left > 0);  // or nothing was shown
}

TEST_CASE("agent_kill: when agent and clients are killed at once the next agent restores", "[agent_kill]") {
  repeat_on_both("agent and clients killed", 4, [](Case& now) {
    std::vector<ClockClient*> clients{&now.site.add({0, 1}), &now.site.add({2}), &now.site.add({3})};
    for (const ClockClient* client : clients) now.site.await_posts(*client);
    now.some_time();
    const auto since = SteadyClock::now();
    const int first = now.dice.number(0, 3);  // of the clients, when the agent goes
    for (int i = 0; i < 3; ++i) {
      if (i == first) now.site.agent().signal(SIGKILL);
      clients[static_cast<std::size_t>(i)]->signal(SIGKILL);
    }
    now.site.kill_agent();
    for (ClockClient* client : clients) client->kill();
    now.site.check_journal_covers_changes();
    now.site.start_agent_and_check(since);
    now.site.await_posts(now.site.add({0, 1, 2, 3}));
  });
}

TEST_CASE("agent_kill: an agent that is asked to end restores everything and its clients go on",
          "[agent_kill]") {
  repeat_on_both("SIGTERM of the agent", 4, [](Case& now) {
    ClockClient& first = now.site.add({0, 1});
    ClockClient& second = now.site.add({2});
    now.site.await_posts(first);
    now.site.await_posts(second);
    now.some_time();
    now.site.hold_back_clients(true);
    const auto since = SteadyClock::now();
    now.site.agent().signal(SIGTERM);
    now.site.check_end(0);
    now.row.restored_ms = std::max(now.row.restored_ms, ms_since(since));
    const int changed = now.site.node.changed() + static_cast<int>(now.site.journal().size());
    CHECK(changed == 0);
    now.row.left_changed += changed;
    now.site.await_end_of_lease(first);
    now.site.await_end_of_lease(second);
    const std::uint32_t beats = first.diary().beats;
    CHECK(wait_until([&] { return first.diary().beats > beats + 10; }, kPatience));
    now.site.start_agent();
    now.site.hold_back_clients(false);
    now.site.await_posts(first);
  });
}

TEST_CASE("agent_kill: a client that hangs holds up nobody, and its GPUs are restored when it is killed",
          "[agent_kill]") {
  repeat_on_both("client stopped, then killed", 4, [](Case& now) {
    ClockClient::Orders orders = now.site.orders({0, 1});
    orders.world = nullptr;  // it would keep the simulated driver's lock
    ClockClient& stopped = now.site.add_with(orders);
    now.site.await_posts(stopped);
    now.some_time();
    stopped.signal(SIGSTOP);
    // Whoever sends what cannot be understood, says nothing, or does not read the answer is no obstacle.
    std::vector<Descriptor> silent;
    for (int i = 0; i < 3; ++i) {
      silent.push_back(connect_to(now.site.socket()));
      if (i > 0) send_packet(silent.back().get(), std::array<std::byte, 8>{});
    }
    ClockClient& other = now.site.add({2, 3});
    now.site.await_posts(other, 20);
    now.some_time();
    const auto since = SteadyClock::now();
    stopped.kill();
    now.site.check_restored(stopped.gpus(), since);
    now.site.await_posts(other);
    CHECK(other.diary().ends == 0);
  });
}

TEST_CASE("agent_kill: a child that has the socket and the memory keeps no lease", "[agent_kill]") {
  using Child = ClockClient::Child;
  for (const auto& [child, name] :
       {std::pair(Child::kForkedBefore, "owner killed, child forked before the lease"),
        std::pair(Child::kForked, "owner killed, child forked"),
        std::pair(Child::kCloned, "owner killed, child cloned: no fork handler"),
        std::pair(Child::kStarted, "owner killed, child started with the socket")}) {
    repeat_on_both(name, 3, [child = child](Case& now) {
      ClockClient::Orders orders = now.site.orders({0, 2});
      orders.child = child;
      ClockClient& owner = now.site.add_with(orders);
      now.site.await_posts(owner);
      REQUIRE(wait_until([&] { return owner.diary().child != 0; }, kPatience));
      now.site.await_posts(owner);
      now.some_time();
      const auto since = SteadyClock::now();
      owner.kill();
      now.site.check_restored(owner.gpus(), since);
      now.some_time(20);  // for the child to try
      CHECK(::kill(owner.diary().child, 0) == 0);
      CHECK(now.site.node.changed() == 0);
      now.site.await_posts(now.site.add({0}));
    });
  }
}

LeaseHello hello_of(const std::string& gpu, std::uint64_t start_time) {
  LeaseHello hello{};
  hello.magic = kLeaseMagic;
  hello.gpu_count = 1;
  hello.start_time = start_time;
  gpu.copy(hello.gpus[0].data(), gpu.size());
  return hello;
}

/// The agent's answer, or nothing if it ends the connection.
std::optional<LeaseStatus> answer_on(int connection) {
  const auto packet = receive_packet(connection, sizeof(LeaseAnswer));
  if (!packet || packet->data.size() != sizeof(LeaseAnswer)) return std::nullopt;
  LeaseAnswer answer{};
  std::memcpy(&answer, packet->data.data(), sizeof answer);
  return answer.status;
}

/// A process with this very number, if this one may choose it; 0 in itself, -1 if it may not.
pid_t fork_as(pid_t number) {
  clone_args arguments{};
  arguments.exit_signal = SIGCHLD;
  arguments.set_tid = reinterpret_cast<std::uintptr_t>(&number);
  arguments.set_tid_size = 1;
  return static_cast<pid_t>(::syscall(SYS_clone3, &arguments, sizeof arguments));
}

TEST_CASE("agent_kill: a process number that is used again is nobody's lease", "[agent_kill]") {
  int reused = 0;
  repeat_on_both("process number used again", 2, [&](Case& now) {
    Site& site = now.site;
    site.await_agent();
    const std::string gpu = site.node.uuid(0);
    // The connection of a process that has ended, in the hands of one that has its number now.
    Shared<std::atomic<int>> connected;
    std::array<int, 2> ends{};
    REQUIRE(::socketpair(AF_UNIX, SOCK_SEQPACKET, 0, ends.data()) == 0);
    const pid_t owner = ::fork();
    if (owner == 0) {
      const Descriptor connection = connect_to(site.socket());
      send_packet(ends[1], std::array<std::byte, 1>{}, std::array{connection.get()});
      ::pause();
    }
    auto passed = receive_packet(ends[0], 1);
    REQUIRE((passed && passed->descriptors.size() == 1));
    const int connection = passed->descriptors[0].get();
    now.some_time(5);
    ::kill(owner, SIGKILL);
    ::waitpid(owner, nullptr, 0);
    const auto ask = [&] {
      const LeaseHello hello = hello_of(gpu, this_process().start_time);
      send_packet(connection, std::as_bytes(std::span(&hello, 1)));
    };
    const pid_t heir = fork_as(owner);
    if (heir == 0) {
      ask();
      ::pause();
    }
    if (heir > 0) {
      ++reused;
    } else {
      ask();
    }
    // It may be granted for the moment until the agent sees that its owner has ended; then that is the end.
    const auto status = answer_on(connection);
    if (heir < 0) CHECK(status != LeaseStatus::kGranted);
    if (heir > 0) {
      ::kill(heir, SIGKILL);
      ::waitpid(heir, nullptr, 0);
    }
    for (const int end : ends) ::close(end);
    site.await_posts(site.add({0}));

    // A journal and a lock that name a process which lives: another one.
    site.hold_back_clients(true);
    const auto since = SteadyClock::now();
    site.kill_agent();
    site.node.change(1);
    const std::string of_1 = site.runtime() + "/journal/" + site.node.uuid(1);
    spill(of_1 + ".yaml", "slackline: journal/2\ndevice: " + site.node.spec() +
                              "\ngpu: " + site.node.uuid(1) + "\nowner: " + std::to_string(::getpid()) +
                              "\ncomplete: yes\n");
    spill(of_1 + ".lock", std::to_string(::getpid()));
    site.start_agent_and_check(since);
  });
  if (reused == 0) WARN("no number could be used again: that needs privileges");
}

TEST_CASE("agent_kill: a journal entry that is cut short anywhere is restored by the next start",
          "[agent_kill]") {
  const int starts_by_default = 4 * repetitions();
  for (const Kind kind : {Kind::kSimulated, Kind::kNvml}) {
    repeat(
        "journal entry cut short", kind, 2,
        [&](Case& now) {
          Site& site = now.site;
          site.await_posts(site.add({1}));
          site.hold_back_clients(true);
          std::set<std::string> entries;
          REQUIRE(wait_until([&] { return !(entries = site.journal()).empty(); }, kPatience));
          site.kill_agent();
          const std::string path = site.runtime() + "/journal/" + site.node.uuid(1) + ".yaml";
          std::string whole = slurp(path);
          if (whole.empty()) return site.start_agent();  // restored in the last moment
          const int stride = is_full() ? 1 : static_cast<int>(whole.size()) / starts_by_default + 1;
          int starts = 0;
          for (int size = now.dice.number(0, stride - 1); size <= static_cast<int>(whole.size());
               size += stride) {
            CAPTURE(size);
            const auto since = SteadyClock::now();
            site.node.change(1);
            spill(path, whole.substr(0, static_cast<std::size_t>(size)));
            site.start_agent_and_check(since);
            site.agent().signal(SIGTERM);
            site.check_end(0);
            ++starts;
          }
          now.row.repetitions += starts - 1;
          site.start_agent();
        },
        1);
  }
}

/// A journal that cannot be written, on demand.
class FullDisk {
 public:
  enum class Way {
    kDisk,    // it is on a small disk of its own, which is full
    kFolder,  // its folder is read-only; not for root
    kLimit,   // the agent may not write more than a few bytes to any file
  };

  FullDisk(Way way, std::string folder) : way_(way), folder_(std::move(folder)) {
    if (way_ != Way::kDisk) return;
    std::filesystem::create_directory(folder_);
    REQUIRE(mount_at(folder_));
  }
  FullDisk(const FullDisk&) = delete;
  FullDisk& operator=(const FullDisk&) = delete;
  ~FullDisk() {
    if (way_ == Way::kDisk) ::umount2(folder_.c_str(), MNT_DETACH);
  }
  static bool is_possible(Way way) {
    if (way == Way::kFolder) return ::geteuid() != 0;
    if (way == Way::kLimit) return true;
    const ScratchFolder probe;
    return mount_at(probe.file("")) && ::umount2(probe.file("").c_str(), MNT_DETACH) == 0;
  }

  void fill(pid_t agent) const {
    if (way_ == Way::kLimit) return limit(agent, 16);
    if (way_ == Way::kFolder) return allow(std::filesystem::perms::owner_read);
    std::ofstream file(folder_ + "/filling", std::ios::binary);
    const std::string page(4096, 'x');
    while (file.write(page.data(), static_cast<std::streamsize>(page.size())) && file.flush()) {
    }
  }
  void clear(pid_t agent) const {
    if (way_ == Way::kLimit) return limit(agent, RLIM_INFINITY);
    if (way_ == Way::kFolder) return allow(std::filesystem::perms::owner_all);
    std::filesystem::remove(folder_ + "/filling");
  }

 private:
  static bool mount_at(const std::string& folder) {
    // Nobody else sees the mount, and it goes with this process.
    static const bool kIsApart = ::geteuid() == 0 && ::unshare(CLONE_NEWNS) == 0 &&
                                 ::mount("none", "/", nullptr, MS_REC | MS_PRIVATE, nullptr) == 0;
    return kIsApart && ::mount("tmpfs", folder.c_str(), "tmpfs", 0, "size=64k,mode=0700") == 0;
  }
  static void limit(pid_t agent, rlim_t bytes) {
    const rlimit limit{bytes, RLIM_INFINITY};
    REQUIRE(::prlimit(agent, RLIMIT_FSIZE, &limit, nullptr) == 0);
  }
  void allow(std::filesystem::perms what) const {
    std::filesystem::permissions(folder_, what | std::filesystem::perms::owner_exec);
  }

  Way way_;
  std::string folder_;
};

TEST_CASE("agent_kill: what cannot be written down is not done, and the client is told", "[agent_kill]") {
  using Way = FullDisk::Way;
  const auto body = [](Case& now, Way way) {
    Site& site = now.site;
    site.kill_agent();
    const FullDisk disk(way, site.runtime() + "/journal");
    site.start_agent();
    // This one was there before: its GPU is written down, and it may go on.
    ClockClient& early = site.add({2});
    site.await_posts(early, 60);
    REQUIRE(wait_until([&] { return site.journal().count(site.node.uuid(2)) > 0; }, kPatience));
    now.some_time();
    disk.fill(site.agent().pid());
    ClockClient& late = site.add({0, 1});
    if (way == Way::kLimit) {  // of the lease's memory, too: there is none
      CHECK(wait_until([&] { return late.diary().refusals > 0; }, kPatience));
    } else {
      CHECK(wait_until([&] { return late.diary().failures > 0; }, kPatience));
      CHECK(late.diary().ends > 0);
    }
    for (int i = 0; i < 20; ++i) {
      CHECK((!site.node.is_changed(0) && !site.node.is_changed(1)));
      now.some_time(2);
    }
    CHECK(site.journal().count(site.node.uuid(0)) == 0);
    site.await_posts(early, 20);
    CHECK(early.diary().ends == 0);
    if (site.node.is_nvml()) {
      CHECK(std::ranges::none_of(site.node.nvml().calls(), [](const FakeNvml::Call& call) {
        return call.function == "nvmlDeviceSetGpuLockedClocks" && call.gpu != "2";
      }));
    }
    if (way == Way::kDisk && now.repetition % 2 == 1) {
      site.hold_back_clients(true);
      const auto since = SteadyClock::now();
      site.kill_agent();
      site.check_journal_covers_changes();
      site.start_agent_and_check(since);
      site.hold_back_clients(false);
    }
    disk.clear(site.agent().pid());
    site.await_posts(late, 60);
    REQUIRE(wait_until([&] { return site.journal().count(site.node.uuid(0)) > 0; }, kPatience));
    site.await_posts(early);
    // All of it before the disk goes.
    CHECK(late.finish() == 0);
    CHECK(early.finish() == 0);
    site.check_restored({0, 1, 2}, SteadyClock::now());
    site.agent().signal(SIGTERM);
    site.check_end(0);
  };
  for (const auto& [way, name] :
       {std::pair(Way::kDisk, "journal's disk full"), std::pair(Way::kFolder, "journal read-only"),
        std::pair(Way::kLimit, "file size limit of the agent")}) {
    if (!FullDisk::is_possible(way)) continue;
    for (const Kind kind : {Kind::kSimulated, Kind::kNvml}) {
      // Under the limit the fake driver cannot write its log either.
      if (way == Way::kLimit && kind == Kind::kNvml) continue;
      repeat(name, kind, 3, [&, way = way](Case& now) { body(now, way); });
    }
  }
}

TEST_CASE("agent_kill: of clients that want the same GPU one has it at a time", "[agent_kill]") {
  repeat_on_both("clients race for a GPU", 3, [](Case& now) {
    std::vector<ClockClient*> racers;
    const auto add_racer = [&] {
      ClockClient::Orders orders =
          now.site.orders(now.dice.number(0, 1) == 0 ? std::vector{0} : std::vector{1, 0});
      orders.laps = 1 + now.dice.number(0, 1);
      orders.longest_lap = 6;
      return &now.site.add_with(orders);
    };
    for (int i = 0; i < 3; ++i) racers.push_back(add_racer());
    for (int kills = 0; kills < 4; ++kills) {
      const std::uint32_t grants = now.site.leases().grants;
      REQUIRE(wait_until([&] { return now.site.leases().grants >= grants + 3; }, kPatience));
      now.some_time(30);
      auto& killed = racers[static_cast<std::size_t>(now.dice.number(0, 2))];
      killed->kill();
      killed = add_racer();
    }
  });
}

/// `clients`, each with `gpus` of its own, every 5 ms a request.
void load(Case& now, int clients, SteadyClock::duration time) {
  std::vector<ClockClient*> all;
  for (int c = 0; c < clients; ++c) {
    ClockClient::Orders orders = now.site.orders({c});
    orders.period = std::chrono::milliseconds(5);
    all.push_back(&now.site.add_with(orders));
  }
  for (const ClockClient* client : all) now.site.await_posts(*client);
  const auto begin = SteadyClock::now();
  std::vector<std::uint32_t> posts;
  for (const ClockClient* client : all) posts.push_back(client->diary().posts);
  std::this_thread::sleep_for(time);
  double rate = 0;
  for (std::size_t c = 0; c < all.size(); ++c) {
    rate += (all[c]->diary().posts - posts[c]) / (ms_since(begin) / 1e3) / clients;
    CHECK(all[c]->diary().ends == 0);
  }
  const std::string seconds = std::to_string(std::chrono::duration_cast<std::chrono::seconds>(time).count());
  now.row.rate = now.repetition == 0 ? rate : std::min(now.row.rate, rate);
  now.row.remark =
      " (" + seconds + " s, at least " + std::to_string(std::lround(now.row.rate)) + " posted a second each)";
}

TEST_CASE("agent_kill: eight GPUs, each with hundreds of requests a second", "[agent_kill]") {
  const auto time = std::chrono::seconds(is_full() ? 60 : 2);
  for (const Kind kind : {Kind::kSimulated, Kind::kNvml}) {
    repeat(
        "8 GPUs, 200 requests a second each", kind, 8, [&](Case& now) { load(now, 8, time); },
        times_from("SLACKLINE_KILL_LOADS", 1));
  }
}

TEST_CASE("agent_kill: a slow driver never sees an old request after a newer one", "[agent_kill]") {
  repeat("driver takes 50 ms", Kind::kNvml, 3, [](Case& now) {
    now.site.node.nvml().script("LockedClocks * delay_ms=50\n");
    ClockClient& killed = now.site.add({0, 1});
    ClockClient& other = now.site.add({2});
    now.site.await_posts(killed, 30);
    now.site.await_posts(other, 30);
    now.some_time(200);
    const auto since = SteadyClock::now();
    killed.kill();
    now.site.check_restored(killed.gpus(), since);
    now.site.await_posts(now.site.add({1}));
    now.site.await_posts(other);
  });
}

TEST_CASE("agent_kill: a GPU that is lost ends its lease alone, and is restored when it is back",
          "[agent_kill]") {
  repeat("GPU lost and back", Kind::kNvml, 4, [](Case& now) {
    Site& site = now.site;
    ClockClient& owner = site.add({0, 1});
    ClockClient& other = site.add({3});
    site.await_posts(owner);
    site.await_posts(other);
    now.some_time();
    owner.diary().waits = true;
    const FakeNvml& nvml = site.node.nvml();
    nvml.script("* 1 error=15\n");
    site.await_end_of_lease(owner);
    CHECK(owner.diary().failures > 0);
    site.check_restored({0}, SteadyClock::now());
    site.await_posts(other, 20);
    CHECK(other.diary().ends == 0);
    if (now.repetition % 2 == 1) {  // an agent that starts without it leaves the entry to the next
      site.hold_back_clients(true);
      site.kill_agent();
      const bool was_changed = site.node.is_changed(1);
      site.start_agent();
      site.await_agent();
      CHECK(site.node.is_changed(1) == was_changed);
      CHECK(site.journal().count(site.node.uuid(1)) == 1);
      nvml.script("");
      const ChildResult restored = run_child({kBinary, "restore", "--runtime-dir", site.runtime()}, "/");
      INFO(restored.err);
      CHECK(restored.status == 0);
      CHECK_FALSE(site.node.is_changed(1));
      site.agent().signal(SIGTERM);
      site.check_end(0);
      site.start_agent();
      site.hold_back_clients(false);
    }
    now.some_time(30);
    const auto since = SteadyClock::now();
    nvml.script("");
    if (now.repetition % 2 == 0) site.check_restored({1}, since);
    owner.diary().waits = false;
    site.await_posts(owner);
    site.await_posts(other);
  });
}

TEST_CASE("agent_kill: an agent restores until the driver lets it", "[agent_kill]") {
  const auto refusals = [](Case& now) {
    now.site.node.nvml().script(
        "ResetGpuLockedClocks * error=999 times=" + std::to_string(now.dice.number(1, 5)) + "\n");
  };
  const auto run_some = [](Case& now) -> ClockClient& {
    ClockClient& client = now.site.add({0, 1});
    now.site.await_posts(client);
    now.some_time();
    return client;
  };
  repeat("restore refused, client killed", Kind::kNvml, 2, [&](Case& now) {
    ClockClient& client = run_some(now);
    const auto since = SteadyClock::now();
    refusals(now);
    client.kill();
    now.site.check_restored(client.gpus(), since);
  });
  repeat("restore refused, agent killed", Kind::kNvml, 2, [&](Case& now) {
    run_some(now);
    now.site.hold_back_clients(true);
    const auto since = SteadyClock::now();
    now.site.kill_agent();
    refusals(now);
    now.site.start_agent();
    now.site.await_agent();
    now.site.check_restored({0, 1}, since);
  });
  repeat("restore refused, SIGTERM", Kind::kNvml, 2, [&](Case& now) {
    run_some(now);
    now.site.hold_back_clients(true);
    const auto since = SteadyClock::now();
    refusals(now);
    now.site.agent().signal(SIGTERM);
    now.site.check_end(0);
    now.row.restored_ms = std::max(now.row.restored_ms, ms_since(since));
  });
}

}  // namespace
}  // namespace slackline
